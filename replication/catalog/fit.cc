#include "replication/catalog/fit.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"

namespace replication::catalog {
namespace {

using postgres::quote_identifier;
using Kind = Misfit::Kind;

// Looked into one by one, so that one statement doesn't lock thousands of tables.
constexpr std::size_t kTablesAtOnce = 100;

const Column* find_column(const Table& table, const std::string& name) {
  const auto found = std::ranges::find(table.columns, name, &Column::name);
  return found == table.columns.end() ? nullptr : &*found;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text.empty() ? "none" : text;
}

std::string oids_of(const std::vector<const Table*>& tables) {
  std::vector<std::string> oids;
  for (const auto* table : tables) {
    oids.push_back(std::to_string(table->oid));
  }
  return postgres::array_literal(oids);
}

class Judge {
 public:
  Judge(postgres::Connection& source, postgres::Connection& target) : source_(source), target_(target) {}

  std::vector<Misfit> judge(const Catalog& wanted, const Catalog& there) {
    for (const auto& table : wanted.tables) {
      const auto* twin = there.find(table.schema, table.name);
      if (twin == nullptr) {
        add(table, "is missing", "make it as it is on the source, or leave it out with --exclude");
        continue;
      }
      compare(table, *twin);
      pairs_.emplace_back(&table, twin);
      mine_.push_back(&table);
      theirs_.push_back(twin);
    }
    compare_definitions();
    compare_enums();
    compare_sequences();
    look_at_rights();
    for (const auto* table : tables_with_rows(target_, readable_)) {
      found_.push_back({Kind::holds_rows, table->display(), "holds rows already",
                        "TRUNCATE " + table->qualified() +
                            ";  or --reset-target, which does it for all of them, or --exclude it"});
    }
    if (there.large_objects > 0) {  // also where the source has none: `cancel` unlinks what it finds
      found_.push_back({Kind::holds_rows, "large objects",
                        std::to_string(there.large_objects) + " large objects are here already",
                        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata;  or --reset-target"});
    }
    std::ranges::stable_sort(found_, {}, &Misfit::object);
    return std::move(found_);
  }

 private:
  void add(const Table& table, std::string message, std::string remedy) {
    found_.push_back({Kind::differs, table.display(), std::move(message), std::move(remedy)});
  }

  void compare(const Table& table, const Table& twin) {
    const auto alter = "ALTER TABLE " + twin.qualified();
    if (table.kind != twin.kind || table.partition != twin.partition) {
      const auto kind = [](const Table& one) {
        return std::string(one.kind == TableKind::partitioned ? "partitioned" : "not partitioned") +
               (one.partition ? ", a partition" : "");
      };
      add(table, "is " + kind(twin) + "; on the source it is " + kind(table),
          "make it as it is on the source");
    }
    if (table.unlogged != twin.unlogged) {
      add(table, twin.unlogged ? "is UNLOGGED, on the source it isn't" : "is LOGGED, on the source UNLOGGED",
          alter + (twin.unlogged ? " SET LOGGED;" : " SET UNLOGGED;"));
    }
    for (const auto& column : table.columns) {
      compare_column(table, column, find_column(twin, column.name), alter);
    }
    for (const auto& column : twin.columns) {
      if (find_column(table, column.name) == nullptr) {
        add(table,
            "has a column " + column.name + " that the source doesn't have: no way back could carry it",
            alter + " DROP COLUMN " + quote_identifier(column.name) + ";  add it after `pgcutover finish`");
      }
    }
    if (table.key != twin.key) {
      add(table, "its key is " + listed(twin.key) + ", on the source " + listed(table.key),
          "give it the same primary key or REPLICA IDENTITY");
    } else if (table.keyless() && table.replica_identity == 'f' && twin.replica_identity != 'f') {
      add(table, "has no key, and not REPLICA IDENTITY FULL as on the source",
          alter + " REPLICA IDENTITY FULL;");
    }
  }

  void compare_column(const Table& table, const Column& column, const Column* twin,
                      const std::string& alter) {
    const auto name = quote_identifier(column.name);
    if (twin == nullptr) {
      add(table, "lacks column " + column.name + " " + column.type_name,
          alter + " ADD COLUMN " + name + " " + column.type_name + ";  with its DEFAULT");
      return;
    }
    if (column.type_name != twin->type_name) {
      add(table, "column " + column.name + " is " + twin->type_name + ", on the source " + column.type_name,
          alter + " ALTER COLUMN " + name + " TYPE " + column.type_name + ";");
    }
    if (column.generated != twin->generated) {
      add(table,
          "column " + column.name +
              (twin->generated ? " is generated, on the source it isn't"
                               : " isn't generated, on the source it is"),
          "make it as it is on the source");
    }
    if (column.not_null != twin->not_null) {
      add(table,
          "column " + column.name +
              (twin->not_null ? " is NOT NULL, on the source it may be NULL"
                              : " may be NULL, on the source it is NOT NULL"),
          alter + " ALTER COLUMN " + name + (twin->not_null ? " DROP NOT NULL;" : " SET NOT NULL;"));
    }
  }

  // By table, as text: what both servers say of their own objects in the same words.
  using Definitions = std::map<std::string, std::set<std::string>>;
  static Definitions definitions(postgres::Connection& connection, const std::vector<const Table*>& tables) {
    const auto rows = connection.exec(R"(
      SELECT n.nspname || '.' || c.relname, d.definition
        FROM pg_catalog.unnest($1::pg_catalog.oid[]) wanted(oid) JOIN pg_catalog.pg_class c ON c.oid = wanted.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       CROSS JOIN LATERAL (
         SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', '')
           FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'f')
         UNION ALL
         SELECT CASE WHEN i.indisexclusion THEN (SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k
                                                  WHERE k.conindid = i.indexrelid AND k.contype = 'x')
                ELSE 'UNIQUE' || pg_catalog.substring(pg_catalog.pg_get_indexdef(i.indexrelid), ' USING .*') END
           FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
         UNION ALL
         SELECT 'PARTITION ' || pg_catalog.pg_get_expr(c.relpartbound, c.oid) WHERE c.relispartition
         UNION ALL
         SELECT 'PARTITION BY ' || pg_catalog.pg_get_partkeydef(c.oid) WHERE c.relkind = 'p'
         UNION ALL
         SELECT 'INHERITS (' || i.inhparent::pg_catalog.regclass || ')' FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid
       ) d(definition)
       WHERE d.definition IS NOT NULL)",
                                      postgres::Params{oids_of(tables)});
    Definitions found;
    for (int row = 0; row < rows.rows(); ++row) {
      found[rows.text(row, 0)].insert(rows.text(row, 1));
    }
    return found;
  }

