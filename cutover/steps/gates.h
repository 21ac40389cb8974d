// What a hand-over refuses for, looked at right before it begins: outside the pause, without changing
// anything.
#pragma once

#include "cutover/steps/handover.h"

namespace cutover::steps {

// Those that the plan accepts only warn. One thread; waits for a marker, at most gates.max-lag. Errors: those
// of the servers.
base::Findings handover_findings(Context& context, Side from, Link& link);

}  // namespace cutover::steps
