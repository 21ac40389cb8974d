// The keys of a plan: the one table from which a plan is read, written and explained. For this room only.
#pragma once

#include "cutover/plan/plan.h"
#include "cutover/plan/reader.h"

namespace cutover::plan {

// Bound to `plan`, which must outlive the table.
Fields plan_fields(Plan& plan);

}  // namespace cutover::plan
