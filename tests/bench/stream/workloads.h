// The backlogs: which tables, which transactions. Sizes are numbers of row changes.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/stream/options.h"
#include "tests/harness/cluster.h"

namespace bench {

inline constexpr const char* kDatabase = "bench";

struct Workload {
  std::vector<std::string> tables;  // published
  std::string digest;               // SQL: one text, equal on both sides exactly when the rows are
};

// Fills an empty database with tables and rows.
Workload create_tables(harness::Cluster& source, const Options& options);
// Commits the backlog's transactions.
void run_load(harness::Cluster& source, const Options& options);

// pgbench with these arguments; throws with what it said.
void pgbench(harness::Cluster& cluster, const std::vector<std::string>& arguments);

}  // namespace bench
