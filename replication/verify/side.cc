#include "replication/verify/side.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "replication/postgres/quote.h"

namespace replication::verify {
namespace {

// Reading a large table takes as long as it takes; a stop request ends it. Waiting for somebody's ACCESS
// EXCLUSIVE lock doesn't: the table is reported instead.
constexpr auto kStatementTimeout = std::chrono::hours(24 * 365);
constexpr auto kLockTimeout = "10s";

postgres::SessionOptions session_options(const std::string& server) {
  postgres::SessionOptions options;
  options.server = server;
  options.application_name = "pgcutover verify";
  options.settings = {{"lock_timeout", kLockTimeout}};
  options.statement_timeout = kStatementTimeout;
  return options;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

std::vector<std::string> missing_from(const std::vector<std::string>& some,
                                      const std::vector<std::string>& all) {
  std::vector<std::string> missing;
  std::ranges::copy_if(some, std::back_inserter(missing),
                       [&](const std::string& name) { return std::ranges::find(all, name) == all.end(); });
  return missing;
}

}  // namespace

Side::Side(const postgres::ConnInfo& info, const std::string& server, const std::string& snapshot,
           const catalog::ColumnFilter& left_out, const base::Stop& stop)
    : connection_(postgres::Connection::open(info, session_options(server), stop)), left_out_(left_out) {
  connection_.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  if (snapshot.empty()) {
    connection_.one_value("SELECT 1");  // the snapshot is taken by the first query: now, for all tables
  } else {
    connection_.exec("SET TRANSACTION SNAPSHOT " + postgres::quote_literal(snapshot));
  }
}

std::optional<std::string> Side::begin_table(const catalog::Table& table, const TableSql& sql) {
  connection_.exec("SAVEPOINT pgcutover_table");
  const auto seen = connection_.exec(
      "SELECT c.oid, c.relkind, c.relfilenode FROM pg_catalog.pg_class c "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
      {table.schema, table.name});
  if (seen.rows() == 0) {
    return "missing on the " + connection_.server();
  }
  if (seen.view(0, 1) != "r") {
    return "not an ordinary table on the " + connection_.server();
  }
  // A rewrite (VACUUM FULL, ALTER TYPE, TRUNCATE) between the snapshot and the lock leaves a table that our
  // snapshot sees as empty or in part, without any error.
  connection_.exec(sql.lock());
  const auto now = connection_.maybe_value("SELECT pg_catalog.pg_relation_filenode($1::pg_catalog.oid)",
                                           {seen.view(0, 0)});
  if (now != seen.text(0, 2)) {
    return "rewritten on the " + connection_.server() + " after the snapshot was taken: compare again";
  }
  return column_mismatch(table, seen.oid(0, 0));
}

std::optional<std::string> Side::column_mismatch(const catalog::Table& table, base::Oid oid) {
  const auto rows = connection_.exec(
      "SELECT attname, attgenerated <> '' FROM pg_catalog.pg_attribute WHERE attrelid = $1::pg_catalog.oid "
      "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
      {std::to_string(oid)});
  std::vector<std::string> here, computed_here;
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.boolean(row, 1)) {
      computed_here.push_back(rows.text(row, 0));
    } else if (!left_out_.leaves_out(table.filter_name(), rows.view(row, 0))) {
      here.push_back(rows.text(row, 0));
    }
  }
  const auto expected = compared_columns(table);
  auto missing = missing_from(expected, here);
  std::ranges::move(missing_from(computed_columns(table), computed_here), std::back_inserter(missing));
  const auto added = missing_from(here, expected);
  if (missing.empty() && added.empty()) {
    return std::nullopt;
  }
  std::string text = "other columns on the " + connection_.server() + ":";
  text += missing.empty() ? "" : " without " + join(missing);
  text += missing.empty() || added.empty() ? "" : ",";
  text += added.empty() ? "" : " with " + join(added);
  return text;
}

void Side::end_table() {
  connection_.exec("ROLLBACK TO SAVEPOINT pgcutover_table; RELEASE SAVEPOINT pgcutover_table");
}

Digest Side::digest(const TableSql& sql) {
  const auto row = connection_.one_row(sql.digest());
  return {.rows = row.integer(0, 0), .sum = row.text(0, 1)};
}

postgres::Result Side::query(const std::string& sql) {
  return connection_.exec(sql);
}

}  // namespace replication::verify
