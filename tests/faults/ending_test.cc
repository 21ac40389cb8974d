// `finish` and `cancel` die on their way: called again they complete what was begun, and nothing is left of
// the migration on either side.
#include <csignal>
#include <doctest/doctest.h>

#include "tests/scenario/scenario.h"

using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

namespace {

void expect_no_trace(Scenario& scenario) {
  for (auto* server : {&scenario.source(), &scenario.target()}) {
    CHECK(server->value(kDatabase, "SELECT count(*) FROM pg_replication_slots") == "0");
    CHECK(server->value(kDatabase, "SELECT count(*) FROM pg_publication") == "0");
    CHECK(server->value(kDatabase, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgcutover'") == "0");
  }
  CHECK(scenario.source().value(kDatabase,
                                "SELECT relreplident FROM pg_class WHERE relname = 'bank_journal'") == "d");
}

void die_at(Scenario& scenario, const std::string& verb, const std::string& point) {
  INFO(verb << " dies at " << point);
  auto doomed = scenario.start_run(point + ":kill");
  scenario.wait_state(*doomed, "ready");
  if (verb == "finish") {
    for (const char* hand_over : {"switch", "rollback"}) {
      const auto result = scenario.tool({hand_over});
      CHECK_MESSAGE(result.exit_code == 0, result.errors);
    }
  }
  CHECK(scenario.tool({verb, "--yes"}).exit_code != 0);
  CHECK(doomed->wait(Deadline::in(milliseconds(180'000))) == 128 + SIGKILL);
  scenario.bank().wait_acknowledged(10, Deadline::in(milliseconds(180'000)));

  // Nothing else may be done with the rest.
  for (const char* other : {"run", "verify", "switch"}) {
    const auto refused = scenario.tool({other});
    CHECK(refused.exit_code == 5);
    CHECK_MESSAGE(refused.errors.find("pgcutover " + verb + " --yes") != std::string::npos, refused.errors);
  }
  CHECK(scenario.tool({"status"}).exit_code == 0);
  const auto completed = scenario.tool({verb, "--yes"});
  CHECK_MESSAGE(completed.exit_code == 0, completed.errors);
  expect_no_trace(scenario);
  scenario.bank().wait_acknowledged(10, Deadline::in(milliseconds(180'000)));
}

void empty_the_target(Scenario& scenario) {
  scenario.target().sql("postgres", std::string("DROP DATABASE ") + kDatabase + " WITH (FORCE)");
  scenario.target().sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " OWNER app");
}

}  // namespace

TEST_CASE("a schema alone that is cut off where it ends is completed by the same command") {
  Scenario scenario;
  for (const std::string point : {"schema-only.after-open", "schema-only.after-source-schema"}) {
    INFO(point);
    auto doomed = scenario.start_run(point + ":kill", {"--schema-only"});
    REQUIRE(doomed->wait(Deadline::in(milliseconds(180'000))) == 128 + SIGKILL);
    const auto completed = scenario.tool({"run", "--schema-only"});
    CHECK_MESSAGE(completed.exit_code == 0, completed.errors);
    CHECK(completed.output.find("the target has the schema") != std::string::npos);
    expect_no_trace(scenario);
    CHECK(scenario.target().connect(kDatabase, "app").one_value("SELECT count(*) FROM shop.bank_account") ==
          "0");
    scenario.bank().wait_acknowledged(10, Deadline::in(milliseconds(180'000)));
    empty_the_target(scenario);
  }
}

TEST_CASE("finish and cancel that are killed between any two steps are completed by the next call") {
  Scenario scenario;
  die_at(scenario, "cancel", "cancel.after-slots");
  die_at(scenario, "cancel", "cancel.after-source-schema");
  die_at(scenario, "finish", "finish.after-slots");
  // The target still holds the copy: the next migration needs an empty one.
  empty_the_target(scenario);
  die_at(scenario, "finish", "finish.after-source-schema");
}
