#include "replication/apply/statements.h"

#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

using postgres::quote_identifier;
using postgres::quote_literal;

std::string only(const TargetTable& table) {
  return table.partitioned ? table.qualified : "ONLY " + table.qualified;
}

std::string rows_of(const TargetTable& table, std::string_view parameter, std::string_view alias) {
  return "pg_catalog.unnest(" + std::string(parameter) +
         "::" + (table.row_type_name.empty() ? table.qualified : table.row_type_name) + "[]) AS " +
         std::string(alias);
}

// What a set's statement reads its rows from, as u.
std::string set_of(const TargetTable& table, RowPart part, Given given) {
  if (given == Given::rows) {
    return rows_of(table, "$1", "u");
  }
  // The planner takes such a subquery apart. The parameters' types are declared: a cast to a type with a
  // length would cut what is too long for it.
  std::string values;
  int parameter = 0;
  for (const auto column : value_columns(table, part)) {
    values += (parameter == 0 ? "$" : ", $") + std::to_string(parameter + 1) + " AS " +
              quote_identifier(table.columns[column].name);
    ++parameter;
  }
  return "(SELECT " + values + ") AS u";
}

bool masked(const Mask& unchanged, std::size_t column) {
  return !unchanged.empty() && unchanged[column];
}

void append_separated(std::string& out, std::string_view separator, const std::string& item) {
  out += (out.empty() ? "" : std::string(separator)) + item;
}

// t.k = u.k AND ...; `left` is the table.
std::string same_key(const TargetTable& table, std::string_view left, std::string_view right) {
  std::string out;
  for (const auto& key : table.key) {
    const auto& column = table.columns[key.target];
    const std::string name = quote_identifier(column.name);
    // A domain over an enum isn't found to be one by the operator, unless it is told.
    const std::string base = column.domain ? "::" + column.sent_as_name : "";
    append_separated(
        out, " AND ",
        std::string(left) + "." + name + base + " " + key.equals + " " + std::string(right) + "." + name);
  }
  return out;
}

// The same row in every column the source has: by image, or by text. The casts keep the parser from comparing
// column by column. `right` is of the row type: its columns get the table's type where that differs.
enum class Same { image, text };
std::string same_row(const TargetTable& table, std::string_view left, std::string_view right, Same same) {
  std::string left_row, right_row;
  for (const auto& column : table.columns) {
    if (column.written()) {
      append_separated(left_row, ", ", std::string(left) + "." + quote_identifier(column.name));
      append_separated(right_row, ", ",
                       std::string(right) + "." + quote_identifier(column.name) +
                           (column.sent_as == 0 ? "" : "::" + column.type_name));
    }
  }
  if (left_row.empty()) {
    return "true";
  }
  const bool image = same == Same::image;
  const std::string type = image ? "::pg_catalog.record" : "::pg_catalog.text";
  return "ROW(" + left_row + ")" + type + " OPERATOR(pg_catalog." + (image ? "*=" : "=") + ") ROW(" +
         right_row + ")" + type;
}

// The condition that finds exactly one row for $1 in table alias t. Image equality works for types without an
// equality operator, tells apart what = doesn't, and takes NULLs as equal; but a value that was computed can
// have another image than the same value read from the stream (an array that once had a NULL, a NaN with a
// sign): where no image is the same, a row with the same text is the one.
std::string one_row(const TargetTable& table) {
  if (table.matching == Matching::key) {
    return same_key(table, "t", "o");
  }
  const auto search = [&](Same same) {
    std::string found =
        "(SELECT x.ctid FROM " + only(table) + " AS x, " + rows_of(table, "$1", "o") + " WHERE ";
    if (table.matching == Matching::first_of_key) {
      found += same_key(table, "x", "o");
    }
    if (table.old_rows_are_whole()) {
      found += (table.matching == Matching::first_of_key ? " AND " : "") + same_row(table, "x", "o", same);
    }
    return found + " LIMIT 1)";
  };
  if (!table.old_rows_are_whole()) {
    return "t.ctid = " + search(Same::image);
  }
  return "t.ctid = COALESCE(" + search(Same::image) + ", " + search(Same::text) + ")";
}

// Only with Matching::key is the old row joined; otherwise it is used inside the subquery.
std::string joined_old(const TargetTable& table) {
  return table.matching == Matching::key ? rows_of(table, "$1", "o") : "";
}

// The columns of INSERT; `value` gives the expression for each. `own`: also those that only the target has.
enum class Own { left_to_default, given };
template <typename Value>
std::string insert_from(const TargetTable& table, const std::string& source, Value value,
                        Own own = Own::left_to_default) {
  std::string names, values;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    if (table.columns[i].written() || (own == Own::given && table.columns[i].own())) {
      append_separated(names, ", ", quote_identifier(table.columns[i].name));
      append_separated(values, ", ", value(i));
    }
  }
  const std::string into = "INSERT INTO " + table.qualified;
  if (names.empty()) {
    return into + " SELECT FROM " + source;
  }
  return into + " (" + names + ") OVERRIDING SYSTEM VALUE SELECT " + values + " FROM " + source;
}

}  // namespace

