#include "replication/snapshot/pace.h"

#include <algorithm>

#include "replication/base/error.h"

namespace replication::snapshot {
namespace {

constexpr base::milliseconds kLook{250};

}  // namespace

void Pace::set_rate(std::int64_t bytes_per_second) {
  const std::lock_guard lock(mutex_);
  rate_ = std::max<std::int64_t>(bytes_per_second, 0);
  available_ = 0;
  at_ = base::Clock::now();
}

std::int64_t Pace::rate() const {
  const std::lock_guard lock(mutex_);
  return rate_;
}

void Pace::hold(bool held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
}

void Pace::hold_starts(bool held) {
  const std::lock_guard lock(mutex_);
  starts_held_ = held;
}

void Pace::begin(const base::Stop& stop) const {
  const auto may_begin = [this] {
    const std::lock_guard lock(mutex_);
    return !starts_held_;
  };
  while (!may_begin()) {
    if (stop.wait(base::Deadline::in(kLook))) {
      throw base::Stopped();
    }
  }
}

// The bucket may be overdrawn by one sender: a row larger than a second's worth has to pass as well.
base::milliseconds Pace::reserve(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (held_) {
    return kLook;
  }
  if (rate_ == 0) {
    return base::milliseconds(0);
  }
  const auto now = base::Clock::now();
  const double rate = static_cast<double>(rate_);
  available_ = std::min(rate, available_ + rate * std::chrono::duration<double>(now - at_).count());
  at_ = now;
  if (available_ > 0) {
    available_ -= static_cast<double>(bytes);
    return base::milliseconds(0);
  }
  return base::milliseconds(1 + static_cast<std::int64_t>(-available_ / rate * 1000));
}

void Pace::send(std::int64_t bytes, const base::Stop& stop) {
  for (;;) {
    const auto span = reserve(bytes);
    if (span.count() == 0) {
      return;
    }
    if (stop.wait(base::Deadline::in(std::min(span, kLook)))) {
      throw base::Stopped();
    }
  }
}

}  // namespace replication::snapshot
