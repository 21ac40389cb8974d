// A rate that settles within seconds and follows a change within half a minute: what was done in the last 30
// seconds, never counting what an earlier run had done. One thread, or under its user's lock.
#pragma once

#include <cstdint>
#include <deque>

#include "replication/base/deadline.h"

namespace cutover::steps {

class RateWindow {
 public:
  // Units a second; -1 while less than a second is known.
  double rate(std::int64_t done, replication::base::Clock::time_point now) {
    if (seen_.empty() || now - seen_.back().at >= std::chrono::milliseconds(500)) {
      seen_.push_back({now, done});
    }
    while (seen_.size() > 2 && now - seen_[1].at >= std::chrono::seconds(30)) {
      seen_.pop_front();
    }
    const auto seconds = std::chrono::duration<double>(now - seen_.front().at).count();
    return seconds < 1 ? -1 : static_cast<double>(done - seen_.front().done) / seconds;
  }

 private:
  struct Seen {
    replication::base::Clock::time_point at;
    std::int64_t done;
  };
  std::deque<Seen> seen_;  // at most 62
};

}  // namespace cutover::steps
