#include "tests/harness/wait.h"

#include <poll.h>
#include <string>

#include "replication/base/error.h"

namespace harness {

void wait_until(Deadline deadline, std::string_view what, const std::function<bool()>& condition) {
  constexpr int kIntervalMs = 20;
  for (;;) {
    const bool last = deadline.expired();
    if (condition()) {
      return;
    }
    if (last) {
      throw replication::base::TimeoutError("timed out waiting until " + std::string(what));
    }
    ::poll(nullptr, 0, kIntervalMs);
  }
}

}  // namespace harness
