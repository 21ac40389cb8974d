// Publications and slots: made, checked, advanced, dropped. Every function is idempotent: asked twice, the second
// call changes nothing. Rules: the publication is committed before its slot is created; tables are listed explicitly,
// roots of partitioned tables (leaves on 12), never FOR ALL TABLES.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"

namespace replication::stream {

// DDL (idempotent) of pgcutover.marker: two rows, 1 for markers, 2 for the heartbeat. It is part of every publication.
std::string marker_schema_sql();

// Creates the publication for these tables plus pgcutover.marker, or checks that the existing one lists exactly them
// (another list is a StateError naming the difference).
void ensure_publication(postgres::Connection& connection, const std::string& name,
                        const std::vector<catalog::Table>& tables);
void drop_publication(postgres::Connection& connection, const std::string& name);

struct SlotState {
  std::string name;
  std::string plugin;
  std::string database;
  bool active = false;
  int active_pid = 0;
  base::Lsn restart_lsn;              // invalid where the slot was invalidated
  base::Lsn confirmed_flush_lsn;
  std::string wal_status;             // 13+: reserved, extended, unreserved, lost; "" on 12
  std::optional<std::int64_t> safe_wal_size;  // 13+, bytes; nothing = no limit
  std::uint64_t retained_bytes = 0;   // from restart_lsn to the current insert position
};
std::optional<SlotState> slot_state(postgres::Connection& connection, const std::string& name);

// A slot made on a walsender session together with its exported snapshot, which lives until the session's next
// command: import it elsewhere at once.
struct CreatedSlot {
  base::Lsn consistent_point;
  std::string snapshot_name;
};
// `connection` is of SessionKind::replication. While creation waits for old transactions, `waiting` is called about
// once a second with the blockers' description ("pid 4711 app=web idle in transaction for 95 s, prepared xact 'x'"),
// read over `observer`. Ends the wait at the deadline by cancelling, the slot is then gone.
CreatedSlot create_slot(postgres::Connection& connection, postgres::Connection& observer, const std::string& name,
                        bool temporary, base::Deadline deadline,
                        const std::function<void(const std::string&)>& waiting);
// The same without a snapshot, over SQL (for the slot made ahead in the opposite direction).
void ensure_slot(postgres::Connection& connection, const std::string& name, base::Deadline deadline,
                 const std::function<void(const std::string&)>& waiting);
// Moves an inactive slot forward to `lsn`; nothing where it is already there or active.
void advance_slot(postgres::Connection& connection, const std::string& name, base::Lsn lsn);
// Ends a walsender that still holds it, waits until it is gone, drops it. Nothing where it doesn't exist.
void drop_slot(postgres::Connection& connection, const std::string& name, base::Deadline deadline);

// Writes a token into the marker row with synchronous_commit=on and returns after the commit.
void write_marker(postgres::Connection& connection, const std::string& token);
// Touches the heartbeat row; its age when applied is the lag in seconds.
void write_heartbeat(postgres::Connection& connection);

}  // namespace replication::stream
