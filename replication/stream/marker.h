// Marks in the stream: a committed row that is read back from it proves that everything before it has
// arrived.
//
//   pgcutover.marker (id integer PRIMARY KEY, token text, written_us bigint)
//
// Row 1 holds the last marker's token, row 2 the heartbeat. written_us is the publisher's clock in
// microseconds since 2000-01-01 UTC, as in a commit message. The table is part of every publication; rows
// arrive as updates of the whole row, in text or, where the stream is binary, as text and int8. Nobody else
// writes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "replication/postgres/connection.h"

namespace replication::stream {

inline constexpr std::string_view kMarkerSchema = "pgcutover";
inline constexpr std::string_view kMarkerTable = "marker";
inline constexpr int kMarkerRow = 1;
inline constexpr int kHeartbeatRow = 2;

// DDL, idempotent; includes the schema and both rows.
std::string marker_schema_sql();

// Writes a token and returns after a commit with synchronous_commit=on. Not inside a transaction.
void write_marker(postgres::Connection& connection, const std::string& token);
// Touches the heartbeat row; its age when applied is the lag in seconds. It only grows, also where a clock
// is set back, and it is never written over one that is older than `arrived`, the latest that came in the
// stream: StreamLost then, since this server lacks what came from it. Returns it. Not inside a transaction.
std::int64_t write_heartbeat(postgres::Connection& connection, std::int64_t arrived);
std::int64_t read_heartbeat(postgres::Connection& connection);
// What it means that `there` is older than what arrived.
std::string heartbeat_text(std::int64_t there, std::int64_t arrived);

}  // namespace replication::stream