  void compare_definitions() {
    auto here = definitions(source_, mine_);
    auto there = definitions(target_, theirs_);
    for (const auto& [table, twin] : pairs_) {
      const auto& wanted = here[table->display()];
      const auto& found = there[table->display()];
      for (const auto& definition : found) {
        if (!wanted.contains(definition)) {
          add(*table, "has " + definition + ", which the source doesn't have: it could refuse its rows",
              "drop it until `pgcutover finish`, or make the same on the source");
        }
      }
      for (const auto& definition : wanted) {
        if ((definition.starts_with("PARTITION ") || definition.starts_with("INHERITS ")) &&
            !found.contains(definition)) {
          add(*table, "lacks " + definition + " of the source", "make it as it is on the source");
        }
      }
    }
  }

  static std::map<std::string, std::string> enums(postgres::Connection& connection) {
    const auto rows = connection.exec(R"(
      SELECT n.nspname || '.' || t.typname, string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
        FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace GROUP BY 1)");
    std::map<std::string, std::string> found;
    for (int row = 0; row < rows.rows(); ++row) {
      found.emplace(rows.text(row, 0), rows.text(row, 1));
    }
    return found;
  }

  // A type that is missing altogether shows in the columns.
  void compare_enums() {
    const auto there = enums(target_);
    for (const auto& [name, labels] : enums(source_)) {
      const auto twin = there.find(name);
      if (twin != there.end() && twin->second != labels) {
        found_.push_back({Kind::differs, name,
                          "type " + name + " has the labels " + twin->second + ", on the source " + labels,
                          "ALTER TYPE " + name + " ADD VALUE ...;  on the side that lacks some"});
      }
    }
  }

  void compare_sequences() {
    const auto rows = source_.exec(R"(
      SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind = 'S' AND EXISTS (
         SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
            AND d.refobjid = ANY ($1::pg_catalog.oid[])) ORDER BY 1, 2)",
                                   postgres::Params{oids_of(mine_)});
    const auto there = target_.exec(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S'");
    std::set<std::pair<std::string, std::string>> names;
    for (int row = 0; row < there.rows(); ++row) {
      names.emplace(there.text(row, 0), there.text(row, 1));
    }
    for (int row = 0; row < rows.rows(); ++row) {
      if (!names.contains({rows.text(row, 0), rows.text(row, 1)})) {
        found_.push_back(
            {Kind::differs, rows.text(row, 0) + "." + rows.text(row, 1),
             "the sequence is missing: nothing could be set beyond what the source has handed out",
             "make it, or ALTER SEQUENCE ... RENAME TO " + quote_identifier(rows.text(row, 1)) +
                 ";  where it has another name"});
      }
    }
  }

