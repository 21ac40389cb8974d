#include "replication/apply/control.h"

#include <algorithm>

#include "replication/base/error.h"

namespace replication::apply {

template <typename Condition>
WaitResult Control::wait_for(std::unique_lock<std::mutex>& lock, base::Deadline deadline,
                             Condition condition) {
  const auto settled = [&] { return condition() || ended_; };
  if (const auto left = deadline.remaining()) {
    changed_.wait_for(lock, *left, settled);
  } else {
    changed_.wait(lock, settled);
  }
  return condition() ? WaitResult::reached : ended_ ? WaitResult::failed : WaitResult::timed_out;
}

void Control::arrive() {
  if (run_until_ && stats_.applied_lsn >= *run_until_) {
    run_until_.reset();
  }
  if (hold_wanted_ && !run_until_ && !held_) {
    held_ = true;
    changed_.notify_all();
  }
}

WaitResult Control::hold(base::Deadline deadline) {
  std::unique_lock lock(mutex_);
  hold_wanted_ = true;
  run_until_.reset();
  if (at_boundary_) {
    arrive();
  }
  return wait_for(lock, deadline, [&] { return held_; });
}

WaitResult Control::run_until(base::Lsn lsn, base::Deadline deadline) {
  std::unique_lock lock(mutex_);
  hold_wanted_ = true;
  if (held_ && stats_.applied_lsn >= lsn) {
    return WaitResult::reached;
  }
  run_until_ = lsn;
  held_ = false;
  changed_.notify_all();
  const auto result = wait_for(lock, deadline, [&] { return held_; });
  if (result != WaitResult::reached) {
    run_until_.reset();  // holds at the next boundary
    if (at_boundary_) {
      arrive();
    }
  }
  return result;
}

void Control::release() {
  const std::lock_guard lock(mutex_);
  hold_wanted_ = held_ = false;
  run_until_.reset();
  changed_.notify_all();
}

void Control::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

std::optional<base::Lsn> Control::marker(const std::string& token) const {
  const auto found = std::find_if(markers_.rbegin(), markers_.rend(),
                                  [&](const auto& entry) { return entry.first == token; });
  return found == markers_.rend() ? std::nullopt : std::optional(found->second);
}

WaitResult Control::wait_marker(const std::string& token, base::Deadline deadline, base::Lsn* marker_end) {
  std::unique_lock lock(mutex_);
  const auto result = wait_for(lock, deadline, [&] { return marker(token).has_value(); });
  if (result == WaitResult::reached && marker_end != nullptr) {
    *marker_end = *marker(token);
  }
  return result;
}

WaitResult Control::wait_durable(base::Lsn lsn, base::Deadline deadline) {
  std::unique_lock lock(mutex_);
  durable_wanted_ = std::max(durable_wanted_, lsn);
  account_wanted_ = true;
  changed_.notify_all();
  return wait_for(lock, deadline, [&] { return stats_.durable_lsn >= lsn; });
}

base::Lsn Control::start_lsn() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return started_ || ended_; });
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  if (!started_) {
    throw base::Stopped("apply was stopped before it had connected");
  }
  return stats_.applied_lsn;
}

ApplyStats Control::stats() {
  const std::lock_guard lock(mutex_);
  auto stats = stats_;
  stats.held = held_;
  return stats;
}

Ledger Control::tables() {
  const std::lock_guard lock(mutex_);
  return tables_;
}

std::exception_ptr Control::failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

bool Control::wait_ended(base::Deadline deadline) {
  std::unique_lock lock(mutex_);
  wait_for(lock, deadline, [&] { return ended_; });
  return ended_;
}

void Control::started(base::Lsn position) {
  const std::lock_guard lock(mutex_);
  stats_.applied_lsn = position;
  started_ = true;
  changed_.notify_all();
}

void Control::ended(std::exception_ptr failure) {
  const std::lock_guard lock(mutex_);
  failure_ = std::move(failure);
  ended_ = true;
  changed_.notify_all();
}

bool Control::stopping() {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

bool Control::may_apply(base::Lsn commit_lsn) {
  const std::lock_guard lock(mutex_);
  return !hold_wanted_ || (run_until_ && commit_lsn < *run_until_);
}

void Control::park(base::Lsn next_commit_lsn, base::Deadline deadline) {
  std::unique_lock lock(mutex_);
  if (run_until_ && next_commit_lsn >= *run_until_) {
    run_until_.reset();
  }
  arrive();
  const auto something_to_do = [&] { return stopping_ || !hold_wanted_ || run_until_ || account_wanted_; };
  changed_.wait_for(lock, deadline.remaining().value_or(base::milliseconds{0}), something_to_do);
  account_wanted_ = false;
}

void Control::enter_boundary() {
  const std::lock_guard lock(mutex_);
  at_boundary_ = true;
  arrive();
}

void Control::leave_boundary() {
  const std::lock_guard lock(mutex_);
  at_boundary_ = false;
}

void Control::wait(base::Deadline deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, deadline.remaining().value_or(base::milliseconds{0}), [&] { return stopping_; });
}

void Control::publish(const ApplyStats& stats) {
  const std::lock_guard lock(mutex_);
  stats_ = stats;
  if (at_boundary_) {
    arrive();
  }
  changed_.notify_all();
}

void Control::count(const Ledger& ledger) {
  const std::lock_guard lock(mutex_);
  add(tables_, ledger);
}

void Control::marker_applied(const std::string& token, base::Lsn end_lsn) {
  const std::lock_guard lock(mutex_);
  markers_.emplace_back(token, end_lsn);
  if (markers_.size() > kMarkersMax) {
    markers_.pop_front();
  }
  changed_.notify_all();
}

base::Lsn Control::durable_wanted() {
  const std::lock_guard lock(mutex_);
  return durable_wanted_;
}

}  // namespace replication::apply
