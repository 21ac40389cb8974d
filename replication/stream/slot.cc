#include "replication/stream/slot.h"

#include <algorithm>
#include <future>
#include <thread>
#include <utility>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"

namespace replication::stream {
namespace {

using base::Deadline;
using postgres::quote_identifier;
using postgres::quote_literal;

constexpr base::milliseconds kReportInterval{1'000};
constexpr base::milliseconds kPollInterval{50};
constexpr base::milliseconds kCleanupTime{10'000};
constexpr int kBlockersShown = 5;

// Sessions and prepared transactions that hold an xid, in any database, the oldest first. What began just now
// is left out: it is noise of a busy system. xact_start and state are hidden from roles without
// pg_read_all_stats.
std::string blockers_sql(int builder_pid) {
  return "WITH blocker AS ("
         "SELECT xact_start AS since, 'pid ' || pid || CASE WHEN application_name <> '' THEN ' app=' || "
         "application_name ELSE '' END || COALESCE(' user=' || usename, '') || COALESCE(' db=' || datname, "
         "'') || ' ' "
         "|| COALESCE(state, 'in a transaction') AS who FROM pg_catalog.pg_stat_activity "
         "WHERE backend_xid IS NOT NULL AND pid NOT IN (pg_catalog.pg_backend_pid(), " +
         std::to_string(builder_pid) +
         ") AND (xact_start IS NULL OR xact_start < pg_catalog.clock_timestamp() - interval '500 "
         "milliseconds') "
         "UNION ALL SELECT prepared, 'prepared transaction ' || pg_catalog.quote_literal(gid) || ' db=' || "
         "database "
         "FROM pg_catalog.pg_prepared_xacts) "
         "SELECT who || COALESCE(' for ' || pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp() "
         "- since))"
         "::bigint || ' s', ''), pg_catalog.count(*) OVER () FROM blocker ORDER BY since NULLS FIRST, who "
         "LIMIT " +
         std::to_string(kBlockersShown);
}

std::string describe_blockers(postgres::Connection& observer, int builder_pid) {
  const auto result = observer.exec(blockers_sql(builder_pid));
  std::string text;
  for (int row = 0; row < result.rows(); ++row) {
    text += (text.empty() ? "" : ", ") + result.text(row, 0);
  }
  if (result.rows() > 0 && result.integer(0, 1) > result.rows()) {
    text += " and " + std::to_string(result.integer(0, 1) - result.rows()) + " more";
  }
  return text;
}

// Names the blockers. Not being able to is no reason to give up the slot.
std::string try_describe_blockers(postgres::Connection& observer, int builder_pid) {
  try {
    return describe_blockers(observer, builder_pid);
  } catch (const base::Stopped&) {
    return {};  // the statement that waits sees the stop as well, and is the one to end
  } catch (const base::Error& error) {
    base::log::warn("can't see who has transactions open: " + error.describe());
    return {};
  }
}

void terminate(postgres::Connection& observer, int pid) {
  observer.exec("SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = " +
                std::to_string(pid));
}

// Runs a statement that may wait long in a thread of its own, on its own connection, and reports meanwhile.
postgres::Result run_reporting(postgres::Connection& connection, postgres::Connection& observer,
                               const std::string& sql, Deadline deadline, const WaitingFor& waiting) {
  const int pid = connection.backend_pid();
  std::packaged_task<postgres::Result()> task([&] { return connection.exec(sql, deadline); });
  auto future = task.get_future();
  const std::jthread thread(std::move(task));  // joins before `connection` is anybody else's again
  while (future.wait_for(kReportInterval) != std::future_status::ready) {
    if (!waiting) {
      continue;
    }
    if (const auto blockers = try_describe_blockers(observer, pid); !blockers.empty()) {
      try {
        waiting(blockers);
      } catch (...) {
        terminate(observer, pid);
        throw;
      }
    }
  }
  return future.get();
}

// After a creation that failed for another reason than the name: neither its backend nor its slot may stay
// behind, since a slot that nobody reads fills the disk. A cancel can also come too late, when the slot is
// there already.
void remove_leftover(postgres::Connection& connection, postgres::Connection& observer, int pid,
                     const std::string& name) noexcept {
  try {
    const postgres::Connection::Uninterrupted guard(observer);
    if (!connection.usable()) {
      terminate(observer, pid);
    }
    drop_slot(observer, name, Deadline::in(kCleanupTime));
  } catch (const base::Error& error) {
    base::log::error("slot " + quote_identifier(name) + " may have been left on " + connection.server() +
                     ", drop it there: " + error.describe());
  } catch (const std::exception& error) {
    base::log::error("slot " + quote_identifier(name) + " may have been left: " + error.what());
  }
}

postgres::Result create(postgres::Connection& connection, postgres::Connection& observer,
                        const std::string& name, const std::string& sql, Deadline deadline,
                        const WaitingFor& waiting) {
  if (slot_state(observer, name)) {
    throw base::StateError("slot " + quote_identifier(name) + " exists already",
                           "another migration or an earlier attempt uses this name: cancel that one first")
        .on(connection.server())
        .with_sqlstate(postgres::sqlstate::kDuplicateObject);
  }
  const int pid = connection.backend_pid();
  try {
    return run_reporting(connection, observer, sql, deadline, waiting);
  } catch (const base::TimeoutError&) {
    const postgres::Connection::Uninterrupted guard(observer);
    const auto blockers = try_describe_blockers(observer, pid);
    remove_leftover(connection, observer, pid, name);
    throw base::TimeoutError("slot " + quote_identifier(name) + " could not be made in time" +
                                 (blockers.empty() ? "" : ", it waited for " + blockers),
                             "end or finish these transactions, then try again")
        .on(connection.server());
  } catch (const base::Error& error) {
    if (error.sqlstate() != postgres::sqlstate::kDuplicateObject) {
      remove_leftover(connection, observer, pid, name);
    }
    throw;
  } catch (...) {
    remove_leftover(connection, observer, pid, name);
    throw;
  }
}

}  // namespace

std::string open_transactions(postgres::Connection& observer) {
  return try_describe_blockers(observer, 0);
}

bool SlotState::invalidated() const {
  return !restart_lsn.valid() || wal_status == "lost" || !invalidation_reason.empty();
}

std::optional<SlotState> slot_state(postgres::Connection& connection, const std::string& name) {
  const int major = connection.server_major();
  // No parameters: a walsender session has the simple protocol only.
  const auto result = connection.exec(
      std::string(
          "SELECT slot_name, plugin, database, temporary, active, COALESCE(active_pid, 0), "
          "COALESCE(restart_lsn, '0/0'), COALESCE(confirmed_flush_lsn, '0/0'), "
          "COALESCE(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() "
          "THEN pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END, "
          "restart_lsn), 0)::bigint, ") +
      (major >= 13 ? "wal_status, safe_wal_size, " : "NULL, NULL, ") +
      (major >= 17 ? "invalidation_reason, failover" : "NULL, false") +
      " FROM pg_catalog.pg_replication_slots WHERE slot_name = " + quote_literal(name));
  if (result.rows() == 0) {
    return std::nullopt;
  }
  SlotState state;
  state.name = result.text(0, 0);
  state.plugin = result.text_or(0, 1, "");
  state.database = result.text_or(0, 2, "");
  state.temporary = result.boolean(0, 3);
  state.active = result.boolean(0, 4);
  state.active_pid = static_cast<int>(result.integer(0, 5));
  state.restart_lsn = result.lsn(0, 6);
  state.confirmed_flush_lsn = result.lsn(0, 7);
  state.retained_bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(0, result.integer(0, 8)));
  state.wal_status = result.text_or(0, 9, "");
  if (!result.is_null(0, 10)) {
    state.safe_wal_size = result.integer(0, 10);
  }
  state.invalidation_reason = result.text_or(0, 11, "");
  state.failover = result.boolean(0, 12);
  return state;
}

CreatedSlot create_slot(postgres::Connection& connection, postgres::Connection& observer,
                        const std::string& name, bool temporary, Deadline deadline, const WaitingFor& waiting,
                        bool failover) {
  // The form without parentheses: 12 to 14 know no other, and 18 still takes it.
  const auto result =
      create(connection, observer, name,
             "CREATE_REPLICATION_SLOT " + quote_identifier(name) + (temporary ? " TEMPORARY" : "") +
                 " LOGICAL pgoutput " + (failover ? "(SNAPSHOT 'export', FAILOVER true)" : "EXPORT_SNAPSHOT"),
             deadline, waiting);
  PGCUTOVER_CHECK(result.rows() == 1 && result.columns() >= 3,
                  "CREATE_REPLICATION_SLOT answers with one row");
  return {result.lsn(0, 1), result.text(0, 2)};
}

void ensure_slot(postgres::Connection& connection, postgres::Connection& observer, const std::string& name,
                 Deadline deadline, const WaitingFor& waiting, bool failover) {
  if (const auto existing = slot_state(connection, name)) {
    if (existing->plugin != "pgoutput" || existing->database != connection.database() ||
        existing->temporary || existing->invalidated()) {
      throw base::StateError("slot " + quote_identifier(name) + " exists and can't be used: plugin " +
                                 (existing->plugin.empty() ? "none" : existing->plugin) + ", database \"" +
                                 existing->database + "\"" + (existing->temporary ? ", temporary" : "") +
                                 (existing->invalidated() ? ", invalidated" : ""),
                             "drop it if nobody needs it, or choose another name")
          .on(connection.server());
    }
    return;
  }
  create(connection, observer, name,
         "SELECT pg_catalog.pg_create_logical_replication_slot(" + quote_literal(name) + ", 'pgoutput'" +
             (failover ? ", failover => true)" : ")"),
         deadline, waiting);
}

void advance_slot(postgres::Connection& connection, const std::string& name, base::Lsn lsn) {
  const auto state = slot_state(connection, name);
  if (!state) {
    throw base::StateError("slot " + quote_identifier(name) + " doesn't exist").on(connection.server());
  }
  if (state->active || state->confirmed_flush_lsn >= lsn) {
    return;
  }
  try {
    connection.exec("SELECT pg_catalog.pg_replication_slot_advance(" + quote_literal(name) + ", " +
                    quote_literal(lsn.to_string()) + ")");
  } catch (const base::Error& error) {
    if (error.sqlstate() !=
        postgres::sqlstate::kObjectInUse) {  // a walsender took it just now: it will move it
      throw;
    }
  }
}

void drop_slot(postgres::Connection& connection, const std::string& name, Deadline deadline) {
  for (;;) {
    const auto state = slot_state(connection, name);
    if (!state) {
      return;
    }
    try {
      if (state->active) {
        terminate(connection, state->active_pid);
      } else {
        connection.exec("SELECT pg_catalog.pg_drop_replication_slot(" + quote_literal(name) + ")", deadline);
        return;
      }
    } catch (const base::Error& error) {
      if (error.sqlstate() == postgres::sqlstate::kUndefinedObject) {
        return;
      }
      if (error.sqlstate() != postgres::sqlstate::kObjectInUse) {
        throw;
      }
    }
    if (deadline.expired()) {
      throw base::TimeoutError(
          "slot " + quote_identifier(name) + " is still held by pid " + std::to_string(state->active_pid),
          "end that process on the server, then try again")
          .on(connection.server());
    }
    // The server has no event for a slot's release.
    if (connection.stop().wait(Deadline::in(kPollInterval).sooner(deadline))) {
      connection.stop().check();
    }
  }
}

}  // namespace replication::stream
