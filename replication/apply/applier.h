// Apply: one thread, one connection, whole source transactions in commit order, in set-based batches.
//
// A batch is closed when the receiver's socket had nothing more to give or a limit is reached, so that an
// idle system adds no delay and a backlog makes batches grow by itself; catch-up and live are one code path.
// Within a batch the changes of a row are compacted to one, sorted by key, and sent as a few statements in
// one pipeline burst: progress first (see progress.h), deletes, updates, inserts, COMMIT. A transaction
// larger than a batch becomes several such bursts in one target transaction. Where a set-based statement
// fails on a unique or exclusion constraint, or touches another number of rows than it was given, the batch
// is rolled back and repeated change by change in the source's order: the mode that can't be wrong, and that
// names the row. A change that then hits no row is recorded in pgcutover.conflict and counted; a constraint
// that still objects stops the stream with table, key and LSN.
//
// The controller's orders (hold, run_until, expect_marker) are the only way in from other threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "replication/apply/ledger.h"
#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/catalog/catalog.h"
#include "replication/pgoutput/relation_cache.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/fencing_token.h"
#include "replication/stream/receiver.h"

namespace replication::apply {

// A table's copy snapshot (see snapshot/copy.h): transactions visible in it are skipped for this table until
// the marker arrives.
struct SnapshotFilter {
  std::string schema, name;
  std::string snapshot;
  std::string marker;
};

// What was done about a relation that doesn't fit the target.
struct Mend {
  bool done = false;  // the target was changed: look again
  std::string text;   // what was run; where not done: why not, or what a person has to run. May be empty
};

struct ApplierOptions {
  postgres::ConnInfo server;  // where rows are written
  std::string server_name = "target";
  std::string direction = "forward";  // row of pgcutover.progress
  postgres::FencingToken token;
  std::vector<SnapshotFilter> filters;
  // Columns that are never written: an UPDATE keeps what a row has in them, an INSERT leaves the default.
  catalog::ColumnFilter left_out;
  // Tables are known by their OIDs on both sides, so that one that gets another's name isn't taken for it;
  // see twins.h. Not on a copy of a target, whose OIDs are others.
  bool keep_twins = false;
  // A change that meets no row is an Error with table, key and LSN, and nothing of its transaction is
  // applied; else it is recorded in pgcutover.conflict, counted, and apply goes on.
  bool stop_at_conflict = false;
  std::size_t batch_changes_max = 100'000;
  std::size_t batch_bytes_max = std::size_t{32} << 20;
  base::milliseconds retry_budget{300'000};
  // Both sides take writes, and what is written here streams back: the publication of this stream has
  // pgcutover.progress, and a transaction that begins with it is an echo of what was applied there and is
  // left out whole. Needs no replication origin, so no superuser.
  bool two_way = false;
  // A relation of the stream that doesn't fit the target (a column that only the source has) isn't the end
  // for so long: apply waits, says for what in ApplyStats::waiting_for, and goes on by itself once the
  // statement was run on the target. Nothing is lost or reordered, the slot keeps the changes. 0 = it ends at
  // once.
  base::milliseconds misfit_budget{0};
  // All of these may be empty, and are called in apply's thread while no transaction of it is open.
  // A relation doesn't fit; its first row that needs the new shape is of the transaction at `commit_lsn`.
  std::function<Mend(const pgoutput::CachedRelation& relation, base::Lsn commit_lsn)> mend;
  // A value was refused: may an enum lack a label? Neither done nor a text: no.
  std::function<Mend()> mend_types;
  // Everything up to here is applied, after a mend or a start: false where it wants to be called again.
  std::function<bool(base::Lsn applied)> mended;
  // Called (apply's thread) whenever more became durable on the target: feeds Receiver::set_durable_lsn.
  std::function<void(base::Lsn)> on_durable;
  // Called (apply's thread) when a filter's marker was applied, so that its owner can mark it as passed.
  std::function<void(const std::string& marker)> on_filter_passed;
};

struct ApplyStats {
  base::Lsn applied_lsn;                       // commit end LSN of the last applied transaction
  base::Lsn durable_lsn;                       // flushed on the target
  base::Lsn counted_from_lsn;                  // the numbers are of what was committed behind it,
  std::int64_t counted_since_us = 0;           // since 1970, when this applier began
  std::int64_t transactions = 0, changes = 0;  // received and dealt with
  std::int64_t applied = 0, compacted = 0, filtered = 0,
               conflicts = 0;  // changes = applied + compacted + filtered + conflicts; see ledger.h
  std::int64_t row_mode_batches = 0;
  std::int64_t echoes = 0;  // two-way: transactions left out, being echoes; their changes count nowhere
  // Two-way: what the publishing side had of the side that is written here, when it made the last
  // transaction. A row that was changed here behind this position by another than apply is changed on both.
  base::Lsn seen_lsn;
  double heartbeat_lag_seconds = -1;  // age of the last heartbeat when applied; -1 = none seen yet
  std::int64_t heartbeat_at_us = 0;   // source time of that heartbeat, since 2000-01-01
  std::int64_t changes_since_marker =
      0;  // row changes of published tables applied after the last marker: fence proof
  std::string last_marker;
  std::string waiting_for;  // not empty: what has to be done on the target before apply can go on
  bool held = false;
};

enum class WaitResult { reached, timed_out, failed };

class Applier {
 public:
  // `queue` outlives it. Throws Error where a filter's snapshot isn't one; everything else is seen in
  // failure().
  Applier(ApplierOptions options, stream::ChunkQueue& queue);
  ~Applier();
  Applier(const Applier&) = delete;
  Applier& operator=(const Applier&) = delete;

  void start();
  void stop();  // after the batch under way; idempotent; joins

  ApplyStats stats() const;
  // The changes of each table behind ApplyStats::counted_from_lsn, committed ones only. One that died leaves
  // none: its successor counts from where it begins.
  Ledger tables() const;
  // Why the thread ended, or null while it is alive or was stopped. A retryable() one means that the target
  // no longer has what was applied in memory (it lost commits in a crash, or a large transaction was
  // interrupted), or that values have to come as text from here on: stop the receiver too, make both and the
  // queue anew; the stream then begins at the stored position. Not within this object, since a receiver that
  // reconnected by itself in between may have begun too late.
  std::exception_ptr failure() const;
  // Where (re)started streams begin: the applied position, read from the target at start. Any thread; waits
  // for the first connection. Throws the failure where apply ended.
  base::Lsn start_lsn() const;

  // Waits until the marker with this token was applied and committed. On `reached`, marker_end is its
  // commit's end.
  WaitResult wait_marker(const std::string& token, base::Deadline deadline,
                         base::Lsn* marker_end = nullptr) const;
  // Waits until everything applied so far is flushed on the target.
  WaitResult wait_durable(base::Lsn lsn, base::Deadline deadline) const;

  // Holds apply after the transaction under way (the stream goes on being received, up to the queue's bound).
  WaitResult hold(base::Deadline deadline);
  // While held: applies every transaction whose commit LSN is below `lsn`, then holds again; `reached` once
  // that is so (some later transaction must arrive: write a marker after `lsn` was taken).
  WaitResult run_until(base::Lsn lsn, base::Deadline deadline);
  void release();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace replication::apply
