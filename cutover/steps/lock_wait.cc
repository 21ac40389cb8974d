#include "cutover/steps/lock_wait.h"

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/sqlstate.h"

namespace cutover::steps {
namespace {

// Longer than deadlock_timeout, after which autovacuum gives way.
constexpr base::milliseconds kWait{1'500};
constexpr base::milliseconds kSayAgain{10'000};

struct Holders {
  std::string text;    // for people
  std::string remedy;  // SQL
};

// Sessions and prepared transactions with a lock on anything of this database that isn't the system's: the
// strongest lock conflicts with each. Asked after an attempt, when nothing of ours waits any more.
Holders lock_holders(postgres::Connection& connection) {
  const auto rows = connection.exec(R"(
    WITH held AS (
      SELECT l.pid, l.virtualtransaction, string_agg(DISTINCT l.mode || ' on ' || CASE l.locktype
               WHEN 'relation' THEN coalesce(l.relation::pg_catalog.regclass::text, l.relation::text)
               ELSE coalesce(pg_catalog.pg_describe_object(l.classid, l.objid, 0), l.objid::text) END, ', ') AS what
        FROM pg_catalog.pg_locks l
       WHERE l.granted AND l.locktype IN ('relation', 'object') AND coalesce(l.relation, l.objid) >= 16384
         AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
         AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
       GROUP BY 1, 2)
    SELECT 'pid ' || a.pid || ' (' || coalesce(a.usename, 'no role') || ', '
           || coalesce(nullif(a.application_name, ''), a.backend_type, 'no application') || ', '
           || coalesce(a.state, 'state unknown') || coalesce(', transaction open for '
           || extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int || ' s', '') || ') holds ' || h.what,
           'SELECT pg_terminate_backend(' || a.pid || ');'
      FROM held h JOIN pg_catalog.pg_stat_activity a USING (pid)
     WHERE NOT (a.usename IS NOT DISTINCT FROM current_user AND a.application_name LIKE 'pgcutover%')
    UNION ALL
    SELECT pg_catalog.format('prepared transaction %L of %s holds %s', p.gid, p.owner, h.what),
           pg_catalog.format('ROLLBACK PREPARED %L;', p.gid)
      FROM held h JOIN pg_catalog.pg_locks l ON l.virtualtransaction = h.virtualtransaction
       AND l.locktype = 'transactionid' AND h.pid IS NULL
      JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = l.transactionid
     ORDER BY 1)");
  Holders holders;
  for (int row = 0; row < rows.rows(); ++row) {
    holders.text += (row == 0 ? "" : "; ") + rows.text(row, 0);
    holders.remedy += (row == 0 ? "" : " ") + rows.text(row, 1);
  }
  return holders;
}

}  // namespace

void despite_locks(postgres::Connection& connection, base::milliseconds patience,
                   const std::function<void()>& work) {
  const auto before = connection.one_value("SELECT pg_catalog.current_setting('lock_timeout')");
  const auto deadline = base::Deadline::in(patience);
  auto silent_until = base::Deadline::in(base::milliseconds(0));
  for (;;) {
    connection.exec("SET lock_timeout = " + std::to_string(kWait.count()));
    try {
      work();
      connection.exec("SET lock_timeout = '" + before + "'");
      return;
    } catch (const base::Error& error) {
      if (!error.connection_usable()) {
        throw;
      }
      connection.exec("SET lock_timeout = '" + before + "'");
      if (error.sqlstate() != postgres::sqlstate::kLockNotAvailable) {
        throw;
      }
    }
    const auto holders = lock_holders(connection);
    const auto who = holders.text.empty() ? "somebody who is gone by now" : holders.text;
    if (deadline.expired()) {
      throw base::TimeoutError("the " + connection.server() + " is in use and can't be emptied: " + who,
                               "let that end" +
                                   (holders.remedy.empty() ? "" : ", or end it there: " + holders.remedy) +
                                   " Then the same command again: it goes on with what is left")
          .on(connection.server())
          .set_retryable(false);
    }
    if (silent_until.expired()) {
      base::log::warn("waiting for locks on the " + connection.server() + ": " + who);
      silent_until = base::Deadline::in(kSayAgain);
    }
    connection.stop().check();
  }
}

}  // namespace cutover::steps
