#include <algorithm>
#include <iterator>
#include <span>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"
#include "sequences/arithmetic.h"
#include "sequences/locks.h"
#include "sequences/sequences.h"

namespace sequences {
namespace {

constexpr std::size_t kBatch = 250;

std::int64_t wanted_value(const Bump& bump, Side side) {
  return side == Side::opens ? bump.target_value : bump.source_value;
}

std::string display(const Bump& bump) {
  return bump.schema + "." + bump.name;
}

// True where the current position of the sequence (its columns last_value and is_called) is behind the wanted
// one. Asked in the same statement that sets it: what a session has taken further since the plan is left
// alone.
std::string is_behind(const Bump& bump, Side side) {
  const std::string value = std::to_string(wanted_value(bump, side));
  if (bump.cycle) {
    // No order to go by. On the side that closes the planned value is the one it has.
    return side == Side::closes ? "false"
                                : "(last_value, is_called) IS DISTINCT FROM (" + value + "::bigint, " +
                                      (bump.is_called ? "true" : "false") + ")";
  }
  const std::string order = bump.increment > 0 ? "last_value < " : "last_value > ";
  return bump.is_called ? "(" + order + value + " OR (last_value = " + value + " AND NOT is_called))"
                        : "(NOT is_called AND " + order + value + ")";
}

std::string set_sql(std::span<const Bump> bumps, Side side) {
  std::string sql;
  for (const auto& bump : bumps) {
    const std::string sequence = postgres::quote_qualified(bump.schema, bump.name);
    sql += (sql.empty() ? "SELECT" : " UNION ALL SELECT");
    sql += " CASE WHEN " + is_behind(bump, side) + " THEN pg_catalog.setval(" +
           postgres::quote_literal(sequence) + "::pg_catalog.regclass, " +
           std::to_string(wanted_value(bump, side)) + ", " + (bump.is_called ? "true" : "false") +
           ") END FROM " + sequence;
  }
  return sql;
}

void read_back(postgres::Connection& connection, std::span<const Bump> bumps, Side side) {
  std::string sql;
  for (std::size_t i = 0; i < bumps.size(); ++i) {
    sql += (i == 0 ? "SELECT " : " UNION ALL SELECT ") + std::to_string(i) + ", last_value, is_called FROM " +
           postgres::quote_qualified(bumps[i].schema, bumps[i].name);
  }
  const auto rows = connection.exec(sql);
  for (int row = 0; row < rows.rows(); ++row) {
    const Bump& bump = bumps[static_cast<std::size_t>(rows.integer(row, 0))];
    const auto value = rows.integer(row, 1);
    const bool called = rows.boolean(row, 2);
    if (value != wanted_value(bump, side) || called != bump.is_called) {
      throw base::Error("sequence " + display(bump) + " is at " + std::to_string(value) +
                            (called ? "" : " (not used)") + ", planned was " +
                            std::to_string(wanted_value(bump, side)) + (bump.is_called ? "" : " (not used)") +
                            ": somebody used it after its value was read",
                        "find who still uses this server, then plan the sequences again")
          .on(connection.server())
          .at("sequence " + display(bump));
    }
  }
}

// The ids this side may hand out: those behind `last_value`, up to and with `reserved_until`. No end is known
// for the side that closes, for sequences nobody has used, and for those that cycle.
void write_ledger(postgres::Connection& connection, std::span<const Bump> bumps, Side side,
                  const postgres::FencingToken& token) {
  std::string sql;
  for (const auto& bump : bumps) {
    const bool ranged = bump.is_called && !bump.cycle;
    const auto end = side == Side::opens ? std::optional(bump.source_value) : bump.source_end;
    sql += (sql.empty() ? "" : ", ");
    sql += "(" + std::to_string(token.epoch()) + ", " + postgres::quote_literal(bump.schema) + ", " +
           postgres::quote_literal(bump.name) + ", " + (side == Side::opens ? "'opens'" : "'closes'") + ", " +
           std::to_string(bump.increment) + ", " + std::to_string(bump.from) + ", " +
           std::to_string(wanted_value(bump, side)) + ", " + (bump.is_called ? "true" : "false") + ", " +
           (ranged && end ? std::to_string(*end) : "NULL") + ", " +
           postgres::quote_literal(connection.server()) + ")";
  }
  connection.none(
      "INSERT INTO pgcutover.sequence_ledger (epoch, sequence_schema, sequence_name, side, increment, "
      "handed_out, "
      "last_value, is_called, reserved_until, server) VALUES " +
      sql + " ON CONFLICT DO NOTHING");
}

void apply_batch(postgres::Connection& connection, std::span<const Bump> bumps, Side side,
                 const postgres::FencingToken& token) {
  postgres::Transaction transaction(connection);
  // First: setval isn't undone by a rollback, so a controller that was overtaken must not get that far. The
  // lock the check takes holds a take-over back until this transaction ends.
  token.assert_current(connection);
  connection.exec(set_sql(bumps, side));
  read_back(connection, bumps, side);
  write_ledger(connection, bumps, side, token);
  transaction.commit_or_throw();
}

// As set_sql, and says where each sequence stood right before.
std::string set_live_sql(std::span<const Bump> bumps, Side side) {
  std::string sql;
  for (std::size_t i = 0; i < bumps.size(); ++i) {
    const auto sequence = postgres::quote_qualified(bumps[i].schema, bumps[i].name);
    sql += (i == 0 ? "SELECT " : " UNION ALL SELECT ") + std::to_string(i) + ", last_value, CASE WHEN " +
           is_behind(bumps[i], side) + " THEN pg_catalog.setval(" + postgres::quote_literal(sequence) +
           "::pg_catalog.regclass, " + std::to_string(wanted_value(bumps[i], side)) + ", true) END FROM " +
           sequence;
  }
  return sql;
}

// What a side handed out before its values were set must not lie in the other side's range.
void check_overtaken(postgres::Connection& connection, const postgres::Result& rows,
                     std::span<const Bump> bumps, Side side) {
  for (int row = 0; row < rows.rows(); ++row) {
    const Bump& bump = bumps[static_cast<std::size_t>(rows.integer(row, 0))];
    const auto before = rows.integer(row, 1);
    const auto others = side == Side::closes ? bump.target_value : bump.source_value;
    if (further(before, others, bump.increment)) {
      throw base::Error(
          "sequence " + display(bump) + " ran past its headroom while it was planned: it was at " +
              std::to_string(before) + ", the other side's range begins behind " + std::to_string(others),
          "call `pgcutover sequences bump` again, with a larger --sequence-headroom")
          .on(connection.server());
    }
  }
}

// The proof on a live server: a real value, which is used up by it.
void probe(postgres::Connection& connection, std::span<const Bump> bumps, Side side) {
  std::string sql;
  for (std::size_t i = 0; i < bumps.size(); ++i) {
    if (!bumps[i].cycle) {
      sql += (sql.empty() ? "SELECT " : " UNION ALL SELECT ") + std::to_string(i) + ", pg_catalog.nextval(" +
             postgres::quote_literal(postgres::quote_qualified(bumps[i].schema, bumps[i].name)) +
             "::pg_catalog.regclass)";
    }
  }
  if (sql.empty()) {
    return;
  }
  const auto rows = connection.exec(sql);
  for (int row = 0; row < rows.rows(); ++row) {
    const Bump& bump = bumps[static_cast<std::size_t>(rows.integer(row, 0))];
    if (!further(rows.integer(row, 1), wanted_value(bump, side), bump.increment)) {
      throw base::Error("sequence " + display(bump) + " hands out " + std::to_string(rows.integer(row, 1)) +
                            ", planned was a value beyond " + std::to_string(wanted_value(bump, side)),
                        "somebody sets it at the same time: find who calls setval")
          .on(connection.server());
    }
  }
}

}  // namespace

std::string ledger_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.sequence_ledger (
  epoch bigint NOT NULL,
  sequence_schema text NOT NULL,
  sequence_name text NOT NULL,
  side text NOT NULL CHECK (side IN ('opens', 'closes')),
  increment bigint NOT NULL,
  handed_out bigint NOT NULL,
  last_value bigint NOT NULL,
  is_called boolean NOT NULL,
  reserved_until bigint,
  set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (sequence_schema, sequence_name, epoch, side, last_value, is_called)
);
ALTER TABLE pgcutover.sequence_ledger ADD COLUMN IF NOT EXISTS server text;
COMMENT ON TABLE pgcutover.sequence_ledger IS
  'ids behind last_value, up to reserved_until, may be handed out by this server';
)";
}

