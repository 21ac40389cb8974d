#include "replication/apply/duplicates.h"

#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

struct Constraint {
  std::string schema, table, name;
  base::Oid index = 0;
  bool partitioned = false;
  std::string predicate;  // of an exclusion constraint
  bool nulls_distinct = true;
  std::vector<std::string> expressions;  // of the index
  std::vector<std::string> operators;    // of an exclusion constraint, one for each

  // A partitioned table's constraint covers its partitions.
  std::string from() const {
    return std::string(" FROM ") + (partitioned ? "" : "ONLY ") + postgres::quote_qualified(schema, table);
  }
};

std::vector<Constraint> deferrable_constraints(postgres::Connection& connection,
                                               const std::vector<catalog::Table>& tables) {
  std::vector<std::string> schemas, names;
  for (const auto& table : tables) {
    schemas.push_back(table.schema);
    names.push_back(table.name);
  }
  const std::string nulls = connection.server_major() >= 15 ? "NOT i.indnullsnotdistinct" : "true";
  const auto result = connection.exec(
      "SELECT n.nspname, c.relname, k.conname, k.conindid, c.relkind = 'p', " + nulls +
          ", pg_catalog.pg_get_expr(i.indpred, i.indrelid), "
          "pg_catalog.pg_get_indexdef(k.conindid, p.position::pg_catalog.int4, false), s.nspname, o.oprname "
          "FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid "
          "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
          "JOIN ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), "
          "pg_catalog.unnest($2::pg_catalog.text[])) "
          "AS w(s, t) ON w.s = n.nspname AND w.t = c.relname "
          "JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid "
          "CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts::pg_catalog.int4) AS p(position) "
          "LEFT JOIN pg_catalog.pg_operator o ON o.oid = k.conexclop[p.position] "
          "LEFT JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace "
          "WHERE k.condeferrable AND k.contype IN ('p', 'u', 'x') ORDER BY k.oid, p.position",
      postgres::Params{postgres::array_literal(schemas), postgres::array_literal(names)});
  std::vector<Constraint> list;
  for (int i = 0; i < result.rows(); ++i) {
    const auto index = result.oid(i, 3);
    if (list.empty() || list.back().index != index) {
      auto& constraint = list.emplace_back();
      constraint.schema = result.text(i, 0);
      constraint.table = result.text(i, 1);
      constraint.name = result.text(i, 2);
      constraint.index = index;
      constraint.partitioned = result.boolean(i, 4);
      constraint.nulls_distinct = result.boolean(i, 5);
      constraint.predicate = result.text_or(i, 6, "");
    }
    list.back().expressions.push_back(result.text(i, 7));
    if (!result.is_null(i, 9)) {
      list.back().operators.push_back("OPERATOR(" + postgres::quote_identifier(result.view(i, 8)) + "." +
                                      result.text(i, 9) + ")");
    }
  }
  return list;
}

std::string joined(const std::vector<std::string>& items, std::string_view separator) {
  std::string out;
  for (const auto& item : items) {
    out += (out.empty() ? "" : std::string(separator)) + item;
  }
  return out;
}

std::string equal_keys_sql(const Constraint& constraint) {
  const auto columns = joined(constraint.expressions, ", ");
  std::vector<std::string> present;
  for (const auto& column : constraint.expressions) {
    present.push_back(column + " IS NOT NULL");
  }
  return "SELECT ROW(" + columns + ")::pg_catalog.text, pg_catalog.count(*)" + constraint.from() +
         (constraint.nulls_distinct ? " WHERE " + joined(present, " AND ") : "") + " GROUP BY " + columns +
         " HAVING pg_catalog.count(*) > 1";
}

// Pairs of rows, found through the constraint's index.
std::string excluded_pairs_sql(const Constraint& constraint) {
  std::string rows = "(SELECT ctid AS row_id, tableoid AS part", conflict, key;
  for (std::size_t i = 0; i < constraint.expressions.size(); ++i) {
    const auto name = "k" + std::to_string(i + 1);
    rows += ", " + constraint.expressions[i] + " AS " + name;
    conflict += (i == 0 ? "a." : " AND a.") + name + " " + constraint.operators[i] + " b." + name;
    key += (i == 0 ? "a." : ", a.") + name;
  }
  rows += constraint.from() + (constraint.predicate.empty() ? "" : " WHERE " + constraint.predicate) + ")";
  return "SELECT ROW(" + key + ")::pg_catalog.text, 2 FROM " + rows + " AS a JOIN " + rows +
         " AS b ON (a.part, a.row_id) < (b.part, b.row_id) AND " + conflict;
}

}  // namespace

std::vector<Duplicate> find_duplicates(postgres::Connection& connection,
                                       const std::vector<catalog::Table>& tables, base::Deadline deadline,
                                       int shown_max) {
  std::vector<Duplicate> found;
  for (const auto& constraint : deferrable_constraints(connection, tables)) {
    const auto sql =
        (constraint.operators.empty() ? equal_keys_sql(constraint) : excluded_pairs_sql(constraint)) +
        " LIMIT " + std::to_string(shown_max);
    const auto rows = connection.exec(sql, deadline);
    for (int i = 0; i < rows.rows(); ++i) {
      found.push_back(
          {constraint.schema + "." + constraint.table, constraint.name, rows.text(i, 0), rows.integer(i, 1)});
    }
  }
  return found;
}

}  // namespace replication::apply
