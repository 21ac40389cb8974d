#include "replication/snapshot/restore.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/as_applications.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/place.h"
#include "replication/snapshot/workers.h"

namespace replication::snapshot {
namespace {

using base::Error;
using postgres::quote_literal;

// Enough to save round trips, few enough for the server's lock table (64 locks a session by default, and room
// for those of others; a table needs up to four).
constexpr std::size_t kStatementsPerTransaction = 50;

// `check` blocks where one is missing, unless that was accepted: then the default one takes its place.
void replace_missing_tablespaces(postgres::Connection& target, std::vector<RestoreItem>& items) {
  std::set<std::string> there;
  const auto rows = target.exec("SELECT spcname FROM pg_catalog.pg_tablespace");
  for (int row = 0; row < rows.rows(); ++row) {
    there.insert(rows.text(row, 0));
  }
  for (auto& one : items) {
    if (!one.item.tablespace.empty() && !there.contains(one.item.tablespace)) {
      constexpr std::string_view kSet = "SET default_tablespace = ";
      auto& settings = one.item.settings;
      const auto name = settings.find(kSet) + kSet.size();
      settings.replace(name, settings.find(";\n", name) - name, "''");
      one.item.tablespace.clear();
    }
  }
}

// One text is one transaction: its statements and their notes.
std::string joined(std::span<const RestoreItem> items) {
  std::string text;
  const std::string* settings = nullptr;
  for (const auto& one : items) {
    if (settings == nullptr || *settings != one.item.settings) {
      text += one.item.settings;
      settings = &one.item.settings;
    }
    text += one.item.sql + '\n' + restored_note_sql(one.key) + '\n';
  }
  return text;
}

[[noreturn]] void rethrow(Error& error, const RestoreItem& item) {
  error.with_hint(restore_remedy(error));
  rethrow_at(error, "restoring " + headline(item.item.sql));
}

bool missing_constraint(const Error& error, const RestoreItem& item) {
  return error.sqlstate() == postgres::sqlstate::kUndefinedObject && comments_on_constraint(item.item.sql);
}

// An extension that was there, made by a provider or a superuser: its comment isn't ours to set, nor worth a
// stopped migration.
bool others_extension(const Error& error, const RestoreItem& item) {
  return error.sqlstate() == postgres::sqlstate::kInsufficientPrivilege &&
         item.item.sql.starts_with("COMMENT ON EXTENSION ");
}

void defer(postgres::Connection& target, const RestoreItem& item) {
  target.exec("INSERT INTO pgcutover.deferred_statement (sql) VALUES (" + quote_literal(item.item.sql) +
              ");" + restored_note_sql(item.key));
}

void run_one(postgres::Connection& target, const RestoreItem& item) {
  try {
    target.exec(joined({&item, 1}), base::Deadline::never());
  } catch (Error& error) {
    if (error.connection_usable() && others_extension(error, item)) {
      base::log::warn("not restored on the target: " + headline(item.item.sql) + ": " + error.message());
      target.exec(restored_note_sql(item.key));
      return;
    }
    if (!error.connection_usable() || !missing_constraint(error, item)) {
      rethrow(error, item);
    }
    defer(target, item);
  }
}

}  // namespace

std::string restored_note_sql(const std::string& key, const std::string& condition) {
  const auto value = condition.empty() ? quote_literal(key)
                                       : "CASE WHEN " + condition + " THEN " + quote_literal(key) + " END";
  return "INSERT INTO pgcutover.restored (statement) VALUES (" + value + ");";
}

std::string restore_remedy(const Error& error) {
  const auto& message = error.message();
  const auto names = [&](const char* word) { return message.find(word) != std::string::npos; };
  if (error.sqlstate() == postgres::sqlstate::kInsufficientPrivilege) {
    return "the target's role must own the database and be a member of the roles that own objects: GRANT "
           "role TO ours";
  }
  if (error.sqlstate() == "58P01" || names("extension")) {
    return "install the extension's package on the target's server, then run the same command again";
  }
  if (names("tablespace")) {
    return "create the tablespace on the target, then run the same command again";
  }
  // Duplicate schema, table, function, other object.
  constexpr std::array kDuplicates{"42P06", "42P07", "42723", "42710"};
  if (std::find(kDuplicates.begin(), kDuplicates.end(), error.sqlstate()) != kDuplicates.end()) {
    return "the target must not hold objects of that name: drop it, then run the same command again";
  }
  return error.hint();
}

bool needs_something_else(const Error& error) {
  return error.sqlstate() == postgres::sqlstate::kUndefinedTable ||
         error.sqlstate() == postgres::sqlstate::kUndefinedObject || error.sqlstate() == "42703" ||
         error.sqlstate() == "42809" ||  // wrong object type: a matview that is still a view
         error.sqlstate() == postgres::sqlstate::kDeadlockDetected;
}

std::string restore_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.restored (
  statement text PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS pgcutover.deferred_statement (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sql text NOT NULL
);
)";
}

