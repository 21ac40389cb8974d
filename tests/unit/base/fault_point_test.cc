// Fault points are armed once a process: each case runs this program again as a child, with the environment
// set.
#include "replication/base/fault_point.h"

#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <set>
#include <signal.h>
#include <string>

#include "replication/base/error.h"
#include "replication/base/subprocess.h"

namespace replication::base {
namespace {

constexpr const char* kChild = "child that passes apply.before-commit three times";

// Skipped unless a parent asks for it by name.
TEST_CASE("child that passes apply.before-commit three times" * doctest::skip()) {
  for (int i = 1; i <= 3; ++i) {
    fault_point("apply.after-commit");
    fault_point("apply.before-commit");
    MESSAGE("went by " << i);
  }
}

CommandResult child(const std::string& fault, const std::string& testing = "1") {
  return run_command({.argv = {"/proc/self/exe", "--no-skip", std::string("--test-case=") + kChild},
                      .env = {{"PGCUTOVER_TESTING", testing}, {"PGCUTOVER_FAULT", fault}},
                      .stdin_text = {}},
                     Deadline::in(milliseconds(30'000)), Stop::never());
}

int passes(const CommandResult& result) {
  int count = 0;
  for (auto at = result.output.find("went by "); at != std::string::npos;
       at = result.output.find("went by ", at + 1)) {
    ++count;
  }
  return count;
}

TEST_CASE("a fault point kills the process, at the time of passing that was asked for") {
  const auto first = child("apply.before-commit:kill");
  CHECK(first.exit_code == 128 + SIGKILL);
  const auto third = child("apply.before-commit:kill@3");
  CHECK(third.exit_code == 128 + SIGKILL);
  const auto never = child("apply.before-commit:kill@4");
  CHECK(never.exit_code == 0);
  CHECK(passes(never) == 3);
}

TEST_CASE("a fault point throws a retryable error that names it") {
  const auto result = child("apply.before-commit:error@2");
  CHECK(result.exit_code == 1);
  CHECK(result.output.find("injected failure") != std::string::npos);
  CHECK(passes(result) == 1);
}

TEST_CASE("several fault points are armed at a time") {
  CHECK(child("apply.before-commit:error@3,apply.after-commit:kill@2").exit_code == 128 + SIGKILL);
  CHECK(passes(child("copy.table-done:kill,apply.before-commit:error@2")) == 1);
}

TEST_CASE("nothing is armed outside of tests") {
  CHECK(child("apply.before-commit:kill", "").exit_code == 0);
  CHECK(child("apply.before-commit:kill", "0").exit_code == 0);
  CHECK(child("").exit_code == 0);
}

TEST_CASE("a misspelt fault is a usage error, not a silent pass") {
  for (const char* fault :
       {"apply.before-commit:explode", "aply.before-commit:kill", "apply.before-commit:kill@",
        "apply.before-commit:kill@x", "apply.before-commit:kill@0"}) {
    CAPTURE(fault);
    const auto result = child(fault);
    CHECK(result.exit_code == 1);
    CHECK(result.output.find("no such fault") != std::string::npos);
    CHECK(passes(result) == 0);
  }
}

TEST_CASE("a fault point that isn't in the list is a bug") {
  CHECK_THROWS_AS(fault_point("no.such-point"), Bug);
}

TEST_CASE("the list names every point once") {
  const auto points = fault_points();
  CHECK(points.size() > 20);
  CHECK(std::set<std::string>(points.begin(), points.end()).size() == points.size());
  CHECK(std::find(points.begin(), points.end(), "apply.before-commit") != points.end());
}

}  // namespace
}  // namespace replication::base
