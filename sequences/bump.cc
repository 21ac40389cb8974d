#include <algorithm>
#include <span>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
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
    const bool ends = side == Side::opens && bump.is_called && !bump.cycle;
    sql += (sql.empty() ? "" : ", ");
    sql += "(" + std::to_string(token.epoch()) + ", " + postgres::quote_literal(bump.schema) + ", " +
           postgres::quote_literal(bump.name) + ", " + (side == Side::opens ? "'opens'" : "'closes'") + ", " +
           std::to_string(bump.increment) + ", " + std::to_string(bump.from) + ", " +
           std::to_string(wanted_value(bump, side)) + ", " + (bump.is_called ? "true" : "false") + ", " +
           (ends ? std::to_string(bump.source_value) : "NULL") + ")";
  }
  connection.none(
      "INSERT INTO pgcutover.sequence_ledger (epoch, sequence_schema, sequence_name, side, increment, "
      "handed_out, "
      "last_value, is_called, reserved_until) VALUES " +
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
COMMENT ON TABLE pgcutover.sequence_ledger IS
  'ids behind last_value, up to reserved_until, may be handed out by this server';
)";
}

void apply_bumps(postgres::Connection& connection, const std::vector<Bump>& bumps, Side side,
                 const postgres::FencingToken& token) {
  const std::span<const Bump> all(bumps);
  for (std::size_t begin = 0; begin < all.size(); begin += kBatch) {
    apply_batch(connection, all.subspan(begin, std::min(kBatch, all.size() - begin)), side, token);
  }
}

}  // namespace sequences
