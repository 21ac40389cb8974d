// Every wait has a deadline. A Deadline is a point on the steady clock, so that a jump of the wall clock
// never lengthens or cuts a wait; a child's deadline is made with `sooner`, so that it can't outlive its
// parent's.
#pragma once

#include <chrono>
#include <optional>

namespace replication::base {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

class Deadline {
 public:
  static Deadline in(milliseconds span) { return Deadline(Clock::now() + span); }
  static Deadline at(Clock::time_point when) { return Deadline(when); }
  // Only for waits that a Stop ends (a stream, the controller's own loop).
  static Deadline never() { return Deadline(); }

  bool expired() const { return when_ && Clock::now() >= *when_; }
  // What is left, never negative; nothing where there is no deadline.
  std::optional<milliseconds> remaining() const;
  // For poll(2): milliseconds, rounded up, -1 for "no limit".
  int poll_timeout() const;
  Deadline sooner(Deadline other) const;

 private:
  Deadline() = default;
  explicit Deadline(Clock::time_point when) : when_(when) {}
  std::optional<Clock::time_point> when_;
};

}  // namespace replication::base
