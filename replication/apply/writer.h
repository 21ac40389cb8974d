// Writes batches into the target: set-based where possible, else change by change; progress first, committed
// only where every statement has touched exactly the rows it was given.
//
// A batch is one target transaction, unless it is a part of a source transaction that is larger than a batch:
// then the target transaction stays open from part to part, each within a savepoint, and `end` comes with the
// last part. Many rows: COMMIT has a round trip of its own, once the counts were seen; counting inside the
// statements costs 10 % on every row (measured), and with growing batches the round trip vanishes. Few rows,
// for which somebody waits: COMMIT goes with them in one burst, whose statements fail on the server where
// they count other rows than they were given.
//
// Errors: a lost connection and refusals that may pass (deadlock, lock, resources) are retryable Errors;
// nothing was committed then unless the connection was lost: ask the progress row. A row that can't be
// written is an Error with table, key and LSN; a progress row that isn't ours a StateError. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replication/apply/batch.h"
#include "replication/apply/burst.h"
#include "replication/apply/compaction.h"
#include "replication/apply/ledger.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

struct WriteCounts {
  Ledger tables;  // what was folded and sent
  bool row_mode = false;
};

// Positions on the target right after a commit.
struct TargetPosition {
  base::Lsn insert_lsn;  // durable once flush_lsn has passed it
  base::Lsn flush_lsn;
};

// Where the last record before a server's insert position ends. Right after a page boundary that position
// counts the next page's header (40 bytes on the first page of a segment, 24 on others), which is not written
// before the next record comes: it would never seem flushed on an idle server. 40 on another page is no
// header, but the end of a record that began on the page before.
base::Lsn record_end(base::Lsn insert_lsn, std::uint64_t block_bytes, std::uint64_t segment_bytes);

class Writer {
 public:
  // `stop_at_conflict`: see ApplierOptions.
  Writer(std::string direction, std::int64_t epoch, bool stop_at_conflict)
      : direction_(std::move(direction)), epoch_(epoch), stop_at_conflict_(stop_at_conflict) {}

  // Takes part in the connection's session from now on; what was open on another one is gone.
  void attach(postgres::Connection& connection);
  void detach();
  // A target transaction is open: a part of a large source transaction was written.
  bool open() const { return open_; }
  void rollback();

  // `expected` is the progress row's position; `end` the new one, or nothing where more of the transaction
  // follows. With an `end` it is committed when this returns, without one nothing is. A retryable Error after
  // which the connection is usable may come after the COMMIT: the progress row tells.
  // `approve` is told what was sent, of this part, before anything is committed, and throws where that can't
  // be right.
  TargetPosition write(Batch& batch, base::Lsn expected, std::optional<base::Lsn> end,
                       std::int64_t transactions, std::int64_t changes,
                       const std::function<void(const WriteCounts&)>& approve);
  // Moves the progress row alone. `flushed`: waits for its flush on this server.
  TargetPosition write_position(base::Lsn expected, base::Lsn end, std::int64_t transactions,
                                std::int64_t changes, bool flushed);
  TargetPosition position();

 private:
  struct Attempt {
    std::optional<Burst::Failure> failure;
    std::vector<Burst::Miss> misses;
    std::optional<TargetPosition> committed;
  };
  void open_part(Burst& burst, base::Lsn expected, std::optional<base::Lsn> end, std::int64_t transactions,
                 std::int64_t changes);
  Attempt write_sets(const Compacted& compacted, bool with_commit, const std::function<void(Burst&)>& open,
                     const std::function<void(const WriteCounts&)>& approve);
  TargetPosition commit();
  // Of a burst that ended with COMMIT and a look at the position, where that COMMIT happened.
  TargetPosition committed(const Burst::Report& report);
  void undo_part();
  void check(const Burst::Report& report) const;
  TargetPosition target_position(const postgres::Result& row) const;

  const std::string direction_;
  const std::int64_t epoch_;
  const bool stop_at_conflict_;
  postgres::Connection* connection_ = nullptr;
  std::optional<StatementCache> statements_;
  std::uint64_t wal_block_bytes_ = 0, wal_segment_bytes_ = 0;
  bool open_ = false;       // a target transaction is open between parts
  bool savepoint_ = false;  // the part under way has one
};

}  // namespace replication::apply