  void look_at_rights() {
    std::set<std::string> foreign;
    const auto rows = target_.exec(R"(
      SELECT n.nspname || '.' || c.relname, pg_catalog.pg_get_userbyid(c.relowner),
             pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.oid = ANY ($1::pg_catalog.oid[]) ORDER BY 1)",
                                   postgres::Params{oids_of(theirs_)});
    for (int row = 0; row < rows.rows(); ++row) {
      if (!rows.boolean(row, 2)) {
        found_.push_back({Kind::privilege, rows.text(row, 0),
                          "belongs to " + rows.text(row, 1) + ": only its owner may empty and publish it",
                          "GRANT " + quote_identifier(rows.text(row, 1)) + " TO " +
                              quote_identifier(target_.user()) + ";"});
      } else if (rows.boolean(row, 3)) {
        found_.push_back({Kind::privilege, rows.text(row, 0), "row security applies to our role here",
                          "ALTER ROLE " + quote_identifier(target_.user()) + " BYPASSRLS;"});
      }
      if (!rows.boolean(row, 2)) {
        foreign.insert(rows.text(row, 0));
      }
    }
    std::ranges::copy_if(theirs_, std::back_inserter(readable_),
                         [&](const auto* table) { return !foreign.contains(table->display()); });
  }

  postgres::Connection& source_;
  postgres::Connection& target_;
  std::vector<std::pair<const Table*, const Table*>> pairs_;
  std::vector<const Table*> mine_, theirs_, readable_;
  std::vector<Misfit> found_;
};

}  // namespace

std::vector<Misfit> misfits(postgres::Connection& source, postgres::Connection& target, const Catalog& wanted,
                            const Catalog& there) {
  return Judge(source, target).judge(wanted, there);
}

std::vector<std::string> missing_indexes(postgres::Connection& source, postgres::Connection& target,
                                         const Catalog& wanted) {
  std::vector<const Table*> tables;
  for (const auto& table : wanted.tables) {
    tables.push_back(&table);
  }
  const auto rows = source.exec(R"(
    SELECT n.nspname, c.relname, xn.nspname || '.' || x.relname
      FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_namespace xn ON xn.oid = x.relnamespace
     WHERE NOT i.indisunique AND NOT i.indisexclusion AND i.indisvalid
       AND (c.oid = ANY ($1::pg_catalog.oid[]) OR c.relkind = 'm') ORDER BY 3)",
                                postgres::Params{oids_of(tables)});
  const auto there = target.exec(
      "SELECT n.nspname, c.relname, c.relkind IN ('i', 'I') FROM pg_catalog.pg_class c "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm', 'i', "
      "'I')");
  std::set<std::pair<std::string, std::string>> relations;
  std::set<std::string> indexes;
  for (int row = 0; row < there.rows(); ++row) {
    if (there.boolean(row, 2)) {
      indexes.insert(there.text(row, 0) + "." + there.text(row, 1));
    } else {
      relations.emplace(there.text(row, 0), there.text(row, 1));
    }
  }
  std::vector<std::string> missing;
  for (int row = 0; row < rows.rows(); ++row) {
    if (relations.contains({rows.text(row, 0), rows.text(row, 1)}) && !indexes.contains(rows.text(row, 2))) {
      missing.push_back(rows.text(row, 2));
    }
  }
  return missing;
}

std::vector<const Table*> tables_with_rows(postgres::Connection& target,
                                           const std::vector<const Table*>& tables) {
  std::vector<const Table*> stored;
  std::ranges::copy_if(tables, std::back_inserter(stored),
                       [](const auto* table) { return table->stores_rows() && table->bytes > 0; });
  std::vector<const Table*> found;
  for (std::size_t first = 0; first < stored.size(); first += kTablesAtOnce) {
    const auto end = std::min(stored.size(), first + kTablesAtOnce);
    std::string sql;
    for (std::size_t i = first; i < end; ++i) {
      sql += (sql.empty() ? "SELECT " : ", ") + ("EXISTS (SELECT FROM ONLY " + stored[i]->qualified() + ")");
    }
    const auto row = target.one_row(sql);
    for (std::size_t i = first; i < end; ++i) {
      if (row.boolean(0, static_cast<int>(i - first))) {
        found.push_back(stored[i]);
      }
    }
  }
  return found;
}

}  // namespace replication::catalog
