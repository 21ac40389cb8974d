// How fast the copy may go, shared by everybody who sends rows.
//
// Any thread. A Pace outlives the copy; the rate may be changed while it runs.
#pragma once

#include <cstdint>
#include <mutex>

#include "replication/base/deadline.h"
#include "replication/base/stop.h"

namespace replication::snapshot {

// A token bucket of one second's worth. Every sender says what it is about to send and is held up where that
// would be more than the rate allows.
class Pace {
 public:
  explicit Pace(std::int64_t bytes_per_second = 0) { set_rate(bytes_per_second); }
  // 0 = no limit. Those who wait notice a new rate within a quarter of a second.
  void set_rate(std::int64_t bytes_per_second);
  std::int64_t rate() const;
  // Nobody sends while it is held. Those who wait notice the end within a quarter of a second.
  void hold(bool held);
  // No further table is begun while starts are held; those under way go on. begin() waits; throws Stopped.
  void hold_starts(bool held);
  void begin(const base::Stop& stop) const;
  // Throws Stopped.
  void send(std::int64_t bytes, const base::Stop& stop);

 private:
  base::milliseconds reserve(std::int64_t bytes);  // how long until they may go; 0 = now, and they are booked

  mutable std::mutex mutex_;
  std::int64_t rate_ = 0;
  bool held_ = false, starts_held_ = false;
  double available_ = 0;
  base::Clock::time_point at_ = base::Clock::now();
};

}  // namespace replication::snapshot
