// Who copies what: the order of the work, decided before the first row moves. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "replication/catalog/catalog.h"

namespace replication::snapshot {

struct CopyPlan {
  using Tables = std::vector<const catalog::Table*>;
  // Copied in parts, one table after the other, each by all workers; the largest first.
  Tables split;
  // The rest: each item is one worker's, one table or several small ones that share a transaction. The
  // largest first: the last one to end should be a small one.
  std::vector<Tables> items;
  std::int64_t part_bytes = 0;  // size of a part
};

// `split_above_bytes` as in CopyOptions.
CopyPlan plan_copy(CopyPlan::Tables tables, int jobs, std::int64_t split_above_bytes, int source_major);

}  // namespace replication::snapshot