std::vector<std::size_t> value_columns(const TargetTable& table, RowPart part) {
  std::vector<std::size_t> columns;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    if (table.columns[i].written() && (part == RowPart::all || table.is_key(i))) {
      columns.push_back(i);
    }
  }
  return columns;
}

std::string insert_sql(const TargetTable& table, Given given) {
  return insert_from(table, set_of(table, RowPart::all, given),
                     [&](std::size_t i) { return "u." + quote_identifier(table.columns[i].name); });
}

std::string delete_sql(const TargetTable& table, Given given) {
  return "DELETE FROM " + only(table) + " AS t USING " + set_of(table, RowPart::key, given) + " WHERE " +
         same_key(table, "t", "u");
}

std::string update_sql(const TargetTable& table, const Mask& unchanged, Given given) {
  const std::string rows = set_of(table, RowPart::all, given);
  std::string set, guard;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const auto& column = table.columns[i];
    if (!column.written() || table.is_key(i) || masked(unchanged, i)) {
      continue;
    }
    const std::string name = quote_identifier(column.name);
    if (column.identity == 'a') {
      guard += " AND t." + name + " IS NOT DISTINCT FROM u." + name;
    } else {
      append_separated(set, ", ", name + " = u." + name);
    }
  }
  if (set.empty()) {  // nothing to set: only count whether the rows are there
    return "SELECT 1 FROM " + only(table) + " AS t, " + rows + " WHERE " + same_key(table, "t", "u") + guard;
  }
  return "UPDATE " + only(table) + " AS t SET " + set + " FROM " + rows + " WHERE " +
         same_key(table, "t", "u") + guard;
}

std::string update_one_sql(const TargetTable& table, const Mask& unchanged) {
  std::string set;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    if (table.columns[i].written() && !masked(unchanged, i)) {
      const std::string name = quote_identifier(table.columns[i].name);
      append_separated(set, ", ", name + " = n." + name);
    }
  }
  const std::string old_rows = joined_old(table);
  const std::string from = rows_of(table, "$2", "n") + (old_rows.empty() ? "" : ", " + old_rows);
  if (set.empty()) {
    return "SELECT 1 FROM " + only(table) + " AS t, " + from + " WHERE " + one_row(table);
  }
  return "UPDATE " + only(table) + " AS t SET " + set + " FROM " + from + " WHERE " + one_row(table);
}

std::string replace_one_sql(const TargetTable& table, const Mask& unchanged) {
  const std::string old_rows = joined_old(table);
  const std::string removed = "WITH removed AS (DELETE FROM " + only(table) + " AS t" +
                              (old_rows.empty() ? "" : " USING " + old_rows) + " WHERE " + one_row(table) +
                              " RETURNING t.*) ";
  return removed + insert_from(
                       table, "removed AS r, " + rows_of(table, "$2", "n"),
                       [&](std::size_t i) {
                         const auto& column = table.columns[i];
                         return (column.own() || masked(unchanged, i) ? "r." : "n.") +
                                quote_identifier(column.name);
                       },
                       Own::given);
}

std::string delete_one_sql(const TargetTable& table) {
  const std::string old_rows = joined_old(table);
  return "DELETE FROM " + only(table) + " AS t" + (old_rows.empty() ? "" : " USING " + old_rows) + " WHERE " +
         one_row(table);
}

std::string guarded_sql(const std::string& sql, std::string_view rows) {
  // A text that is no number, cast to one: plain SQL has no other way to fail with a message.
  const std::string expected = std::string(rows) + "::pg_catalog.int8";
  return "WITH done AS (" + sql + (sql.starts_with("SELECT") ? "" : " RETURNING 1") +
         ") SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.=) " + expected +
         " THEN 0 ELSE pg_catalog.concat('pgcutover: touched ', pg_catalog.count(*), ' rows instead of ', " +
         expected + ")::pg_catalog.int4 END FROM done";
}

std::string truncate_sql(std::span<const TargetTable* const> tables, std::span<const std::string> whole,
                         bool restart_identity) {
  std::string names;
  for (const auto* table : tables) {
    append_separated(names, ", ", only(*table));
  }
  for (const auto& name : whole) {
    append_separated(names, ", ", name);
  }
  return "TRUNCATE " + names + (restart_identity ? " RESTART IDENTITY" : "");
}

std::string delete_all_sql(const TargetTable& table) {
  return "DELETE FROM " + only(table);
}

std::string conflict_sql(const TargetTable& table) {
  const auto image = [&](std::string_view parameter) {  // r.*, since a column may be named r
    return "(SELECT pg_catalog.row_to_json(r.*)::pg_catalog.text FROM " + rows_of(table, parameter, "r") +
           " LIMIT 1)";
  };
  return "INSERT INTO pgcutover.conflict (direction, schema_name, table_name, kind, key, lsn, xid, old_row, "
         "new_row) "
         "SELECT $3::pg_catalog.text, " +
         quote_literal(table.schema) + ", " + quote_literal(table.name) +
         ", $4::pg_catalog.text, $5::pg_catalog.text, $6::pg_catalog.pg_lsn, $7::pg_catalog.int8, " +
         image("$1") + ", " + image("$2");
}

}  // namespace replication::apply
