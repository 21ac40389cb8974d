// Logical replication slots: made, read, advanced, dropped. All but create_slot are idempotent.
//
// Creating one waits for every transaction with an xid, of all databases of the cluster, that runs when it
// starts, and for prepared ones: whoever they are is named while it waits. Follows
// src/backend/replication/{slot,slotfuncs}.c and logical/snapbuild.c.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "replication/base/deadline.h"
#include "replication/base/error.h"
#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::stream {

// A stream that can't go on without losing changes, whatever is tried: the copy is needed again.
class StreamLost : public base::NeedsOperator {
 public:
  using base::NeedsOperator::NeedsOperator;
};
inline constexpr std::string_view kCopyAgain =
    "changes may be lost between the copy and here: the copy is needed again (cancel this migration and "
    "start anew)";

struct SlotState {
  std::string name;
  std::string plugin;  // empty: a physical slot
  std::string database;
  bool temporary = false;
  bool active = false;
  int active_pid = 0;
  base::Lsn restart_lsn;  // invalid where the slot was invalidated
  base::Lsn confirmed_flush_lsn;
  std::string wal_status;  // 13+: reserved, extended, unreserved, lost; "" on 12
  std::string
      invalidation_reason;  // 17+: wal_removed, rows_removed, idle_timeout...; "" where valid or before 17
  bool failover = false;    // 17+: a standby may keep it in step
  std::optional<std::int64_t> safe_wal_size;  // 13+, bytes; nothing = no limit
  std::uint64_t retained_bytes = 0;           // from restart_lsn to the current insert position

  // The WAL or the catalog rows it needs are gone: it can't be streamed any more, whatever is done.
  bool invalidated() const;
};
// `connection` may be a walsender session as well.
std::optional<SlotState> slot_state(postgres::Connection& connection, const std::string& name);

// Those with a transaction id, prepared ones among them, the oldest first: "pid 4711 app=web idle in
// transaction for 95 s". At most five by name; empty where there are none or they can't be seen.
std::string open_transactions(postgres::Connection& observer);

// While creation waits, called about once a second with those it waits for: "pid 4711 app=web idle in
// transaction for 95 s, prepared transaction 'x' for 7 s". In the caller's thread.
using WaitingFor = std::function<void(const std::string& blockers)>;

// A slot made on a walsender session together with its exported snapshot, which lives until the session's
// next command: import it elsewhere at once.
struct CreatedSlot {
  base::Lsn consistent_point;
  std::string snapshot_name;
};
// `connection` is of SessionKind::replication; `observer` is an ordinary session of the same server. Ends the
// wait at the deadline or a stop by cancelling; no slot is left then. Throws what the server says where the
// name is taken.
CreatedSlot create_slot(postgres::Connection& connection, postgres::Connection& observer,
                        const std::string& name, bool temporary, base::Deadline deadline,
                        const WaitingFor& waiting, bool failover = false);

// The same without a snapshot, over SQL (for the slot made ahead in the opposite direction): both sessions
// are ordinary ones of the slot's database. Nothing where a usable pgoutput slot of this name and database
// exists; a StateError where another one has the name.
void ensure_slot(postgres::Connection& connection, postgres::Connection& observer, const std::string& name,
                 base::Deadline deadline, const WaitingFor& waiting, bool failover = false);

// Moves an inactive slot forward to `lsn` (at most to what is flushed there); nothing where it is there or
// active.
void advance_slot(postgres::Connection& connection, const std::string& name, base::Lsn lsn);

// Ends a walsender that still holds it, waits until it is gone, drops it. Nothing where it doesn't exist.
void drop_slot(postgres::Connection& connection, const std::string& name, base::Deadline deadline);

}  // namespace replication::stream
