// One migration in which the known failures of replication tools are tried, case by case: each has a schema
// of its own, whose tables are there before the copy, and transactions that are run in rounds: one by one and
// as one batch, on the source, then on the target, then on the source again.
//
// Threads: one owner.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/harness/cluster.h"
#include "tests/harness/tool.h"

namespace known_bugs {

struct Case {
  std::string name;   // the symptom, and where it happened
  std::string setup;  // before the copy; `search_path` is the case's schema, then public
  // "$n" is a number of the round: 100, 200, ... Statements of one text are one transaction; one that begins
  // with "--" is a row of statements of their own, separated by lines.
  std::vector<std::string> transactions;
  int since = 12, until = 99;  // versions of the source
};

// By subject.
std::vector<Case> changed_rows();
std::vector<Case> values();
std::vector<Case> tables();

// A quote, a space and a backslash in the database's own name; its settings are as hostile.
inline constexpr const char* kDatabase = "bu'gs \\ \"x\"";

class World {
 public:
  explicit World(const std::vector<Case>& cases);
  ~World();

  // The cases that servers of this version know, and whose name has the text in PGCUTOVER_TEST_CASE.
  // Of those given.
  const std::vector<Case>& cases() const { return cases_; }
  // All transactions of a case on the side that takes writes.
  void change(std::size_t number, int round);
  // Returns once everything that was written until now is on the other side.
  void sync();
  // Compares the rows of a case's tables; returns the writing side's.
  std::string compare(std::size_t number);
  // Sessions with ordinary settings, in the first case's schema.
  replication::postgres::Connection at_writer() const { return session(forward_ ? source : target); }
  replication::postgres::Connection at_reader() const { return session(forward_ ? target : source); }
  // Apply stops on the receiving side until the lock is let go.
  replication::postgres::Connection hold();

  harness::ToolResult tool(const std::string& verb, const std::vector<std::string>& more = {});
  void start_run();
  void wait_state(const std::string& state);
  harness::Tool& run() { return *run_; }
  void turn() { forward_ = !forward_; }  // after a switch or rollback
  harness::Cluster& writer() { return forward_ ? source : target; }
  harness::Cluster& reader() { return forward_ ? target : source; }

  harness::Cluster source{{.name = "source", .conf = {"max_prepared_transactions = 5"}}};
  harness::Cluster target{{.name = "target", .conf = {"max_prepared_transactions = 5"}}};

 private:
  static replication::postgres::Connection session(const harness::Cluster& side,
                                                   const std::string& schema = "c0");
  std::vector<std::string> arguments(const std::string& verb, const std::vector<std::string>& more) const;
  std::vector<Case> cases_;
  harness::TempDir directory_{"pgcut-bugs"};
  std::unique_ptr<harness::Tool> run_;
  bool forward_ = true;
  int tokens_ = 0;
};

}  // namespace known_bugs
