// What has to be true at the end, each by name: the demo fails with the name of the first that isn't.
#pragma once

#include <string>
#include <vector>

#include "tests/demo/pgbench.h"
#include "tests/demo/stage.h"
#include "tests/load/bank_load.h"

namespace demo {

struct Proof {
  std::string name;
  bool holds = false;
  std::string details;  // one line, more where it fails
};

// The bank's books against what the clients know; may run under load. Where `follows`, the side is a replica
// and is given time to catch up with what was acknowledged when this is called.
Proof prove_bank_on(const Stage& stage, Side side, const load::BankLoad& bank, bool follows,
                    const replication::base::Stop& stop);

// pgbench's four sums agree, in one snapshot; may run under load.
Proof prove_pgbench_sums(const Stage& stage, Side side);
// What no stream carries: the large object's bytes are the same on both sides, the materialized view is
// filled.
Proof prove_copied_once(const Stage& stage);
// As many rows of history as transactions that pgbench says it did. After its end only.
Proof prove_pgbench_count(const Stage& stage, Side side, const PgbenchResult& result);
// No client transaction failed, was in doubt or lost its connection.
Proof prove_no_failures(const PgbenchResult& bench, const load::LoadReport& bank);
// No slot and no publication is left on either server: a forgotten slot fills a disk.
Proof prove_clean(const Stage& stage);

}  // namespace demo
