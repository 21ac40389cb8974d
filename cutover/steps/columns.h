// Columns that are left out (tables: {exclude-columns: ...}) while a migration lasts.
//
// The choice is kept on the target: it may become wider, never narrower, since what wasn't copied and
// streamed so far would be missing without a word. One thread: the controller's.
#pragma once

#include "cutover/steps/handover.h"

namespace cutover::steps {

// Keeps the plan's choice. StateError where an earlier run left out what this plan doesn't, or where what is
// left out from now on can't be.
void keep_columns(Context& context);
// The patterns that a run keeps on this target.
std::vector<std::string> kept_columns(postgres::Connection& target);
// Before a hand-over: what can't be left out of either side's tables by now (blocks), and what stays behind.
void column_findings(Context& context, Side from, base::Findings& findings);

}  // namespace cutover::steps
