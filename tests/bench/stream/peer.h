// pgcopydb's follow, replayed over the pair's backlog as its documentation says: slot, origin and work
// directory are made before the backlog; each run gets copies of them. Its follow keeps every change in files
// and databases of its own first.
//
// The program is named by PGCOPYDB, or lies on PATH; follow ends by itself at the backlog's end, or is ended
// after kPeerMax.
#pragma once

#include <string>

#include "replication/base/deadline.h"
#include "tests/harness/cluster.h"
#include "tests/harness/temp_dir.h"

namespace bench {

inline constexpr replication::base::milliseconds kPeerMax{300'000};

class Peer {
 public:
  // Before the backlog: `database` is there on both sides and takes no writes. Throws Error with what
  // pgcopydb said.
  Peer(harness::Cluster& source, harness::Cluster& target, std::string database);

  // Copies for one run: slot, origin on the target, work directory.
  void reset();
  // Applies all up to `end_lsn`. False: not done after kPeerMax, or given up by itself.
  bool follow(const std::string& end_lsn);
  void drop_slot();

 private:
  harness::ProcessOptions command(const std::vector<std::string>& words) const;
  harness::Cluster& source_;
  harness::Cluster& target_;
  const std::string database_;
  harness::TempDir directory_;
  std::string origin_lsn_;
};

}  // namespace bench
