// A queue between two threads, bounded in items and in bytes. The only way in which threads share work.
//
// Items are moved in and out. `push` waits while the queue is full (one item larger than the limit is let in
// when the queue is empty, so that it can pass at all). `close` ends it: pushes fail, pops drain what is
// left.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "replication/base/deadline.h"

namespace replication::base {

template <typename T>
class BoundedQueue {
 public:
  BoundedQueue(std::size_t items_max, std::size_t bytes_max) : items_max_(items_max), bytes_max_(bytes_max) {}

  // False where the deadline passed or the queue is closed; `item` is untouched then.
  [[nodiscard]] bool push(T&& item, std::size_t bytes, Deadline deadline) {
    std::unique_lock lock(mutex_);
    if (!wait(lock, not_full_, deadline, [&] { return closed_ || has_room(bytes); }) || closed_) {
      return false;
    }
    items_.emplace_back(std::move(item), bytes);
    bytes_ += bytes;
    not_empty_.notify_one();
    return true;
  }

  // Nothing where the deadline passed, or the queue is closed and drained.
  [[nodiscard]] std::optional<T> pop(Deadline deadline) {
    std::unique_lock lock(mutex_);
    if (!wait(lock, not_empty_, deadline, [&] { return closed_ || !items_.empty(); }) || items_.empty()) {
      return std::nullopt;
    }
    auto [item, bytes] = std::move(items_.front());
    items_.pop_front();
    bytes_ -= bytes;
    not_full_.notify_one();
    return std::move(item);
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    not_empty_.notify_all();
    not_full_.notify_all();
  }

  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }
  std::size_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  bool has_room(std::size_t bytes) const {
    return items_.empty() || (items_.size() < items_max_ && bytes_ + bytes <= bytes_max_);
  }
  template <typename Condition>
  static bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& variable, Deadline deadline,
                   Condition condition) {
    const auto left = deadline.remaining();
    if (!left) {
      variable.wait(lock, condition);
      return true;
    }
    return variable.wait_for(lock, *left, condition);
  }

  mutable std::mutex mutex_;
  std::condition_variable not_empty_, not_full_;
  std::deque<std::pair<T, std::size_t>> items_;
  std::size_t bytes_ = 0;
  const std::size_t items_max_, bytes_max_;
  bool closed_ = false;
};

}  // namespace replication::base
