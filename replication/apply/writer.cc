#include "replication/apply/writer.h"

#include <algorithm>

#include "replication/apply/row_mode.h"
#include "replication/apply/statements.h"
#include "replication/apply/truncation.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/sqlstate.h"

namespace replication::apply {
namespace {

const std::string kPositionSql =
    "SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_flush_lsn()";

// NULL, and so a NOT NULL violation, where the row isn't at `expected` or another controller has it; refused
// too where there is no such row.
const std::string kProgressSql = guarded_sql(
    "UPDATE pgcutover.progress SET applied_lsn = CASE WHEN applied_lsn = $2::pg_catalog.pg_lsn "
    "AND epoch = $3::pg_catalog.int8 THEN $4::pg_catalog.pg_lsn END, transactions = transactions + "
    "$5::pg_catalog.int8, changes = changes + $6::pg_catalog.int8, updated_at = pg_catalog.clock_timestamp() "
    "WHERE direction = $1",
    "1");

// Rows of a batch that goes in one burst with its COMMIT.
constexpr std::size_t kCommittedAtOnceMax = 200;

// A statement that somebody cancelled did nothing wrong.
bool worth_retrying(std::string_view sqlstate) {
  return postgres::sqlstate::retryable(sqlstate) || sqlstate == postgres::sqlstate::kQueryCanceled;
}

// Every statement of it is a set, which can be guarded.
bool only_sets(const Compacted& compacted) {
  return std::all_of(compacted.segments.begin(), compacted.segments.end(),
                     [](const Segment& segment) { return segment.ordered.empty(); });
}

}  // namespace

void Writer::attach(postgres::Connection& connection) {
  connection_ = &connection;
  statements_.emplace();
  open_ = savepoint_ = false;
  const auto sizes = connection.one_row(
      "SELECT pg_catalog.current_setting('wal_block_size')::pg_catalog.int8, "
      "pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))");
  wal_block_bytes_ = static_cast<std::uint64_t>(sizes.integer(0, 0));
  wal_segment_bytes_ = static_cast<std::uint64_t>(sizes.integer(0, 1));
}

void Writer::detach() {
  connection_ = nullptr;
  open_ = savepoint_ = false;
}

void Writer::rollback() {
  open_ = savepoint_ = false;
  if (connection_ != nullptr && connection_->usable() && connection_->in_transaction()) {
    connection_->exec("ROLLBACK");
  }
}

void Writer::open_part(Burst& burst, base::Lsn expected, std::optional<base::Lsn> end,
                       std::int64_t transactions, std::int64_t changes) {
  if (!open_) {
    burst.fixed("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE");
  } else {  // the part before it is in place: savepoints within savepoints cost each row more
    burst.fixed("RELEASE SAVEPOINT pgcutover_part");
  }
  // The first part of a large transaction only locks and checks the row (it is moved to where it is).
  if (!open_ || end) {
    postgres::Params params;
    params.text(std::string_view(direction_)).lsn(expected).integer(epoch_).lsn(end.value_or(expected));
    params.integer(end ? transactions : 0).integer(end ? changes : 0);
    burst.progress(kProgressSql, params);
  }
  if (open_ || !end) {
    burst.fixed("SAVEPOINT pgcutover_part");
    savepoint_ = true;
  }
}

void Writer::undo_part() {
  // Progress moves before the savepoint: what is undone is the rows alone.
  if (savepoint_) {
    connection_->exec("ROLLBACK TO SAVEPOINT pgcutover_part");
  } else {
    rollback();
  }
}

void Writer::check(const Burst::Report& report) const {
  if (!report.failure) {
    return;
  }
  const auto& failure = *report.failure;
  if (failure.what == Burst::What::progress && (failure.sqlstate == postgres::sqlstate::kNotNullViolation ||
                                                failure.sqlstate == postgres::sqlstate::kInvalidText)) {
    throw base::StateError("another controller took over: progress \"" + direction_ +
                               "\" is not where this one left "
                               "it (" +
                               failure.message + ")",
                           "look at `status`; this process has changed nothing since")
        .on(connection_->server())
        .with_sqlstate(failure.sqlstate);
  }
  if (worth_retrying(failure.sqlstate)) {
    throw base::Error(failure.message)
        .on(connection_->server())
        .with_sqlstate(failure.sqlstate)
        .set_retryable(true)
        .set_connection_usable(!postgres::sqlstate::ends_session(failure.sqlstate));
  }
  if (failure.what == Burst::What::progress) {  // nothing that the rows, sent in another way, would mend
    throw base::Error("progress can't be written: " + failure.message)
        .on(connection_->server())
        .with_sqlstate(failure.sqlstate);
  }
}

Writer::Attempt Writer::write_sets(const Compacted& compacted, bool with_commit,
                                   const std::function<void(Burst&)>& open,
                                   const std::function<void(const WriteCounts&)>& approve) {
  Burst burst(*connection_, *statements_);
  open(burst);
  if (with_commit) {
    burst.guard_sets();
  }
  WriteCounts counts;
  for (const auto& segment : compacted.segments) {
    for (const auto& net : segment.net) {
      burst.set(*net.table, Operation::remove, {}, net.deletes);
      for (const auto& group : net.updates) {
        burst.set(*net.table, Operation::update, group.unchanged, group.rows);
      }
      burst.set(*net.table, Operation::insert, {}, net.inserts);
      auto& table = counts.tables[net.table->display];
      table.folded += net.folded;
      table.moved += net.moved;
    }
    for (const auto& ordered : segment.ordered) {
      send_ordered(burst, *ordered.table, ordered.changes);
    }
    if (segment.truncate != nullptr) {
      burst.truncate(*segment.truncate);
    }
  }
  add_rows_sent(counts.tables, burst);
  if (with_commit) {
    approve(counts);
    base::fault_point("apply.before-commit");
    burst.commit();
    burst.fixed(kPositionSql);
  }
  auto report = burst.finish();
  if (report.committed) {
    PGCUTOVER_CHECK(with_commit && report.misses.empty(), "a statement that missed rows was committed");
    base::fault_point("apply.after-commit");
    return {std::nullopt, {}, committed(report)};
  }
  check(report);
  PGCUTOVER_CHECK(!with_commit || report.failure, "a COMMIT neither happened nor failed");
  if (!report.failure && report.misses.empty()) {
    approve(counts);
  }
  return {std::move(report.failure), std::move(report.misses), std::nullopt};
}

TargetPosition Writer::write(Batch& batch, base::Lsn expected, std::optional<base::Lsn> end,
                             std::int64_t transactions, std::int64_t changes,
                             const std::function<void(const WriteCounts&)>& approve) {
  PGCUTOVER_CHECK(connection_ != nullptr && connection_->usable(), "writing without a connection");
  savepoint_ = false;
  bool progress_sent = false;
  const auto open = [&](Burst& burst) {
    // Within a savepoint's transaction the row was moved already when the rows are sent a second time.
    if (!progress_sent || !savepoint_) {
      open_part(burst, expected, end, transactions, changes);
      progress_sent = true;
    }
  };
  for (auto& truncate : batch.truncates) {
    truncate.statements = emptying_sql(*connection_, truncate);
  }
  const auto compacted = compact(batch);
  if (compacted.compactable) {
    const bool with_commit =
        end && !open_ && compacted.net_rows <= kCommittedAtOnceMax && only_sets(compacted);
    const auto attempt = write_sets(compacted, with_commit, open, approve);
    if (attempt.committed) {
      return *attempt.committed;
    }
    if (!attempt.failure && attempt.misses.empty()) {
      open_ = true;
      return end ? commit() : TargetPosition{};
    }
    base::log::debug(
        "batch up to " + (end ? end->to_string() : "a part") + " is repeated change by change: " +
        (attempt.failure ? attempt.failure->sqlstate + " " + attempt.failure->message
                         : "a statement touched " + std::to_string(attempt.misses[0].touched) +
                               " rows instead of " + std::to_string(attempt.misses[0].expected)));
    undo_part();
  }
  RowMode row_mode(*connection_, *statements_, direction_, stop_at_conflict_);
  approve({row_mode.write(batch, open, [&](const Burst::Report& report) { check(report); }), true});
  open_ = true;
  return end ? commit() : TargetPosition{};
}

TargetPosition Writer::commit() {
  base::fault_point("apply.before-commit");
  Burst burst(*connection_, *statements_);
  burst.commit();
  burst.fixed(kPositionSql);
  const auto report = burst.finish();
  if (!report.committed) {
    check(report);
    throw base::Error("commit refused: " + (report.failure ? report.failure->message : "rolled back"))
        .on(connection_->server())
        .with_sqlstate(report.failure ? report.failure->sqlstate : "");
  }
  base::fault_point("apply.after-commit");
  return committed(report);
}

TargetPosition Writer::committed(const Burst::Report& report) {
  open_ = savepoint_ = false;
  if (report.failure) {  // of what came after it: whoever tries again asks the progress row first
    throw base::Error("committed, but the position is unknown: " + report.failure->message)
        .on(connection_->server())
        .with_sqlstate(report.failure->sqlstate)
        .set_retryable(true)
        .set_connection_usable(!postgres::sqlstate::ends_session(report.failure->sqlstate));
  }
  return target_position(report.last);
}

TargetPosition Writer::write_position(base::Lsn expected, base::Lsn end, std::int64_t transactions,
                                      std::int64_t changes, bool flushed) {
  PGCUTOVER_CHECK(!open_, "a position within a transaction");
  Burst burst(*connection_, *statements_);
  open_part(burst, expected, end, transactions, changes);
  if (flushed) {
    burst.fixed("SET LOCAL synchronous_commit = local");
  }
  burst.commit();
  burst.fixed(kPositionSql);
  const auto report = burst.finish();
  if (!report.committed) {
    check(report);
    throw base::Error("progress can't be written: " +
                      (report.failure ? report.failure->message : "rolled back"))
        .on(connection_->server())
        .with_sqlstate(report.failure ? report.failure->sqlstate : "");
  }
  return committed(report);
}

TargetPosition Writer::position() {
  return target_position(connection_->one_row(kPositionSql));
}

TargetPosition Writer::target_position(const postgres::Result& row) const {
  return {record_end(row.lsn(0, 0), wal_block_bytes_, wal_segment_bytes_), row.lsn(0, 1)};
}

base::Lsn record_end(base::Lsn insert_lsn, std::uint64_t block_bytes, std::uint64_t segment_bytes) {
  const bool first_page = insert_lsn.value % segment_bytes < block_bytes;
  const std::uint64_t header = first_page ? 40 : 24;
  return insert_lsn.value % block_bytes == header ? base::Lsn{insert_lsn.value - header} : insert_lsn;
}

}  // namespace replication::apply
