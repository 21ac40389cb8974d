// The play itself: load all the time, the tool's verbs one after the other, proofs in between and at the end.
//
// Threads: one owner; the load has its own. Errors: base::Error where a verb doesn't do what it should; a
// proof that doesn't hold is a value.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "tests/demo/options.h"
#include "tests/demo/pgbench.h"
#include "tests/demo/proofs.h"
#include "tests/demo/stage.h"
#include "tests/harness/tool.h"
#include "tests/load/bank_load.h"

namespace demo {

class Play {
 public:
  Play(const Options& options, const replication::base::Stop& stop);

  // True where every proof held. Prints as it goes and a table at the end.
  bool run();

 private:
  void start_load();
  void load_goes_on(std::chrono::seconds span);
  harness::ToolResult verb(const std::string& name, const std::vector<std::string>& more = {});
  void wait_ready();
  // `switch` or `rollback`, the load afterwards, and its line in the table.
  void handover(const std::string& name, Side to);
  void note(Proof proof);
  void finish_migration();
  void end_load();
  void print_table() const;
  void say(const std::string& line) const;
  void indent(const std::string& text, std::size_t lines_max) const;

  struct Handover {
    std::string name;
    double pause_ms = -1;
    load::Stall stall;
  };

  const Options options_;
  const replication::base::Stop& stop_;
  const replication::base::Clock::time_point begin_ = replication::base::Clock::now();
  Stage stage_;
  std::optional<load::BankLoad> bank_;
  std::optional<Pgbench> bench_;
  std::optional<harness::Tool> controller_;
  std::vector<Handover> handovers_;
  std::vector<Proof> proofs_;
  std::int64_t failed_transactions_ = -1;
};

// "... write pause 312 ms" -> 312; -1 where the words aren't there.
double pause_of(const std::string& line);
// The value of a text field of a flat JSON object; empty where it isn't there.
std::string json_text(const std::string& json, const std::string& field);

}  // namespace demo
