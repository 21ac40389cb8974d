// Comparing both sides of a live migration at one LSN.
//
// Apply is held, a temporary slot on the publishing side gives a snapshot together with its exact LSN C,
// apply goes on to the last transaction before C, the other side's snapshot is taken there, apply goes on. It
// is held for as long as the slot's creation waits for open transactions, with a limit.
#pragma once

#include <functional>

#include "cutover/steps/handover.h"
#include "cutover/steps/link.h"
#include "replication/verify/compare.h"

namespace cutover::steps {

// `progress` gets tables done and total. Throws where the slot can't be made within the limit (nothing is
// held then).
replication::verify::Comparison compare_live(Context& context, Link& link,
                                             const std::function<void(std::int64_t, std::int64_t)>& progress);

// For people: a line per table that isn't equal, and the sum.
std::string comparison_text(const replication::verify::Comparison& comparison);
std::string comparison_json(const replication::verify::Comparison& comparison);

}  // namespace cutover::steps
