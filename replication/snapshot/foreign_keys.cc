// What comes after the rows: foreign keys, materialized views' data, statistics.

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/as_applications.h"
#include "replication/postgres/params.h"
#include "replication/postgres/patient.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/snapshot/place.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/schema.h"
#include "replication/snapshot/workers.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using catalog::ForeignKey;

constexpr base::milliseconds kLockBudget{300'000};

enum class KeyState { missing, not_valid, valid };

KeyState key_state(postgres::Connection& target, const ForeignKey& key) {
  const auto validated = target.maybe_value(
      "SELECT convalidated FROM pg_catalog.pg_constraint "
      "WHERE conrelid = $1::pg_catalog.regclass AND conname = $2 AND contype = 'f'",
      postgres::Params{key.table, key.name});
  return !validated ? KeyState::missing : *validated == "t" ? KeyState::valid : KeyState::not_valid;
}

// NOT ENFORCED (18) is never checked: there is nothing to validate, and NOT VALID can't be said beside it.
bool enforced(const ForeignKey& key) {
  return !key.definition.ends_with(" NOT ENFORCED");
}

// False where rows violate it.
bool attempt(postgres::Connection& target, const std::string& sql, const ForeignKey& key) {
  try {
    postgres::exec_patiently(target, sql, Deadline::in(kLockBudget));  // apply is at work on the same tables
    return true;
  } catch (Error& error) {
    if (error.connection_usable() && error.sqlstate() == postgres::sqlstate::kForeignKeyViolation) {
      base::log::warn("rows on the target violate " + key.table + "." + key.name + ": " + error.message());
      return false;
    }
    rethrow_at(error, "foreign key " + key.name + " of " + key.table);
  }
}

// Adds what is missing. Nothing where rows violate it already.
std::optional<KeyState> add_foreign_key(postgres::Connection& target, const ForeignKey& key) {
  const auto state = key_state(target, key);
  if (state != KeyState::missing) {
    return state;
  }
  // Before 18 a partitioned table can't have a NOT VALID one: it is checked while it is made.
  const bool at_once = !enforced(key) || (key.table_partitioned && target.server_major() < 18);
  const auto add = "ALTER TABLE " + key.table + " ADD CONSTRAINT " + postgres::quote_identifier(key.name) +
                   " " + key.definition + (at_once ? "" : " NOT VALID");
  if (!attempt(target, add, key)) {
    return std::nullopt;
  }
  return at_once ? KeyState::valid : KeyState::not_valid;
}

bool validate_foreign_key(postgres::Connection& target, const ForeignKey& key) {
  return attempt(target,
                 "ALTER TABLE " + key.table + " VALIDATE CONSTRAINT " + postgres::quote_identifier(key.name),
                 key);
}

std::string display(const ForeignKey& key) {
  return key.table + "." + postgres::quote_identifier(key.name);
}

// Adds all; returns those that are still to be validated.
std::vector<const ForeignKey*> add_foreign_keys(postgres::Connection& target,
                                                const std::vector<ForeignKey>& keys,
                                                std::vector<std::string>& violated) {
  std::vector<const ForeignKey*> open;
  for (const auto& key : keys) {
    target.stop().check();
    const auto state = add_foreign_key(target, key);
    if (!state) {
      violated.push_back(display(key));
    } else if (*state == KeyState::not_valid && key.validated && enforced(key)) {
      // One that the source itself never validated says nothing about its rows: it stays as it is there.
      open.push_back(&key);
    }
  }
  return open;
}

// What is left to do for one table; its parts would only wait for each other's locks.
struct Chores {
  std::string table;  // quoted, qualified
  std::int64_t bytes = 0;
  std::string statistics = {};  // VACUUM or ANALYZE
  std::string mark = {};
  std::vector<const ForeignKey*> keys = {};
};

// Below this a table isn't worth a pass of its own: autovacuum will come by.
constexpr std::int64_t kVacuumBytes = std::int64_t{16} << 20;

std::vector<Chores> chores_of(postgres::Connection& target, const std::vector<const ForeignKey*>& keys) {
  std::map<std::string, Chores> by_table;
  const auto rows =
      target.exec("SELECT schema, name, analyzed, NOT frozen AND bytes >= " + std::to_string(kVacuumBytes) +
                  ", bytes FROM pgcutover.table_copy");
  for (int row = 0; row < rows.rows(); ++row) {
    const auto table = postgres::quote_qualified(rows.text(row, 0), rows.text(row, 1));
    const bool vacuum = rows.boolean(row, 3);
    Chores chores{.table = table, .bytes = rows.integer(row, 4)};
    if (vacuum || !rows.boolean(row, 2)) {
      chores.statistics = (vacuum ? "VACUUM (FREEZE, ANALYZE, TRUNCATE false) " : "ANALYZE ") + table;
      chores.mark = "UPDATE pgcutover.table_copy SET analyzed = true, frozen = " +
                    std::string(vacuum ? "true" : "frozen") +
                    " WHERE schema = " + postgres::quote_literal(rows.text(row, 0)) +
                    " AND name = " + postgres::quote_literal(rows.text(row, 1));
    }
    by_table[table] = std::move(chores);
  }
  for (const auto* key : keys) {
    auto& chores = by_table[key->table];
    chores.table = key->table;
    chores.keys.push_back(key);
  }
  std::vector<Chores> list;
  for (auto& [table, chores] : by_table) {
    if (!chores.statistics.empty() || !chores.keys.empty()) {
      list.push_back(std::move(chores));
    }
  }
  std::stable_sort(list.begin(), list.end(),
                   [](const Chores& a, const Chores& b) { return a.bytes > b.bytes; });
  return list;
}

}  // namespace

