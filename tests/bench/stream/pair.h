// Two throw-away servers with a fixed backlog between them, which any number of runs can replay: each run
// gets a copy of the slot and a target that is a copy of the state before the backlog.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/bench/stream/options.h"
#include "tests/bench/stream/peer.h"
#include "tests/bench/stream/workloads.h"
#include "tests/harness/cluster.h"

namespace bench {

inline constexpr const char* kPublication = "bench";
inline constexpr const char* kSlot = "run";

class Pair {
 public:
  explicit Pair(const Options& options);

  // Everything before a run: the target as it was, a new copy of the slot, both sides checkpointed.
  void reset();
  // After it: throws where the two sides differ.
  void check_equal();
  void drop_slot();
  // Waits until the last transaction of the backlog is visible on the target.
  void wait_end();

  harness::Cluster& source() { return source_; }
  harness::Cluster& target() { return target_; }
  const std::string& end_lsn() const { return end_lsn_; }
  const Workload& workload() const { return workload_; }
  // Only where the options name the variant `pgcopydb`.
  std::optional<Peer>& peer() { return peer_; }

 private:
  void copy_schema();
  void copy_template();  // a new database to apply to
  const Options options_;
  harness::Cluster source_, target_;
  Workload workload_;
  std::optional<Peer> peer_;
  std::string end_lsn_, digest_;
};

// CPU seconds of a server: its postmaster and all children, those that ended included.
double server_cpu_seconds(harness::Cluster& cluster);
double process_cpu_seconds(pid_t pid);
// Of all cores of a virtual machine, since it started: a run that lost many is worth little.
double stolen_cpu_seconds();
std::int64_t process_peak_kib(pid_t pid);  // VmHWM

}  // namespace bench
