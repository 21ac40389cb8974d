#include "replication/apply/worker.h"

#include <algorithm>

#include "replication/apply/stream_must_restart.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/sqlstate.h"

namespace replication::apply {
namespace {

// How long orders may go unnoticed while the queue is empty and the thread is not at a boundary.
constexpr base::milliseconds kQueueWait{10};
constexpr base::milliseconds kDurablePoll{50};
constexpr base::milliseconds kStoreInterval{1'000};
constexpr base::milliseconds kBackoffFirst{50}, kBackoffMax{5'000};
constexpr std::size_t kNotDurableMax = 10'000;

constexpr std::int64_t kEpoch2000Us = std::int64_t{946'684'800} * 1'000'000;  // since 1970

std::int64_t now_us() {  // since 2000
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count() - kEpoch2000Us;
}

}  // namespace

Worker::Worker(const ApplierOptions& options, stream::ChunkQueue& queue, Control& control,
               const base::Stop& stop)
    : options_(options),
      queue_(queue),
      control_(control),
      session_(options, stop),
      writer_(options.direction, options.token.epoch(), options.stop_at_conflict),
      collector_(options.filters, options.two_way,
                 [this](const pgoutput::CachedRelation& relation) -> const TargetTable& {
                   return look_up(relation);
                 }) {}

void Worker::run() noexcept {
  try {
    connect_first();
    loop();
    lose_session();
    control_.ended(nullptr);
  } catch (const base::Stopped&) {
    control_.ended(nullptr);
  } catch (const base::Error& error) {
    base::log::error("apply " + options_.direction + " ended: " + error.describe());
    control_.ended(std::current_exception());
  } catch (...) {
    control_.ended(std::current_exception());
  }
}

void Worker::connect_first() {
  settle(std::nullopt, [&] {
    const auto progress = session_.progress();
    stored_ = position_ = stats_.applied_lsn = stats_.counted_from_lsn = progress.applied_lsn;
    stats_.counted_since_us = now_us() + kEpoch2000Us;
    // What was committed before this process may have been lost by nothing but a crash, and then the row
    // shows it: durable once what is in the log now is flushed.
    note_target(stored_, writer_.position());
    return TargetPosition{};
  });
  control_.publish(stats_);
  control_.started(position_);
}

void Worker::loop() {
  while (!control_.stopping()) {
    const bool boundary = batch_.empty() && !collector_.in_transaction() && !writer_.open();
    if (boundary) {
      keep_account();
      control_.enter_boundary();
    }
    auto chunk = queue_.pop(base::Deadline::in(kQueueWait));
    if (boundary) {
      control_.leave_boundary();
    }
    if (chunk) {
      consume(*chunk);
    } else if (queue_.closed()) {
      control_.wait(base::Deadline::in(kDurablePoll));
    }
  }
}

bool Worker::batch_is_full() const {
  return batch_.changes.size() >= options_.batch_changes_max || batch_.bytes >= options_.batch_bytes_max;
}

void Worker::consume(const std::shared_ptr<const stream::Chunk>& chunk) {
  if (chunk->reset) {
    drop_unfinished();
  }
  for (std::size_t i = 0; i < chunk->messages() && !control_.stopping(); ++i) {
    const auto message = pgoutput::decode(chunk->message(i));
    if (const auto* begin = std::get_if<pgoutput::Begin>(&message)) {
      before_transaction(begin->final_lsn);
    }
    batch_.retain(chunk);
    collector_.take(message, position_, batch_, tally_);
    if (collector_.in_transaction()) {
      if (batch_is_full()) {
        flush_part();
      }
    } else if (batch_is_full() || writer_.open()) {
      flush();
    }
  }
  if (collector_.in_transaction() || control_.stopping()) {
    return;
  }
  if (chunk->drained || chunk->idle_until.valid()) {
    flush();
    if (chunk->idle_until > position_) {
      position_ = stats_.applied_lsn = chunk->idle_until;
      control_.publish(stats_);
    }
  }
}

void Worker::before_transaction(base::Lsn commit_lsn) {
  if (commit_lsn < position_ || control_.may_apply(commit_lsn)) {
    return;
  }
  flush();
  while (!control_.stopping() && !control_.may_apply(commit_lsn)) {
    keep_account();
    control_.park(commit_lsn, base::Deadline::in(kDurablePoll));
  }
}

void Worker::drop_unfinished() {
  // Everything that isn't committed here comes again: the new stream began at or below `position_`.
  if (parts_written_) {
    lose_session();  // and with it the transaction
  }
  parts_written_ = false;
  collector_.reset();
  batch_.clear();
  tally_ = {};
  parts_ = sent_ = {};
  approved_.clear();
}

void Worker::flush_part() {
  const auto transaction = batch_.transactions.back();
  settle(std::nullopt, [&] { return write(std::nullopt, 0, 0); });
  parts_ = std::move(sent_);
  parts_written_ = true;
  batch_.clear();
  batch_.transactions.push_back(transaction);
}

void Worker::flush_earlier() {
  if (batch_.transactions.size() < 2 || writer_.open()) {
    return;
  }
  Batch rest;
  batch_.move_last_transaction(rest);
  auto tally = tally_.split_off(rest);
  flush();
  rest.move_last_transaction(batch_);
  tally_ = std::move(tally);
}

void Worker::flush() {
  if (batch_.transactions.empty()) {  // nothing, or only what was applied before
    finish_flush(position_, std::nullopt);
    return;
  }
  const auto end = batch_.transactions.back().end_lsn;
  PGCUTOVER_CHECK(end > position_,
                  "commit end " + end.to_string() + " is not beyond " + position_.to_string());
  std::optional<TargetPosition> target;
  if (!batch_.changes.empty() || writer_.open()) {
    target = settle(end, [&] {
      return write(end, unstored_transactions_ + tally_.transactions, unstored_changes_ + tally_.changes);
    });
    stored_ = end;
    unstored_transactions_ = unstored_changes_ = 0;
    if (!target) {  // committed, the answer was lost
      target = settle(std::nullopt, [&] { return writer_.position(); });
    }
  } else {
    unstored_transactions_ += tally_.transactions;
    unstored_changes_ += tally_.changes;
    approve({}, batch_.transactions.back().commit_lsn);
  }
  finish_flush(end, target);
}

void Worker::approve(const WriteCounts& counts, base::Lsn commit_lsn) {
  sent_ = parts_;
  add(sent_.tables, counts.tables);
  sent_.row_mode = sent_.row_mode || counts.row_mode;
  auto ledger = tally_.ledger();
  add(ledger, sent_.tables);
  check_ledger(ledger, commit_lsn);
  approved_ = std::move(ledger);
}

void Worker::finish_flush(base::Lsn end, const std::optional<TargetPosition>& target) {
  position_ = stats_.applied_lsn = end;
  stats_.transactions += tally_.transactions;
  stats_.changes += tally_.changes;
  const auto counts = sum(approved_);
  stats_.filtered += counts.filtered;
  stats_.applied += counts.applied();
  stats_.compacted += counts.folded;
  stats_.conflicts += counts.conflicts;
  stats_.echoes += tally_.echoes;
  if (tally_.seen.valid()) {
    stats_.seen_lsn = tally_.seen;
  }
  stats_.row_mode_batches += sent_.row_mode ? 1 : 0;
  if (tally_.heartbeat_at_us != 0) {
    stats_.heartbeat_at_us = tally_.heartbeat_at_us;
    stats_.heartbeat_lag_seconds = static_cast<double>(now_us() - tally_.heartbeat_at_us) / 1e6;
  }
  if (tally_.markers.empty()) {
    stats_.changes_since_marker += tally_.changes_since_marker;
  } else {
    stats_.changes_since_marker = tally_.changes_since_marker;
    stats_.last_marker = tally_.markers.back().token;
  }
  const auto markers = std::exchange(tally_.markers, {});
  batch_.clear();
  tally_ = {};
  parts_ = sent_ = {};
  parts_written_ = false;
  control_.count(std::exchange(approved_, {}));
  if (target) {
    note_target(end, *target);
  }
  if (mended_ && options_.mended) {
    mended_ = !options_.mended(end);
  }
  control_.publish(stats_);
  for (const auto& marker : markers) {
    if (marker.ends_filter && options_.on_filter_passed) {
      options_.on_filter_passed(marker.token);
    }
    control_.marker_applied(marker.token, marker.end_lsn);
  }
}

std::optional<TargetPosition> Worker::settle(std::optional<base::Lsn> end,
                                             const std::function<TargetPosition()>& action) {
  const auto budget = base::Deadline::in(options_.retry_budget);
  auto backoff = kBackoffFirst;
  for (bool repeated = false;; repeated = true) {
    try {
      const bool opened = session_.ensure_open();
      if (opened) {
        writer_.attach(session_.connection());
      }
      // Also of a session that was given up for another reason: the server may have crashed meanwhile, and
      // what it lost may not count as flushed by a position it has now.
      if ((repeated || opened) && stored_.valid() && already_committed(repeated ? end : std::nullopt)) {
        return std::nullopt;
      }
      if (repeated && parts_written_) {
        throw StreamMustRestart("a large transaction was interrupted", options_.server_name);
      }
      return action();
    } catch (const StreamMustRestart&) {
      throw;
    } catch (const base::Error& error) {
      // A cancelled statement (an operator's or a watchdog's pg_cancel_backend) may be run again.
      const bool again = error.retryable() || error.sqlstate() == postgres::sqlstate::kQueryCanceled;
      if (!again || budget.expired() || control_.stopping()) {
        throw;
      }
      recover(error);
    }
    control_.wait(base::Deadline::in(backoff).sooner(budget));
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

void Worker::recover(const base::Error& error) {
  base::log::warn("apply " + options_.direction + ": " + error.describe() + "; trying again");
  try {
    if (session_.usable()) {
      writer_.rollback();
      return;
    }
  } catch (const base::Error&) {
    // lost as well
  }
  lose_session();
}

void Worker::lose_session() {
  writer_.detach();
  session_.close();
}

bool Worker::already_committed(std::optional<base::Lsn> end) {
  const auto progress = session_.progress();
  if (progress.applied_lsn == stored_) {
    return false;
  }
  if (end && progress.applied_lsn == *end) {
    return true;
  }
  if (progress.applied_lsn < stored_) {
    throw StreamMustRestart("the target lost its last commits (crash): it is at " +
                                progress.applied_lsn.to_string() + ", was at " + stored_.to_string(),
                            options_.server_name);
  }
  throw base::StateError("another controller took over: progress \"" + options_.direction + "\" is at " +
                         progress.applied_lsn.to_string() + ", this one left it at " + stored_.to_string())
      .on(options_.server_name);
}

void Worker::keep_account() {
  const auto now = base::Clock::now();
  const bool wanted = control_.durable_wanted() > stats_.durable_lsn;
  const bool unstored = position_ > stored_;
  if ((unstored && (now >= next_store_ || wanted)) || (wanted && !not_durable_.empty())) {
    // A flush takes milliseconds, for which live rows would wait: only where somebody waits for it as well.
    auto target = settle(position_ > stored_ ? std::optional(position_) : std::nullopt, [&] {
      return writer_.write_position(stored_, position_, unstored_transactions_, unstored_changes_, wanted);
    });
    stored_ = position_;
    unstored_transactions_ = unstored_changes_ = 0;
    next_store_ = now + kStoreInterval;
    if (wanted) {  // flushed before it was visible, and everything before it
      not_durable_.clear();
      note_target(position_, {});
    } else {
      if (!target) {  // the answer was lost
        target = settle(std::nullopt, [&] { return writer_.position(); });
      }
      note_target(position_, *target);
    }
    control_.publish(stats_);
  } else if (!not_durable_.empty() && now >= next_durable_poll_) {
    next_durable_poll_ = now + kDurablePoll;
    settle(std::nullopt, [&] {
      const auto target = writer_.position();
      advance_durable(target.flush_lsn);
      return target;
    });
    control_.publish(stats_);
  }
}

void Worker::note_target(base::Lsn end, const TargetPosition& target) {
  not_durable_.emplace_back(end, target.insert_lsn);
  if (not_durable_.size() > kNotDurableMax) {  // the later of two stands for both
    not_durable_.pop_front();
  }
  advance_durable(target.flush_lsn);
}

void Worker::advance_durable(base::Lsn target_flush_lsn) {
  bool advanced = false;
  while (!not_durable_.empty() && not_durable_.front().second <= target_flush_lsn) {
    stats_.durable_lsn = not_durable_.front().first;
    not_durable_.pop_front();
    advanced = true;
  }
  if (advanced && options_.on_durable) {
    options_.on_durable(stats_.durable_lsn);
  }
}

}  // namespace replication::apply
