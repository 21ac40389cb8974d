#include "replication/stream/publication.h"

#include <algorithm>
#include <iterator>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/stream/marker.h"

namespace replication::stream {
namespace {

constexpr std::size_t kNamesShown = 5;

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kNamesShown; ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShown) {
    text += " and " + std::to_string(names.size() - kNamesShown) + " more";
  }
  return text;
}

enum class Leaves { listed, left_out };
// Sorted, quoted and qualified.
std::vector<std::string> wanted_tables(const std::vector<catalog::Table>& tables, Leaves leaves) {
  std::vector<std::string> names{postgres::quote_qualified(kMarkerSchema, kMarkerTable)};
  for (const auto& table : tables) {
    if (leaves == Leaves::listed || !table.partition) {
      names.push_back(postgres::quote_qualified(table.schema, table.name));
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

// Those of these reasons that hold, as text; empty where none does.
std::string reasons(postgres::Connection& connection, const std::string& name, const std::string& reasons) {
  return connection
      .maybe_value("SELECT pg_catalog.array_to_string(ARRAY[" + reasons +
                       "], ', ') FROM pg_catalog.pg_publication p WHERE pubname = $1",
                   postgres::Params{name})
      .value_or("");
}

// By what it would send something else than every change, whatever its tables.
std::string own_restrictions(postgres::Connection& connection, const std::string& name) {
  const int major = connection.server_major();
  std::string sql =
      "CASE WHEN puballtables THEN 'it is FOR ALL TABLES' END,"
      "CASE WHEN NOT pubinsert THEN 'it leaves out inserts' END,"
      "CASE WHEN NOT pubupdate THEN 'it leaves out updates' END,"
      "CASE WHEN NOT pubdelete THEN 'it leaves out deletes' END,"
      "CASE WHEN NOT pubtruncate THEN 'it leaves out truncates' END";
  if (major >= 13) {
    sql += ",CASE WHEN pubviaroot THEN 'it publishes via the partition root' END";
  }
  if (major >= 18) {
    sql += ",CASE WHEN pubgencols <> 's' THEN 'it leaves out stored generated columns' END";
  }
  return reasons(connection, name, sql);
}

// By what it would send something else than these tables, whole.
std::string table_restrictions(postgres::Connection& connection, const std::string& name) {
  if (connection.server_major() < 15) {
    return {};
  }
  return reasons(
      connection, name,
      "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid)"
      " THEN 'it publishes whole schemas' END"
      ",CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid"
      " AND r.prqual IS NOT NULL) THEN 'it filters rows' END"
      ",CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid"
      " AND r.prattrs IS NOT NULL) THEN 'it lists columns' END");
}

std::string options(int server_major) {
  std::string text = "publish = 'insert, update, delete, truncate'";
  if (server_major >= 13) {
    text += ", publish_via_partition_root = false";
  }
  if (server_major >= 18) {
    // Else it refuses the application's UPDATE of a table with one of them and REPLICA IDENTITY FULL. What
    // comes with them isn't written where the column is generated too.
    text += ", publish_generated_columns = stored";
  }
  return text;
}

void check_publication(postgres::Connection& connection, const std::string& name,
                       const std::vector<catalog::Table>& tables) {
  const auto wanted = wanted_tables(tables, Leaves::listed);
  // A leaf that was made meanwhile is published with its root.
  const auto needed = connection.server_major() >= 13 ? wanted_tables(tables, Leaves::left_out) : wanted;
  const auto existing = published_tables(connection, name);
  std::vector<std::string> differences;
  for (auto restriction : {own_restrictions(connection, name), table_restrictions(connection, name)}) {
    if (!restriction.empty()) {
      differences.push_back(std::move(restriction));
    }
  }
  std::vector<std::string> missing;
  std::vector<std::string> surplus;
  std::set_difference(needed.begin(), needed.end(), existing.begin(), existing.end(),
                      std::back_inserter(missing));
  std::set_difference(existing.begin(), existing.end(), wanted.begin(), wanted.end(),
                      std::back_inserter(surplus));
  if (!missing.empty()) {
    differences.push_back("it lacks " + listed(missing));
  }
  if (!surplus.empty()) {
    differences.push_back("it has " + listed(surplus) + " too much");
  }
  if (differences.empty()) {
    return;
  }
  std::string text;
  for (const auto& difference : differences) {
    text += (text.empty() ? "" : "; ") + difference;
  }
  throw base::StateError(
      "publication " + postgres::quote_identifier(name) + " isn't the one of this migration: " + text,
      "a slot that was made under another publication can't be continued; cancel the migration, "
      "or choose another name if the publication isn't ours")
      .on(connection.server());
}

}  // namespace

void ensure_publication(postgres::Connection& connection, const std::string& name,
                        const std::vector<catalog::Table>& tables) {
  PGCUTOVER_CHECK(!connection.in_transaction(),
                  "the publication has to be committed before its slot is made");
  const auto exists = connection.maybe_value("SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1",
                                             postgres::Params{name});
  if (exists) {
    check_publication(connection, name, tables);
    return;
  }
  const auto wanted = wanted_tables(tables, Leaves::listed);
  // ONLY: children of plain inheritance are tables of their own, in the list or not.
  std::string sql = "CREATE PUBLICATION " + postgres::quote_identifier(name) + " FOR TABLE ";
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    sql += (i == 0 ? "ONLY " : ", ONLY ") + wanted[i];
  }
  sql += " WITH (" + options(connection.server_major()) + ")";
  connection.exec(sql);
}

std::vector<std::string> published_tables(postgres::Connection& connection, const std::string& name) {
  const auto result = connection.exec(
      "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p"
      " JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = "
      "r.prrelid"
      " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1",
      postgres::Params{name});
  std::vector<std::string> names;
  for (int row = 0; row < result.rows(); ++row) {
    names.push_back(postgres::quote_qualified(result.view(row, 0), result.view(row, 1)));
  }
  std::sort(names.begin(), names.end());
  return names;
}

void put_tables(postgres::Connection& connection, const std::string& name,
                const std::vector<catalog::Table>& tables) {
  const auto existing = published_tables(connection, name);
  std::string locks;
  std::string dropped;
  std::string added;
  for (const auto& table : tables) {
    const auto qualified = table.qualified();
    // A partitioned root is locked with its leaves, which are what is written.
    locks += (locks.empty() ? "" : ", ") +
             std::string(table.kind == catalog::TableKind::partitioned ? "" : "ONLY ") + qualified;
    added += (added.empty() ? "ONLY " : ", ONLY ") + qualified;
    if (std::binary_search(existing.begin(), existing.end(), qualified)) {
      dropped += (dropped.empty() ? "ONLY " : ", ONLY ") + qualified;
    }
  }
  if (tables.empty()) {
    return;
  }
  const auto alter = "ALTER PUBLICATION " + postgres::quote_identifier(name);
  connection.exec("LOCK TABLE " + locks + " IN SHARE ROW EXCLUSIVE MODE");
  if (!own_restrictions(connection, name).empty()) {
    connection.exec(alter + " SET (" + options(connection.server_major()) + ")");
  }
  if (!dropped.empty()) {
    connection.exec(alter + " DROP TABLE " + dropped);
  }
  connection.exec(alter + " ADD TABLE " + added);
}

void drop_publication(postgres::Connection& connection, const std::string& name) {
  connection.exec("DROP PUBLICATION IF EXISTS " + postgres::quote_identifier(name));
}

}  // namespace replication::stream
