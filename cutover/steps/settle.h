// After the point of no return, and after a crash: the parts of a hand-over that are finished rather than
// undone.
#pragma once

#include "cutover/steps/handover.h"
#include "cutover/traffic/traffic.h"

namespace cutover::steps {

// What adapters ask before each action: that our epoch is still the current one on both servers that can be
// asked.
traffic::Guard traffic_guard(Context& context);

// Opens the other side, moves and releases the traffic, sets the closed side's sequences. Idempotent.
void finish_handover(Context& context, Side from, traffic::TrafficSet& traffic);

}  // namespace cutover::steps
