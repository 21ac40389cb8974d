#include "sequences/locks.h"

#include "replication/base/error.h"
#include "replication/postgres/patient.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"

namespace sequences {
namespace {

namespace base = replication::base;

constexpr base::milliseconds kBudget{5'000};

std::string as_regclass(const std::string& relation) {
  return "pg_catalog.to_regclass(" + postgres::quote_literal(relation) + ")";
}

bool in_the_way(const base::Error& error) {
  return error.connection_usable() && (error.sqlstate() == postgres::sqlstate::kLockNotAvailable ||
                                       error.sqlstate() == postgres::sqlstate::kDeadlockDetected);
}

// Asked when nothing of ours waits any more, so pg_blocking_pids() has nothing to say. Also who waits for
// such a lock: everybody queues behind that one.
std::string describe_holders(postgres::Connection& connection, const std::vector<std::string>& relations,
                             bool reading) {
  std::string list;
  for (const auto& relation : relations) {
    list += (list.empty() ? "" : ", ") + as_regclass(relation);
  }
  const auto rows = connection.exec(
      "SELECT DISTINCT n.nspname || '.' || c.relname, coalesce('pid ' || l.pid, 'a prepared transaction'), "
      "coalesce(a.usename, 'role unknown'), coalesce(nullif(a.application_name, ''), 'no name'), "
      "coalesce(a.state, 'state unknown'), "
      "coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::bigint, 0) "
      "FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid "
      "WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname "
      "= pg_catalog.current_database()) AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() "
      "AND l.mode IN ('AccessExclusiveLock'" +
      std::string(reading ? "" : ", 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock'") +
      ") AND l.relation IN (" + list + ") ORDER BY 1, 2 LIMIT 10");
  std::string text;
  for (int row = 0; row < rows.rows(); ++row) {
    text += (text.empty() ? "" : ", ") + rows.text(row, 0) + " by " + rows.text(row, 1) + " (" +
            rows.text(row, 2) + ", " + rows.text(row, 3) + ", " + rows.text(row, 4) +
            ", transaction open for " + rows.text(row, 5) + " s)";
  }
  return text;
}

[[noreturn]] void give_up(postgres::Connection& connection, const base::Error& cause,
                          const std::vector<std::string>& relations, bool reading) {
  const auto holders = describe_holders(connection, relations, reading);
  if (holders.empty()) {  // gone meanwhile, or something else was locked
    throw base::TimeoutError(
        "waited " + std::to_string(kBudget.count() / 1000) + " s for a lock: " + cause.message(),
        "call it again")
        .on(connection.server());
  }
  throw base::TimeoutError(
      "waited " + std::to_string(kBudget.count() / 1000) + " s for what is locked: " + holders,
      "end that transaction (COMMIT, ROLLBACK or pg_terminate_backend), then call it "
      "again: it goes on where this one stopped")
      .on(connection.server());
}

}  // namespace

postgres::Result read_patiently(postgres::Connection& connection, const std::string& sql,
                                const std::vector<std::string>& relations) {
  if (connection.in_transaction()) {
    return connection.exec(sql);
  }
  constexpr base::milliseconds kBetweenAttempts{200};
  const auto budget = base::Deadline::in(kBudget).sooner(connection.default_deadline());
  for (;;) {
    try {
      return connection.exec("SET LOCAL lock_timeout = 300; " + sql);
    } catch (const base::Error& error) {
      if (!in_the_way(error)) {
        throw;
      }
      if (budget.expired()) {
        give_up(connection, error, relations, true);
      }
    }
    connection.stop().wait(base::Deadline::in(kBetweenAttempts));
    connection.stop().check();
  }
}

void with_locked(postgres::Connection& connection, const std::vector<std::string>& sequences,
                 const std::function<void()>& work) {
  // Takes nextval's lock and looks only.
  std::string lock;
  for (const auto& sequence : sequences) {
    lock += (lock.empty() ? "SELECT " : ", ") + std::string("pg_catalog.pg_sequence_last_value(") +
            postgres::quote_literal(sequence) + "::pg_catalog.regclass)";
  }
  try {
    postgres::transact_patiently(connection, base::Deadline::in(kBudget), [&] {
      connection.exec(lock);
      connection.exec("SET LOCAL lock_timeout = 0");
      work();
    });
  } catch (const base::Error& error) {
    if (!in_the_way(error)) {
      throw;
    }
    give_up(connection, error, sequences, false);
  }
}

}  // namespace sequences
