// What is measured, and how large. pgcutover_bench_stream WORKLOAD [--changes N] [--rounds N] [--variants
// a,b]...
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct Options {
  std::string workload;                        // tpcb, bulk, insert, random, skewed, huge, lag
  std::int64_t changes = 0;                    // row changes of the backlog; 0 = the workload's own
  int rounds = 5;                              // each runs every variant once
  std::vector<std::string> variants;           // empty = all that the servers can do
  std::string source_version, target_version;  // "15"; empty = the distribution's newest
  int rate = 600;                              // lag: transactions a second
  int seconds = 20;                            // lag: for how long
};

// Throws base::UsageError.
Options parse_options(int argc, const char* const* argv);

}  // namespace bench
