// How far one direction has been applied: one row, moved by compare-and-set in the same transaction as the
// rows.
//
// pgcutover.progress lives on the server that applies ("forward" on the target, "reverse" on the source). The
// first statement of every apply transaction moves applied_lsn from the expected value to the new one,
// provided the epoch is ours; otherwise it violates NOT NULL, so that a whole pipeline burst fails. A stale
// writer whose burst is still running holds the row's lock, so its successor waits until that is settled.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

// DDL (idempotent) of pgcutover.progress, pgcutover.conflict and pgcutover.twin.
std::string progress_schema_sql();

struct Progress {
  std::string direction;  // "forward" or "reverse"
  std::int64_t epoch = 0;
  base::Lsn applied_lsn;          // commit end LSN on the publishing server
  std::int64_t transactions = 0;  // source transactions since the beginning
  std::int64_t changes = 0;       // row changes since the beginning
};

std::optional<Progress> read_progress(postgres::Connection& connection, const std::string& direction);
// The same with the row's lock: waits for a transaction that is still moving it, so that its outcome is
// settled.
std::optional<Progress> read_settled_progress(postgres::Connection& connection, const std::string& direction);
// Creates the row at `start`, or moves an existing one to `start` where `restart` (a new stream from a
// drained moment).
void init_progress(postgres::Connection& connection, const std::string& direction, base::Lsn start,
                   std::int64_t epoch, bool restart);
// Takes the row over for a new epoch. Waits for a stale writer's transaction.
void adopt_progress(postgres::Connection& connection, const std::string& direction, std::int64_t epoch);

}  // namespace replication::apply
