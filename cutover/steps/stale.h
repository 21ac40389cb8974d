// Materialized views that aren't what they should be on a side: a refresh failed, or a hand-over left them
// behind by choice. Remembered on the target by name, so that whoever looks is told, and whoever comes next
// tries again.
#pragma once

#include <string>
#include <vector>

#include "cutover/steps/handover.h"
#include "replication/snapshot/schema.h"

namespace cutover::steps {

using replication::snapshot::StaleMatview;

// From now on these of `side`, and no other.
void note_stale(Context& context, Side side, const std::vector<StaleMatview>& views);
std::vector<StaleMatview> stale_matviews(postgres::Connection& target, Side side);
// Refreshes what is noted of the side that takes writes; what still fails stays noted and is logged, and so
// is what keeps us from trying. Throws only where a stop is requested or our place was taken.
void refresh_stale(Context& context, Side side);

// `status`: one for each, on both sides.
base::Findings stale_findings(postgres::Connection& target);

// "materialized view m is not refreshed on the target: division by zero"
std::string stale_text(const StaleMatview& view, Side side);
// What to do about it.
std::string stale_remedy(const StaleMatview& view, Side side);

}  // namespace cutover::steps