std::vector<std::string> ensure_foreign_keys(postgres::Connection& target,
                                             const std::vector<ForeignKey>& keys) {
  std::vector<std::string> violated;
  for (const auto* key : add_foreign_keys(target, keys, violated)) {
    target.stop().check();
    if (!validate_foreign_key(target, *key)) {
      violated.push_back(display(*key));
    }
  }
  run_deferred(target);
  return violated;
}

Finished finish_tables(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                       const catalog::Catalog& catalog, int jobs, const base::Stop& stop) {
  auto session = open_restore_session(target, token, stop);
  Finished result;
  auto& violated = result.violated;
  const auto open = add_foreign_keys(session, catalog.foreign_keys, violated);
  const auto chores = chores_of(session, open);
  std::mutex mutex;
  run_workers(jobs, chores.size(), stop, [&](WorkQueue& queue, const base::Stop& cancel) {
    auto worker = open_restore_session(target, token, cancel);
    while (const auto at = queue.next()) {
      const auto& one = chores[*at];
      if (!one.statistics.empty()) {
        worker.exec(one.statistics, Deadline::never());
        worker.exec(one.mark);
      }
      for (const auto* key : one.keys) {
        if (!validate_foreign_key(worker, *key)) {
          const std::lock_guard lock(mutex);
          violated.push_back(display(*key));
        }
      }
    }
  });
  std::sort(violated.begin(), violated.end());
  run_deferred(session);
  result.stale = refresh_matviews(session, catalog.matviews);
  for (const auto& matview : catalog.matviews) {
    if (session.maybe_value("SELECT pg_catalog.to_regclass($1)::text", postgres::Params{matview})) {
      session.exec("ANALYZE " + matview, Deadline::never());
    }
  }
  for (const auto& table : catalog.tables) {  // autovacuum never analyzes these
    if (table.kind == catalog::TableKind::partitioned && !table.partition) {
      session.exec((session.server_major() >= 18 ? "ANALYZE ONLY " : "ANALYZE ") + table.qualified(),
                   Deadline::never());
    }
  }
  return result;
}

std::vector<StaleMatview> refresh_matviews(postgres::Connection& target,
                                           const std::vector<std::string>& matviews, Deadline deadline) {
  std::vector<StaleMatview> stale;
  if (matviews.empty()) {
    return stale;
  }
  const postgres::AsApplications as_applications(target, postgres::Computes::queries);
  for (const auto& matview : matviews) {
    if (!target.maybe_value("SELECT pg_catalog.to_regclass($1)::text", postgres::Params{matview})) {
      base::log::warn("materialized view " + matview + " isn't on the " + target.server() +
                      ": not refreshed");
      continue;
    }
    try {
      target.exec("REFRESH MATERIALIZED VIEW " + matview, deadline);
    } catch (Error& error) {
      if (error.sqlstate().empty() || !error.connection_usable() || error.retryable()) {
        rethrow_at(error, "refreshing " + matview);
      }
      stale.push_back({matview, error.message()});
    }
  }
  return stale;
}

}  // namespace replication::snapshot
