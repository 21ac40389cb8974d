// Whether a transaction is visible in a snapshot, decided by its 32-bit top-level xid: visibility decides,
// never position. Follows pg_snapshot's text "xmin:xmax:xip,xip" (src/backend/utils/adt/xid8funcs.c). Pure.
//
// An xid on the wire has lost its epoch; it is completed to the full xid nearest to the snapshot's xmax,
// which is right within 2^31 transactions. The caller uses a filter only until its marker was applied, far
// below that.
#pragma once

#include <string_view>
#include <vector>

#include "replication/base/lsn.h"

namespace replication::apply {

class SnapshotVisibility {
 public:
  // Throws Error on anything else than a snapshot's text.
  static SnapshotVisibility parse(std::string_view text);

  bool visible(base::Xid xid) const;

 private:
  base::FullXid xmin_ = 0, xmax_ = 0;
  std::vector<base::FullXid> running_;  // sorted; between xmin and xmax, not visible
};

}  // namespace replication::apply
