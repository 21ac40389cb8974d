// One run of one variant over the pair's backlog.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/stream/pair.h"

namespace bench {

struct Sample {
  double seconds = 0;
  double source_cpu = 0, target_cpu = 0, tool_cpu = 0;  // seconds
  double stolen = 0;                                    // seconds of CPU that a host gave to others
  std::int64_t tool_peak_kib = -1;
  std::string remark;  // where it didn't end well
};

std::vector<std::string> all_variants(Pair& pair);
// Resets the pair, runs, checks that both sides are equal (but for the floor).
Sample run_variant(Pair& pair, const std::string& variant);

// The tool's part as a process of its own.
harness::Process start_play(Pair& pair, const std::string& log);
// A subscription on the slot of the run; `streaming` is off, on or parallel.
void create_subscription(Pair& pair, const std::string& streaming);
void drop_subscription(Pair& pair);

}  // namespace bench
