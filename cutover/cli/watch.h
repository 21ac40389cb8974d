// Verbs that look again and again: being interrupted is how they end, not a failure.
#pragma once

#include <functional>

#include "replication/base/deadline.h"
#include "replication/base/stop.h"

namespace cutover::cli {

namespace base = replication::base;

// Calls `look` every `interval` until a stop is requested, also in the middle of a look. Throws what `look`
// throws otherwise.
void watch(base::milliseconds interval, const base::Stop& stop, const std::function<void()>& look);

}  // namespace cutover::cli
