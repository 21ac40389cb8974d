// The entry of a hand-over in the list that `status` and `report` show. It is begun before anything is held
// and completed by whoever ends the hand-over: the one that began it, its guardian, or the next controller.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cutover/state/status.h"
#include "cutover/steps/handover.h"
#include "cutover/steps/stale.h"

namespace cutover::steps {

struct AttemptRecord {
  std::string direction;  // "switch", "rollback"
  std::int64_t began_us = 0;
  std::string left_behind = {};  // for people
  std::vector<StaleMatview> stale = {};
};

// Until it is completed this is what is known of it.
void begin_record(Context& context, const AttemptRecord& record);
// In one transaction: the entry, the materialized views that a hand-over left behind where it was done, and
// nothing is pending any more.
void complete_record(Context& context, const state::SwitchStatus& entry,
                     const std::vector<StaleMatview>& stale);
// Of a hand-over that was cut off and is settled by now, as the fences say. Nothing where none is pending.
void complete_cut_off_record(Context& context);

}  // namespace cutover::steps
