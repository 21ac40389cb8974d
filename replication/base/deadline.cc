#include "replication/base/deadline.h"

#include <algorithm>
#include <limits>

namespace replication::base {

std::optional<milliseconds> Deadline::remaining() const {
  if (!when_) {
    return std::nullopt;
  }
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(*when_ - Clock::now()));
}

int Deadline::poll_timeout() const {
  const auto left = remaining();
  if (!left) {
    return -1;
  }
  return static_cast<int>(std::min<milliseconds::rep>(left->count(), std::numeric_limits<int>::max()));
}

Deadline Deadline::sooner(Deadline other) const {
  if (!when_) {
    return other;
  }
  return other.when_ && *other.when_ < *when_ ? other : *this;
}

}  // namespace replication::base
