#include "replication/stream/marker.h"

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/stream/slot.h"

namespace replication::stream {
namespace {

// Microseconds since 2000-01-01: exact in the double that extract() gives before 14 as well.
constexpr const char* kNowUs =
    "((extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint - 946684800000000)";

// One round trip: several statements in one query string are one transaction, so that set_config(..., true)
// holds until its commit, and the last statement's answer comes after the commit.
postgres::Result write_row(postgres::Connection& connection, const std::string& update,
                           const char* synchronous_commit) {
  PGCUTOVER_CHECK(!connection.in_transaction(), "a marker has to be a transaction of its own");
  return connection.exec(std::string("SELECT pg_catalog.set_config('synchronous_commit', '") +
                         synchronous_commit + "', true); UPDATE pgcutover.marker SET " + update);
}

[[noreturn]] void throw_missing(postgres::Connection& connection, int row) {
  throw base::StateError("row " + std::to_string(row) + " of pgcutover.marker is missing",
                         "somebody removed it; run prepare again")
      .on(connection.server());
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
  const auto result = write_row(connection,
                                "token = " + postgres::quote_literal(token) + ", written_us = " + kNowUs +
                                    " WHERE id = " + std::to_string(kMarkerRow),
                                "on");
  if (result.affected_rows() != 1) {
    throw_missing(connection, kMarkerRow);
  }
}

// `local`: a heartbeat isn't worth waiting for a standby.
std::int64_t write_heartbeat(postgres::Connection& connection, std::int64_t arrived) {
  const auto result = write_row(connection,
                                std::string("written_us = GREATEST(") + kNowUs +
                                    ", written_us + 1) WHERE id = " + std::to_string(kHeartbeatRow) +
                                    " AND written_us >= " + std::to_string(arrived) + " RETURNING written_us",
                                "local");
  if (result.rows() != 1) {
    StreamLost error(heartbeat_text(read_heartbeat(connection), arrived), std::string(kCopyAgain));
    error.on(connection.server());
    throw error;
  }
  return result.integer(0, 0);
}

std::int64_t read_heartbeat(postgres::Connection& connection) {
  const auto written =
      connection.exec("SELECT written_us FROM pgcutover.marker WHERE id = " + std::to_string(kHeartbeatRow));
  if (written.rows() != 1) {
    throw_missing(connection, kHeartbeatRow);
  }
  return written.integer(0, 0);
}

std::string heartbeat_text(std::int64_t there, std::int64_t arrived) {
  return "the server's last heartbeat is " + std::to_string((arrived - there) / 1000) +
         " ms older than one that came from it before: it was set back to an earlier state, or is another "
         "copy "
         "of the server";
}

}  // namespace replication::stream
