// Waiting for a stated condition. Tests never sleep for a guess of a time: they say what they wait for, and a
// time-out names it.
#pragma once

#include <functional>
#include <string_view>

#include "replication/base/deadline.h"

namespace harness {

using replication::base::Deadline;
using replication::base::milliseconds;

// Polls `condition` every 20 ms. Throws base::TimeoutError("timed out waiting until WHAT") at the deadline;
// the condition is asked at least once, and once more after the deadline has passed, so that a slow machine
// doesn't fail what is true by now.
void wait_until(Deadline deadline, std::string_view what, const std::function<bool()>& condition);

}  // namespace harness