postgres::Connection open_restore_session(const postgres::ConnInfo& target,
                                          const postgres::FencingToken& token, const base::Stop& stop) {
  postgres::SessionOptions options;
  options.server = "target";
  options.application_name = "pgcutover restore";
  auto connection = postgres::Connection::open(target, options, stop);
  token.assert_current(connection);
  connection.exec(
      "SET synchronous_commit = off");  // the step's own record makes everything before it durable
  // Sorting is what an index build does; never less than the server's own setting.
  connection.exec(
      "SELECT set_config('maintenance_work_mem', greatest(setting::bigint, 262144)::text || 'kB', false) "
      "FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'");
  postgres::compute_as_applications(connection, postgres::Computes::rows);  // what indexes hold
  return connection;
}

std::vector<RestoreItem> outstanding(postgres::Connection& target, const std::vector<ScriptItem>& items) {
  if (items.empty()) {
    return {};
  }
  std::vector<std::string> texts;
  for (const auto& item : items) {
    texts.push_back(item.sql);
  }
  // Hashed by the server: the text goes there anyway, and sha256() exists from 11 on.
  const auto hashes = target.exec(
      "SELECT encode(sha256(convert_to(t, getdatabaseencoding())), 'hex') FROM unnest($1::text[]) WITH "
      "ORDINALITY u(t, n) "
      "ORDER BY n",
      postgres::Params{postgres::array_literal(texts)});
  std::set<std::string> done;
  const auto rows = target.exec("SELECT statement FROM pgcutover.restored");
  for (int row = 0; row < rows.rows(); ++row) {
    done.insert(rows.text(row, 0));
  }
  std::vector<RestoreItem> left;
  std::map<std::string, int> seen;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto hash = hashes.text(static_cast<int>(i), 0);
    auto key = hash + "/" + std::to_string(++seen[hash]);
    if (!done.contains(key)) {
      left.push_back({items[i], std::move(key)});
    }
  }
  replace_missing_tablespaces(target, left);
  return left;
}

void require_roles(postgres::Connection& target, std::span<const RestoreItem> items) {
  std::set<std::string> needed;
  for (const auto& item : items) {
    collect_roles(item.item.sql, needed);
  }
  const auto rows = target.exec("SELECT rolname FROM pg_catalog.pg_roles");
  for (int row = 0; row < rows.rows(); ++row) {
    needed.erase(rows.text(row, 0));
  }
  if (needed.empty()) {
    return;
  }
  std::string names;
  std::string statements;
  for (const auto& role : needed) {
    names += (names.empty() ? "" : ", ") + postgres::quote_identifier(role);
    statements += (statements.empty() ? "" : " ") + ("CREATE ROLE " + postgres::quote_identifier(role) + ";");
  }
  throw Error("the target lacks roles that own objects or have rights on them: " + names,
              "copy them with their passwords (pg_dumpall --roles-only), or at least: " + statements)
      .on("target");
}

void run_in_order(postgres::Connection& target, std::span<const RestoreItem> items) {
  while (!items.empty()) {
    const auto batch = items.first(std::min(items.size(), kStatementsPerTransaction));
    try {
      target.exec(joined(batch), base::Deadline::never());
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      if (!error.connection_usable()) {
        throw;
      }
      // Nothing of it was done. One by one, to know which statement it is.
      for (const auto& item : batch) {
        run_one(target, item);
      }
    }
    items = items.subspan(batch.size());
  }
}

std::vector<RestoreItem> build_indexes(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                                       std::span<const RestoreItem> items, int jobs, const base::Stop& stop) {
  std::mutex mutex;
  std::set<std::size_t> later;
  run_workers(jobs, items.size(), stop, [&](WorkQueue& queue, const base::Stop& cancel) {
    auto connection = open_restore_session(target, token, cancel);
    while (const auto at = queue.next()) {
      const auto& item = items[*at];
      try {
        connection.exec(joined({&item, 1}), base::Deadline::never());
      } catch (Error& error) {
        if (!error.connection_usable() || !needs_something_else(error)) {
          rethrow(error, item);
        }
        base::log::debug("put off: " + headline(item.item.sql) + ": " + error.message());
        const std::lock_guard lock(mutex);
        later.insert(*at);
      }
    }
  });
  std::vector<RestoreItem> left;
  for (const auto at : later) {
    left.push_back(items[at]);
  }
  return left;
}

void run_deferred(postgres::Connection& target) {
  if (!target.maybe_value("SELECT to_regclass('pgcutover.deferred_statement')::text")) {
    return;
  }
  const auto rows = target.exec("SELECT id, sql FROM pgcutover.deferred_statement ORDER BY id");
  for (int row = 0; row < rows.rows(); ++row) {
    const auto sql = rows.text(row, 1);
    try {
      target.exec(sql + "\nDELETE FROM pgcutover.deferred_statement WHERE id = " + rows.text(row, 0) + ";");
    } catch (const Error& error) {
      // The constraint it speaks of was left out (a filtered table's): a comment isn't worth a stopped
      // migration.
      if (!error.connection_usable() || error.sqlstate() != postgres::sqlstate::kUndefinedObject) {
        throw;
      }
      base::log::warn("not restored on the target: " + headline(sql) + ": " + error.message());
    }
  }
}

}  // namespace replication::snapshot
