// How many rows a table is going to bring, for the progress of its copy.
//
// Bytes on the wire are no measure of how far a table is: compressed values are many times larger there, and
// a table of integers is a third of its heap. Rows are one, where their number is known.
#pragma once

#include <map>
#include <vector>

#include "replication/catalog/catalog.h"

namespace replication::snapshot {

using RowEstimates = std::map<const catalog::Table*, double>;  // > 0 each

// The largest tables are looked at, a few blocks of each: statistics may be old, or not there. The others
// have what the statistics give for their size of now, or no entry. A table that is locked isn't waited for.
// Sets lock_timeout for the session.
RowEstimates estimate_rows(postgres::Connection& source, const std::vector<const catalog::Table*>& tables);

}  // namespace replication::snapshot
