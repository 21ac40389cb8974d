#include "replication/stream/marker.h"

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"

namespace replication::stream {
namespace {

// Microseconds since 2000-01-01: exact in the double that extract() gives before 14 as well.
constexpr const char* kNowUs =
    "((extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint - 946684800000000)";

// One round trip: several statements in one query string are one transaction, so that set_config(..., true)
// holds until its commit, and the last statement's answer comes after the commit.
void write_row(postgres::Connection& connection, int row, const std::string& token,
               const char* synchronous_commit) {
  PGCUTOVER_CHECK(!connection.in_transaction(), "a marker has to be a transaction of its own");
  const auto result = connection.exec(
      std::string("SELECT pg_catalog.set_config('synchronous_commit', '") + synchronous_commit +
      "', true); UPDATE pgcutover.marker SET token = " + postgres::quote_literal(token) +
      ", written_us = " + kNowUs + " WHERE id = " + std::to_string(row));
  if (result.affected_rows() != 1) {
    throw base::StateError("row " + std::to_string(row) + " of pgcutover.marker is missing",
                           "somebody removed it; run prepare again")
        .on(connection.server());
  }
}

}  // namespace

std::string marker_schema_sql() {
  return "CREATE SCHEMA IF NOT EXISTS pgcutover;\n"
         "CREATE TABLE IF NOT EXISTS pgcutover.marker (\n"
         "  id integer PRIMARY KEY CHECK (id IN (1, 2)),\n"
         "  token text NOT NULL,\n"
         "  written_us bigint NOT NULL);\n"
         "INSERT INTO pgcutover.marker (id, token, written_us) VALUES (1, '', 0), (2, '', 0) ON CONFLICT DO "
         "NOTHING;\n";
}

void write_marker(postgres::Connection& connection, const std::string& token) {
  write_row(connection, kMarkerRow, token, "on");
}

// `local`: a heartbeat isn't worth waiting for a standby.
void write_heartbeat(postgres::Connection& connection) {
  write_row(connection, kHeartbeatRow, "", "local");
}

}  // namespace replication::stream
