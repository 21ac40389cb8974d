#include "replication/apply/quiet.h"

#include "replication/catalog/triggers.h"
#include "replication/postgres/params.h"
#include "replication/postgres/patient.h"
#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

// One row for each trigger (kind t) and rule (kind r) of any table: relation oid, schema, table, name, mode.
std::string firing() {
  return std::string(
             "(SELECT 't' AS kind, c.oid, n.nspname, c.relname, t.tgname AS name, "
             "t.tgenabled::pg_catalog.text "
             "AS mode "
             "FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid "
             "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE ") +
         catalog::kUserTrigger +
         " UNION ALL SELECT 'r', c.oid, n.nspname, c.relname, r.rulename, r.ev_enabled::pg_catalog.text "
         "FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN "
         "('r', 'p') "
         "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS f";
}

constexpr const char* kStore =
    "CREATE SCHEMA IF NOT EXISTS pgcutover;"
    "CREATE TABLE IF NOT EXISTS pgcutover.quieted (kind pg_catalog.text, schema_name pg_catalog.text, "
    "table_name pg_catalog.text, name pg_catalog.text, mode pg_catalog.text NOT NULL, "
    "at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(), "
    "PRIMARY KEY (kind, schema_name, table_name, name))";

std::string noun(std::string_view kind) {
  return kind == "t" ? "trigger" : "rule";
}

// The mode that it sleeps in.
std::string asleep(std::string_view mode) {
  return mode == "A" ? "O" : "D";
}

std::string in_words(std::string_view mode) {
  return mode == "A" ? "ENABLE ALWAYS" : mode == "R" ? "ENABLE REPLICA" : mode == "O" ? "ENABLE" : "DISABLE";
}

struct Item {
  std::string kind, schema, table, name, mode;

  std::string display() const { return noun(kind) + " " + name + " of " + schema + "." + table; }
  // ONLY: partitions have triggers of their own, each with its mode.
  std::string alter_sql(std::string_view to) const {
    return "ALTER TABLE ONLY " + postgres::quote_qualified(schema, table) + " " + in_words(to) +
           (kind == "t" ? " TRIGGER " : " RULE ") + postgres::quote_identifier(name);
  }
};

std::vector<Item> items(const postgres::Result& result) {
  std::vector<Item> list;
  for (int i = 0; i < result.rows(); ++i) {
    list.push_back(
        {result.text(i, 0), result.text(i, 1), result.text(i, 2), result.text(i, 3), result.text(i, 4)});
  }
  return list;
}

}  // namespace

std::vector<std::string> firing_when_applied(postgres::Connection& connection, base::Oid table) {
  postgres::Params params;
  params.integer(table);
  const auto result =
      connection.exec("SELECT kind, name FROM " + firing() +
                          " WHERE oid = $1::pg_catalog.oid AND mode IN ('A', 'R') ORDER BY 1, 2",
                      params);
  std::vector<std::string> list;
  for (int i = 0; i < result.rows(); ++i) {
    list.push_back(noun(result.view(i, 0)) + " " + result.text(i, 1));
  }
  return list;
}

std::vector<std::string> quiet_tables(postgres::Connection& connection,
                                      const std::vector<catalog::Table>& tables,
                                      const postgres::FencingToken& token, base::Deadline budget) {
  std::vector<std::string> schemas, names;
  for (const auto& table : tables) {
    schemas.push_back(table.schema);
    names.push_back(table.name);
  }
  std::vector<std::string> quieted;
  postgres::transact_patiently(connection, budget, [&] {
    quieted.clear();
    connection.exec(kStore);
    const auto found = items(connection.exec(
        std::string(
            "WITH RECURSIVE family AS (SELECT c.oid FROM pg_catalog.pg_class c "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "JOIN ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), "
            "pg_catalog.unnest($2::pg_catalog.text[])) "
            "AS w(s, t) ON w.s = n.nspname AND w.t = c.relname "
            "UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family ON i.inhparent = family.oid) "
            "SELECT kind, nspname, relname, name, mode FROM ") +
            firing() + " WHERE mode IN ('A', 'R') AND oid IN (SELECT oid FROM family) ORDER BY 1, 2, 3, 4",
        postgres::Params{postgres::array_literal(schemas), postgres::array_literal(names)}));
    for (const auto& item : found) {
      // Somebody may have given it this mode since it was put to sleep: that is the one to go back to then.
      connection.exec(
          "INSERT INTO pgcutover.quieted (kind, schema_name, table_name, name, mode) VALUES ($1, $2, $3, $4, "
          "$5) "
          "ON CONFLICT (kind, schema_name, table_name, name) DO UPDATE SET mode = excluded.mode",
          postgres::Params{item.kind, item.schema, item.table, item.name, item.mode});
      connection.exec(item.alter_sql(asleep(item.mode)));
      quieted.push_back(item.display());
    }
    token.assert_current(connection);
  });
  return quieted;
}

std::vector<std::string> wake_tables(postgres::Connection& connection, const postgres::FencingToken& token,
                                     base::Deadline budget) {
  std::vector<std::string> left;
  if (!connection.maybe_value("SELECT pg_catalog.to_regclass('pgcutover.quieted')::pg_catalog.text")) {
    return left;
  }
  postgres::transact_patiently(connection, budget, [&] {
    left.clear();
    const auto stored =
        items(connection.exec("SELECT kind, schema_name, table_name, name, mode FROM pgcutover.quieted ORDER "
                              "BY 1, 2, 3, 4 FOR UPDATE"));
    for (const auto& item : stored) {
      const auto mode = connection.maybe_value(
          "SELECT mode FROM " + firing() + " WHERE kind = $1 AND nspname = $2 AND relname = $3 AND name = $4",
          postgres::Params{item.kind, item.schema, item.table, item.name});
      if (!mode) {
        left.push_back(item.display() + " is gone, it was " + in_words(item.mode));
      } else if (*mode == asleep(item.mode)) {
        connection.exec(item.alter_sql(item.mode));
      } else if (*mode != item.mode) {
        left.push_back(item.display() + " is now " + in_words(*mode) + ", it was " + in_words(item.mode));
      }
    }
    connection.exec("DELETE FROM pgcutover.quieted");
    token.assert_current(connection);
  });
  return left;
}

}  // namespace replication::apply
