#include "cutover/cli/watch.h"

#include "replication/base/error.h"

namespace cutover::cli {

void watch(base::milliseconds interval, const base::Stop& stop, const std::function<void()>& look) {
  try {
    do {
      look();
    } while (!stop.wait(base::Deadline::in(interval)));
  } catch (const base::Stopped&) {
  }
}

}  // namespace cutover::cli
