// A migration under load that a fault is done to: two servers, a pooler, clients that remember every
// acknowledged commit, the tool as a process. Small: what counts is the moment of the fault, not the amount
// of data.
//
// Threads: one owner; the load has its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/harness/cluster.h"
#include "tests/harness/pgbouncer.h"
#include "tests/harness/tcp_proxy.h"
#include "tests/harness/tool.h"
#include "tests/load/bank_load.h"
#include "tests/load/bank_proof.h"

namespace scenario {

inline constexpr const char* kDatabase = "shop";

enum class Side { source, target };
// Whether clients may have been refused: never, or at some time before (a server had died).
enum class Refusals { none, before };

struct Wiring {
  bool proxied = false;  // the tool reaches each server through a line of its own, see Scenario::line()
  // A directory that the servers' user owns, where the target's database lives; empty = with the others.
  std::string target_tablespace = {};
  std::string target_wal = {};  // likewise, of the target's WAL
};

class Scenario {
 public:
  // `gates` are lines of the plan's gates, e.g. "max-pause: 2s", instead of the scenario's own, which leave
  // more time than any machine needs.
  explicit Scenario(const std::vector<std::string>& gates = {}, const Wiring& wiring = {});

  // The tool with the plan, to its end.
  harness::ToolResult tool(const std::vector<std::string>& arguments,
                           replication::base::milliseconds limit = replication::base::milliseconds(180'000));
  // The tool with the plan, in the background.
  std::unique_ptr<harness::Tool> start_tool(const std::vector<std::string>& arguments);
  // `run` in the background, with a fault armed ("" = none).
  std::unique_ptr<harness::Tool> start_run(const std::string& fault = {},
                                           const std::vector<std::string>& more = {});
  // Waits until a living controller reports this state. Throws with what `run` had said where it ended.
  void wait_state(harness::Tool& run, const std::string& state);
  // What the living controller of this process reports, empty where it doesn't (yet).
  std::string reported_state(const harness::Tool& run);
  // Ends a healthy `run` politely.
  void stop_run(harness::Tool& run);

  // What holds at any rest: traffic flows, exactly one side is open, every acknowledged commit is on the side
  // that takes writes exactly once, and no client was refused. Returns that side.
  Side expect_sound(const std::string& after, Refusals refusals = Refusals::none);
  // Both sides hold the same (through the tool's own verify, which needs a living `run`).
  void expect_equal(const std::string& after);

  load::BankLoad& bank() { return *bank_; }
  harness::Cluster& source() { return source_; }
  harness::Cluster& target() { return target_; }
  harness::TcpProxy& line(Side side) { return side == Side::source ? *source_line_ : *target_line_; }
  std::string fence_state(Side side);
  bool pooler_paused();

 private:
  harness::Cluster& cluster(Side side) { return side == Side::source ? source_ : target_; }
  void write_plan(const std::vector<std::string>& gates);
  std::vector<std::string> with_plan(std::vector<std::string> arguments) const;
  harness::TempDir directory_;
  harness::Cluster source_, target_;
  std::optional<harness::TcpProxy> source_line_, target_line_;
  harness::Pgbouncer bouncer_;
  load::ShopSize size_;
  std::optional<load::BankLoad> bank_;
};

}  // namespace scenario
