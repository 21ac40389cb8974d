#include "cutover/steps/fence.h"

#include <algorithm>

#include "cutover/steps/store.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/catalog/server.h"
#include "replication/postgres/quote.h"

namespace cutover::steps {
namespace {

using postgres::quote_identifier;

FenceState parse_state(std::string_view text) {
  for (const auto state : {FenceState::open, FenceState::fencing, FenceState::fenced, FenceState::closed}) {
    if (text == to_string(state)) {
      return state;
    }
  }
  throw base::Bug("unknown fence state " + std::string(text));
}

std::vector<std::string> text_array(postgres::Connection& connection, const std::string& column) {
  const auto rows = connection.exec("SELECT unnest(" + column + ") FROM pgcutover.fence WHERE id = 1");
  std::vector<std::string> items;
  for (int row = 0; row < rows.rows(); ++row) {
    items.push_back(rows.text(row, 0));
  }
  return items;
}

// Inside a transaction: this side's row, locked until the transaction's end.
Fence lock_fence(postgres::Connection& connection) {
  connection.exec("SELECT 1 FROM pgcutover.fence WHERE id = 1 FOR UPDATE");
  return read_fence(connection);
}

std::string role_sql(std::string_view role) {
  return role.empty() ? "PUBLIC" : quote_identifier(role);
}

// Takes CONNECT from everybody but our own role.
void revoke_connect(postgres::Connection& connection, const std::vector<std::string>& grants) {
  const std::string on = " CONNECT ON DATABASE " + quote_identifier(connection.database());
  connection.exec("GRANT" + on + " TO CURRENT_USER");
  for (const auto& grant : grants) {
    const std::string role = grant.substr(2);
    if (role != connection.user()) {
      connection.exec("REVOKE" + on + " FROM " + role_sql(role) + " CASCADE");
    }
  }
}

void restore_connect(postgres::Connection& connection, const std::vector<std::string>& grants) {
  bool ours_granted = false;
  for (const auto& statement : grant_statements(connection.database(), grants)) {
    connection.exec(statement);
  }
  for (const auto& grant : grants) {
    ours_granted = ours_granted || grant.substr(2) == connection.user();
  }
  if (!ours_granted) {
    connection.exec("REVOKE CONNECT ON DATABASE " + quote_identifier(connection.database()) +
                    " FROM CURRENT_USER");
  }
}

// Ends other roles' client sessions of this database until none is left.
int end_foreign_sessions(postgres::Connection& connection, base::Deadline deadline) {
  int ended = 0;
  for (;;) {
    const auto rows = connection.exec(
        "SELECT pid, coalesce(usename, ''), application_name, pg_terminate_backend(pid) FROM "
        "pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
        "AND usename IS DISTINCT FROM current_user");
    if (rows.rows() == 0) {
      return ended;
    }
    ended = std::max(ended, rows.rows());
    if (deadline.expired()) {
      throw base::TimeoutError("session " + rows.text(0, 0) + " of role " + rows.text(0, 1) + " (" +
                                   rows.text(0, 2) + ") does not end",
                               "end it, or stop the application that opens it")
          .on(connection.server());
    }
    connection.stop().wait(base::Deadline::in(base::milliseconds(5)));
    connection.stop().check();
  }
}

void expect_one(const postgres::Result& result, postgres::Connection& connection, std::string_view what) {
  if (result.affected_rows() != 1) {
    throw base::StateError("the fence of the " + connection.server() +
                           " is not as expected: " + std::string(what))
        .on(connection.server());
  }
}

// Transactions of others that hold a lock on one of the tables that our mode conflicts with. Asked after a
// failed attempt, when nothing of ours waits any more, so pg_blocking_pids() has nothing to say.
std::string lock_holders_sql(const std::vector<catalog::Table>& tables) {
  std::string oids;
  for (const auto& table : tables) {
    oids += (oids.empty() ? "" : ",") + std::to_string(table.oid);
  }
  return "FROM pg_stat_activity a WHERE NOT (a.usename IS NOT DISTINCT FROM current_user AND "
         "a.application_name LIKE "
         "'pgcutover%') AND a.pid IN (SELECT l.pid "
         "FROM pg_locks l WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('RowExclusiveLock', "
         "'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', "
         "'AccessExclusiveLock') "
         "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (l.relation "
         "IN (" +
         oids + ") OR EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = l.relation)))";
}

std::string describe_lock_holders(postgres::Connection& observer, const std::vector<catalog::Table>& tables) {
  const auto rows = observer.exec(
      "SELECT a.pid, coalesce(a.usename, 'no role'), coalesce(nullif(a.application_name, ''), "
      "a.backend_type), "
      "coalesce(a.state, ''), "
      "coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int, 0) " +
      lock_holders_sql(tables));
  std::string text;
  for (int row = 0; row < rows.rows(); ++row) {
    text += (text.empty() ? "" : ", ") + std::string("pid ") + rows.text(row, 0) + " (" + rows.text(row, 1) +
            ", " + rows.text(row, 2) + ", " + rows.text(row, 3) + ", transaction open for " +
            rows.text(row, 4) + " s)";
  }
  return text.empty() ? "nobody any more" : text;
}

void end_lock_holders(postgres::Connection& observer, const std::vector<catalog::Table>& tables) {
  // An idle session has nothing to cancel: only ending it gives its locks back.
  observer.exec(
      "SELECT CASE WHEN a.state LIKE 'idle%' THEN pg_terminate_backend(a.pid) ELSE pg_cancel_backend(a.pid) "
      "END " +
      lock_holders_sql(tables));
}

}  // namespace

std::string_view to_string(FenceState state) {
  switch (state) {
    case FenceState::open:
      return "open";
    case FenceState::fencing:
      return "fencing";
    case FenceState::fenced:
      return "fenced";
    case FenceState::closed:
      return "closed";
  }
  throw base::Bug("unknown fence state");
}

Fence read_fence(postgres::Connection& connection) {
  const auto row = connection.one_row(
      "SELECT state, switches, attempt, connect_grants IS NOT NULL, marker_lsn FROM pgcutover.fence WHERE id "
      "= 1");
  Fence fence;
  fence.state = parse_state(row.view(0, 0));
  fence.switches = static_cast<int>(row.integer(0, 1));
  fence.attempt = row.optional_text(0, 2);
  if (row.boolean(0, 3)) {
    fence.connect_grants = text_array(connection, "connect_grants");
  }
  if (!row.is_null(0, 4)) {
    fence.marker_lsn = row.lsn(0, 4);
  }
  return fence;
}

std::vector<std::string> connect_grants(postgres::Connection& connection) {
  const auto rows = connection.exec(
      "SELECT (CASE WHEN a.is_grantable THEN 'g:' ELSE '-:' END) || "
      "CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END "
      "FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a "
      "WHERE d.datname = current_database() AND a.privilege_type = 'CONNECT' ORDER BY 1");
  std::vector<std::string> grants;
  for (int row = 0; row < rows.rows(); ++row) {
    grants.push_back(rows.text(row, 0));
  }
  return grants;
}

std::vector<std::string> grant_statements(const std::string& database,
                                          const std::vector<std::string>& grants) {
  std::vector<std::string> statements;
  for (const auto& grant : grants) {
    statements.push_back("GRANT CONNECT ON DATABASE " + quote_identifier(database) + " TO " +
                         role_sql(grant.substr(2)) + (grant.starts_with("g:") ? " WITH GRANT OPTION" : ""));
  }
  return statements;
}

void close_from_the_start(postgres::Connection& connection, const postgres::FencingToken& token) {
  if (read_fence(connection).state == FenceState::closed) {
    return;
  }
  postgres::Transaction transaction(connection);
  PGCUTOVER_CHECK(lock_fence(connection).state == FenceState::open, "a target that is being switched from");
  const auto grants = connect_grants(connection);
  connection.exec("UPDATE pgcutover.fence SET state = 'closed', connect_grants = $1, at = clock_timestamp()",
                  {postgres::array_literal(grants)});
  revoke_connect(connection, grants);
  token.assert_current(connection);
  transaction.commit_or_throw();
  end_foreign_sessions(connection, connection.default_deadline());
}

void begin_attempt(postgres::Connection& from, const postgres::FencingToken& token,
                   const std::string& attempt) {
  postgres::Transaction transaction(from);
  const auto result = from.exec(
      "UPDATE pgcutover.fence SET state = 'fencing', attempt = $1, marker = NULL, marker_lsn = NULL, "
      "at = clock_timestamp() WHERE id = 1 AND state = 'open'",
      {attempt});
  expect_one(result, from, "it should be open");
  token.assert_current(from);
  transaction.commit_or_throw();
}

int close_connections(postgres::Connection& from, const postgres::FencingToken& token,
                      const std::string& attempt, base::Lsn marker_lsn, base::Deadline deadline) {
  {
    postgres::Transaction transaction(from);
    const auto grants = connect_grants(from);
    const auto result = from.exec(
        "UPDATE pgcutover.fence SET state = 'fenced', connect_grants = $1, marker = $2, marker_lsn = $3, "
        "at = clock_timestamp() WHERE id = 1 AND state = 'fencing' AND attempt = $2",
        postgres::Params()
            .text(std::string_view(postgres::array_literal(grants)))
            .text(std::string_view(attempt))
            .lsn(marker_lsn));
    expect_one(result, from, "it should be in the middle of our attempt");
    revoke_connect(from, grants);
    token.assert_current(from);
    transaction.commit_or_throw();
  }
  const int ended = end_foreign_sessions(from, deadline);
  for (const auto& prepared : catalog::prepared_transactions(from)) {
    if (prepared.database == from.database()) {
      throw base::Error("prepared transaction '" + prepared.gid + "' of " + prepared.owner + " is open",
                        "COMMIT PREPARED or ROLLBACK PREPARED it, then try again")
          .on(from.server());
    }
  }
  return ended;
}

postgres::CommitOutcome pass_authority(postgres::Connection& from, const postgres::FencingToken& token,
                                       const std::string& attempt, Side side, base::Lsn opposite_start) {
  postgres::Transaction transaction(from);
  from.exec("SET LOCAL synchronous_commit = on");
  const auto result = from.exec(
      "UPDATE pgcutover.fence SET state = 'closed', switches = switches + 1, at = clock_timestamp() "
      "WHERE id = 1 AND state = 'fenced' AND attempt = $1",
      {attempt});
  expect_one(result, from, "it should be fenced by our attempt");
  // The way back: what the other side commits from `opposite_start` on will be applied here.
  replication::apply::init_progress(from, std::string(direction_from(other(side))), opposite_start,
                                    token.epoch(), true);
  put_event(from, token, "authority", "done",
            "passed to the " + std::string(to_string(other(side))) + ", whose own changes begin at " +
                opposite_start.to_string());
  token.assert_current(from);
  return transaction.commit();
}

bool undo_attempt(postgres::Connection& from, const postgres::FencingToken& token) {
  postgres::Transaction transaction(from);
  const Fence fence = lock_fence(from);
  // Before anything is concluded from the state: it may be a successor's by now.
  token.assert_current(from);
  if (fence.state == FenceState::closed) {
    return false;
  }
  if (fence.state == FenceState::fenced && fence.connect_grants) {
    restore_connect(from, *fence.connect_grants);
  }
  // The attempt stays named until traffic flows again: a crash in between must not forget that it may be
  // held.
  from.exec(
      "UPDATE pgcutover.fence SET state = 'open', connect_grants = NULL, at = clock_timestamp() WHERE id = "
      "1");
  transaction.commit_or_throw();
  return true;
}

void open_side(postgres::Connection& to, const postgres::FencingToken& token, int switches) {
  postgres::Transaction transaction(to);
  const Fence fence = lock_fence(to);
  if (fence.state == FenceState::closed) {
    if (fence.connect_grants) {
      restore_connect(to, *fence.connect_grants);
    }
    to.exec(
        "UPDATE pgcutover.fence SET state = 'open', switches = $1, connect_grants = NULL, attempt = NULL, "
        "at = clock_timestamp() WHERE id = 1",
        postgres::Params().integer(switches));
  }
  token.assert_current(to);
  transaction.commit_or_throw();
}

void clear_attempt(postgres::Connection& from, const postgres::FencingToken& token) {
  postgres::Transaction transaction(from);
  from.exec("UPDATE pgcutover.fence SET attempt = NULL WHERE id = 1");
  token.assert_current(from);
  transaction.commit_or_throw();
}

void lock_tables(postgres::Connection& session, postgres::Connection& observer,
                 const std::vector<catalog::Table>& published, const LockOptions& options,
                 base::Deadline deadline) {
  if (published.empty()) {
    session.exec("BEGIN");
    return;
  }
  std::string sql = "LOCK TABLE ";
  for (const auto& table : published) {
    // A partitioned root takes its leaves along, also those that are made meanwhile; a plain table only
    // itself.
    sql += (sql.size() > 11 ? ", " : "") +
           std::string(table.kind == catalog::TableKind::partitioned ? "" : "ONLY ") + table.qualified();
  }
  sql += " IN SHARE ROW EXCLUSIVE MODE";
  session.exec("SET lock_timeout = " + std::to_string(options.lock_timeout.count()));
  std::string blockers;
  // Holders get half of a short budget to end by themselves, so that ending them still helps.
  const auto budget = deadline.remaining();
  const auto polite_until = budget ? base::Deadline::in(*budget / 2) : base::Deadline::never();
  for (int attempt = 1;; ++attempt) {
    session.exec("BEGIN");
    try {
      session.exec(sql, deadline);
      return;
    } catch (const base::Error& error) {
      if (!error.connection_usable() || !error.retryable()) {
        throw;
      }
    }
    // Everything is given back between attempts: locks kept while waiting hang both sides for good.
    session.exec("ROLLBACK");
    blockers = describe_lock_holders(observer, published);
    if (deadline.expired()) {
      throw base::TimeoutError("the tables could not be locked: held by " + blockers,
                               options.cancel_blockers ? "a longer lock-limit; or end these transactions"
                                                       : "end these transactions, or --cancel-blockers")
          .on(session.server());
    }
    if (options.cancel_blockers && (attempt >= options.polite_attempts || polite_until.expired())) {
      end_lock_holders(observer, published);
    }
    session.stop().wait(base::Deadline::in(base::milliseconds(attempt < 5 ? 30 * attempt : 200)));
    session.stop().check();
  }
}

}  // namespace cutover::steps
