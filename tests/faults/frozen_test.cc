// A controller that doesn't die but freezes (SIGSTOP, a hung host): somebody else takes its place, and when
// it wakes up it changes nothing any more.
#include <doctest/doctest.h>

#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::Scenario;
using scenario::Side;

TEST_CASE("a controller that freezes in the stream is replaced, and changes nothing when it wakes up") {
  Scenario scenario;
  auto frozen = scenario.start_run("apply.before-commit:stop@30");
  frozen->wait_frozen(Deadline::in(milliseconds(180'000)));

  const auto refused = scenario.tool({"run"});
  CHECK(refused.exit_code == 5);
  CHECK(refused.errors.find("--takeover") != std::string::npos);

  auto successor = scenario.start_run("", {"--takeover"});
  scenario.wait_state(*successor, "ready");
  frozen->thaw();
  CHECK(frozen->wait(Deadline::in(milliseconds(180'000))) != 0);
  CHECK((scenario.expect_sound("a frozen controller woke up") == Side::source));
  scenario.expect_equal("a frozen controller woke up");
  scenario.stop_run(*successor);
}

TEST_CASE(
    "a controller that freezes in the pause is undone by its guardian, and changes nothing when it wakes "
    "up") {
  Scenario scenario({"max-pause: 6s"});  // in which the switch has to come as far as the fault
  auto frozen = scenario.start_run("switch.after-fence:stop");
  scenario.wait_state(*frozen, "ready");
  const auto asked = scenario.tool({"switch"});  // ends when the controller's lock is gone
  CHECK(asked.exit_code != 0);
  CHECK((scenario.expect_sound("a controller froze in the pause") == Side::source));
  frozen->thaw();
  CHECK(frozen->wait(Deadline::in(milliseconds(180'000))) != 0);
  CHECK((scenario.expect_sound("it woke up") == Side::source));

  auto again = scenario.start_run();
  scenario.wait_state(*again, "ready");
  scenario.expect_equal("it was replaced");
  const auto result = scenario.tool({"switch", "--max-pause", "45s"});
  CHECK_MESSAGE(result.exit_code == 0, result.errors);
  CHECK((scenario.expect_sound("the switch after it") == Side::target));
  scenario.expect_equal("the switch after it");
  scenario.stop_run(*again);
}

TEST_CASE(
    "a controller that wakes up after its successor's switch doesn't take the successor's state for its "
    "own") {
  Scenario scenario({"max-pause: 6s"});  // in which the switch has to come as far as the fault
  auto frozen = scenario.start_run("switch.before-commit:stop");
  scenario.wait_state(*frozen, "ready");
  CHECK(scenario.tool({"switch"}).exit_code != 0);
  CHECK((scenario.expect_sound("a controller froze before the commit") == Side::source));
  auto again = scenario.start_run();
  scenario.wait_state(*again, "ready");
  const auto result = scenario.tool({"switch", "--max-pause", "45s"});
  CHECK_MESSAGE(result.exit_code == 0, result.errors);
  frozen->thaw();
  CHECK_MESSAGE(frozen->wait(Deadline::in(milliseconds(180'000))) == 5, frozen->errors());
  CHECK((scenario.expect_sound("the late controller has ended") == Side::target));
  scenario.stop_run(*again);
}