void lock_bumps(postgres::Connection& connection, base::Deadline deadline) {
  constexpr base::milliseconds kBetweenTries{200};
  while (!connection.one_row("SELECT pg_catalog.pg_try_advisory_lock(1885823861, 3)").boolean(0, 0)) {
    if (deadline.expired()) {
      throw base::StateError(
          "another `pgcutover sequences bump` is under way on the " + connection.server(),
          "wait until it has ended; a second call sets nothing while the ranges have room");
    }
    connection.stop().wait(base::Deadline::in(kBetweenTries));
    connection.stop().check();
  }
}

void unlock_bumps(postgres::Connection& connection) {
  // Not pg_advisory_unlock alone, which warns where it isn't held.
  connection.exec(
      "SELECT pg_catalog.pg_advisory_unlock(1885823861, 3) FROM pg_catalog.pg_locks WHERE locktype = "
      "'advisory' "
      "AND classid = 1885823861 AND objid = 3 AND pid = pg_catalog.pg_backend_pid() AND granted");
}

void bump_live(postgres::Connection& connection, const std::vector<Bump>& bumps, Side side,
               const postgres::FencingToken& token) {
  const std::span<const Bump> all(bumps);
  for (std::size_t begin = 0; begin < all.size(); begin += kBatch) {
    const auto lot = all.subspan(begin, std::min(kBatch, all.size() - begin));
    std::vector<std::string> names;
    std::transform(lot.begin(), lot.end(), std::back_inserter(names),
                   [](const Bump& bump) { return postgres::quote_qualified(bump.schema, bump.name); });
    try {
      with_locked(connection, names, [&] {
        // Two of us at the same time could set a sequence back between the other's look and its setval.
        connection.exec("SELECT pg_catalog.pg_advisory_xact_lock(1885823861, 2)");
        token.assert_current(connection);
        check_overtaken(connection, connection.exec(set_live_sql(lot, side)), lot, side);
        probe(connection, lot, side);
        write_ledger(connection, lot, side, token);
      });
    } catch (base::Error& error) {
      if (error.sqlstate() == postgres::sqlstate::kUndefinedTable) {
        error.with_hint("it was dropped or renamed meanwhile: call `pgcutover sequences bump` again");
      }
      throw;
    }
  }
}

void apply_bumps(postgres::Connection& connection, const std::vector<Bump>& bumps, Side side,
                 const postgres::FencingToken& token) {
  const std::span<const Bump> all(bumps);
  for (std::size_t begin = 0; begin < all.size(); begin += kBatch) {
    apply_batch(connection, all.subspan(begin, std::min(kBatch, all.size() - begin)), side, token);
  }
}

}  // namespace sequences
