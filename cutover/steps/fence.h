// Who may write where: the fence of one side, its record, and the locks that hold writers during a hand-over.
//
//   state of a side (pgcutover.fence)
//
//        begin_attempt          close_connections             pass_authority (point of no return)
//   open ─────────────▶ fencing ─────────────▶ fenced ─────────────────────────────────▶ closed
//    ▲                     │                      │                                          │
//    └─────── undo ────────┴──────────────────────┘                                          │
//    └───────────────────────────── open_side (only where the other side is closed) ◀────────┘
//
// Every arrow is one transaction on that side that also checks the controller's epoch; undo and
// pass_authority exclude each other by the row's lock. The target is `closed` from the beginning. CONNECT is
// what is taken away (from PUBLIC, every grantee and the owner); our own role keeps it. Superusers can't be
// kept out this way: `check` blocks on them. Sessions that were there before are ended. The original grants
// are kept in the row and restored exactly.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cutover/steps/side.h"
#include "replication/apply/progress.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/fencing_token.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {

enum class FenceState { open, fencing, fenced, closed };
std::string_view to_string(FenceState state);

struct Fence {
  FenceState state = FenceState::open;
  int switches = 0;  // how often authority moved, as this side knows
  std::optional<std::string>
      attempt;  // a hand-over from here whose last step isn't done (traffic may be held)
  std::optional<std::vector<std::string>> connect_grants;  // saved; nothing where CONNECT wasn't taken away
  std::optional<base::Lsn> marker_lsn;
};
Fence read_fence(postgres::Connection& connection);

// A side that is closed from the beginning (the target). Idempotent.
void close_from_the_start(postgres::Connection& connection, const postgres::FencingToken& token);

void begin_attempt(postgres::Connection& from, const postgres::FencingToken& token,
                   const std::string& attempt);
// Takes CONNECT away, ends the sessions that are left, waits until none is. Throws where a prepared
// transaction of this database is left or a session doesn't end. Returns how many sessions were ended.
int close_connections(postgres::Connection& from, const postgres::FencingToken& token,
                      const std::string& attempt, base::Lsn marker_lsn, base::Deadline deadline);

// The point of no return: one COMMIT on `from`. In the same transaction the progress row of the opposite
// stream is set to `opposite_start` on this server, which is where that stream will be applied.
postgres::CommitOutcome pass_authority(postgres::Connection& from, const postgres::FencingToken& token,
                                       const std::string& attempt, Side side, base::Lsn opposite_start);
// Gives up an attempt: grants back, state open. False where authority had already been passed. StateError
// where another controller is at it.
bool undo_attempt(postgres::Connection& from, const postgres::FencingToken& token);
// Opens `to` once `from` is closed: grants back, state open, the count of switches taken over.
void open_side(postgres::Connection& to, const postgres::FencingToken& token, int switches);
// The hand-over's last step is done: traffic flows.
void clear_attempt(postgres::Connection& from, const postgres::FencingToken& token);

// The CONNECT grants of this database, each "g:role" with grant option or "-:role" without; the empty name is
// PUBLIC.
std::vector<std::string> connect_grants(postgres::Connection& connection);
// The statements that give these grants back.
std::vector<std::string> grant_statements(const std::string& database,
                                          const std::vector<std::string>& grants);

// Locks that let readers read and keep every writer out of the published tables, in a session of its own:
// they go with the session.
struct LockOptions {
  base::milliseconds lock_timeout{300};
  int polite_attempts = 3;
  bool cancel_blockers = false;
};
void lock_tables(postgres::Connection& session, postgres::Connection& observer,
                 const std::vector<catalog::Table>& published, const LockOptions& options,
                 base::Deadline deadline);

}  // namespace cutover::steps
