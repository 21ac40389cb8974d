// How long a committed row takes to be visible on the target while the source takes writes at a steady rate.
#pragma once

#include "tests/bench/stream/pair.h"

namespace bench {

struct LagSample {
  int seen = 0, sent = 0;  // heartbeats
  double p50_ms = 0, p99_ms = 0, max_ms = 0;
  double target_cpu = 0, tool_cpu_percent = 0;  // seconds; of one core
};

LagSample run_lag(Pair& pair, const Options& options, const std::string& variant);

}  // namespace bench
