// The controller dies between any two steps of a switch and of a rollback.
#include <csignal>
#include <doctest/doctest.h>

#include "tests/scenario/scenario.h"

using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::Scenario;
using scenario::Side;

namespace {

struct Point {
  const char* name;
  bool passed;  // behind the point of no return
};

constexpr Point kPoints[] = {
    {"switch.before-hold", false},   {"switch.after-hold", false},   {"switch.after-lock", false},
    {"switch.after-drain", false},   {"switch.after-fence", false},  {"switch.after-sequences", false},
    {"switch.before-commit", false}, {"switch.after-commit", true},  {"switch.after-open", true},
    {"switch.after-move", true},     {"switch.after-release", true}, {"switch.after-reverse", true},
};

Side other(Side side) {
  return side == Side::source ? Side::target : Side::source;
}

const char* state_of(Side primary) {
  return primary == Side::source ? "ready" : "switched";
}

// One life: a `run` that dies at the point, what is left, a `run` that goes on.
void die_at(Scenario& scenario, Side from, const Point& point) {
  const std::string verb = from == Side::source ? "switch" : "rollback";
  INFO(verb << " dies at " << point.name);
  auto doomed = scenario.start_run(std::string(point.name) + ":kill");
  scenario.wait_state(*doomed, state_of(from));
  const auto asked = scenario.tool({verb});
  CHECK(asked.exit_code != 0);
  CHECK(doomed->wait(Deadline::in(milliseconds(180'000))) == 128 + SIGKILL);

  // Nobody has called anything yet: the guardian alone has to leave a sound system behind.
  const Side expected = point.passed ? other(from) : from;
  CHECK((scenario.expect_sound(verb + " killed at " + point.name) == expected));

  auto again = scenario.start_run();
  scenario.wait_state(*again, state_of(expected));
  CHECK((scenario.expect_sound(verb + " resumed after " + point.name) == expected));
  scenario.expect_equal(verb + " resumed after " + point.name);
  if (expected == from) {  // the same command again, to the end
    const auto result = scenario.tool({verb});
    CHECK_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(result.last_line().find("write pause") != std::string::npos);
  }
  CHECK((scenario.expect_sound(verb + " after " + point.name) == other(from)));
  scenario.stop_run(*again);
}

}  // namespace

TEST_CASE(
    "a switch or rollback whose controller is killed between any two steps is undone or finished, never "
    "both") {
  Scenario scenario;
  {
    auto run = scenario.start_run();
    scenario.wait_state(*run, "ready");
    scenario.stop_run(*run);
  }
  for (const auto& point : kPoints) {
    die_at(scenario, Side::source, point);
    die_at(scenario, Side::target, point);
  }
}
