// What can go wrong around a hand-over that isn't the controller's own death: servers that go away in the
// pause, sessions in the way of the fence, things that were dropped behind our back, orders that contradict
// the plan.
#include <doctest/doctest.h>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using harness::has;
using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Refusals;
using scenario::Scenario;
using scenario::Side;

namespace {

Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

// A `run` that stands still at this point of a switch.
std::unique_ptr<harness::Tool> frozen_at(Scenario& scenario, const std::string& point) {
  auto run = scenario.start_run(point + ":stop");
  scenario.wait_state(*run, "ready");
  REQUIRE(scenario.tool({"switch", "--no-wait"}).exit_code == 0);
  run->wait_frozen(seconds(180));
  return run;
}

void switch_and_back(Scenario& scenario, const std::string& after) {
  const auto there = scenario.tool({"switch", "--max-pause", "45s"});
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
  CHECK((scenario.expect_sound("the switch after " + after, Refusals::before) == Side::target));
  const auto back = scenario.tool({"rollback", "--max-pause", "45s"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK((scenario.expect_sound("the rollback after " + after, Refusals::before) == Side::source));
  scenario.expect_equal(after);
}

}  // namespace

TEST_CASE("the target dies in the pause: the controller undoes without it, and goes on when it is back") {
  Scenario scenario({"max-pause: 8s"});
  auto run = frozen_at(scenario, "switch.after-fence");
  scenario.target().stop(harness::Cluster::Stop::immediate);
  run->thaw();
  wait_until(seconds(180), "the source is open again",
             [&] { return scenario.fence_state(Side::source) == "open" && !scenario.pooler_paused(); });
  scenario.bank().wait_acknowledged(10, seconds(180));
  scenario.target().start();
  scenario.wait_state(*run, "ready");
  CHECK((scenario.expect_sound("the target came back") == Side::source));
  // It may have lost its last commits, and the stream has to find that out first.
  wait_until(seconds(180), "both sides are equal", [&] { return scenario.tool({"verify"}).exit_code == 0; });
  switch_and_back(scenario, "a target that died in the pause");
  scenario.stop_run(*run);
}

TEST_CASE("the target and the controller die in the pause: the guardian undoes without either") {
  Scenario scenario({"max-pause: 8s"});
  auto run = frozen_at(scenario, "switch.after-fence");
  scenario.target().stop(harness::Cluster::Stop::immediate);
  run->kill9();
  wait_until(seconds(180), "the source is open again",
             [&] { return scenario.fence_state(Side::source) == "open" && !scenario.pooler_paused(); });
  scenario.bank().wait_acknowledged(10, seconds(180));
  scenario.target().start();
  auto again = scenario.start_run();
  scenario.wait_state(*again, "ready");
  CHECK((scenario.expect_sound("both died") == Side::source));
  switch_and_back(scenario, "both died in the pause");
  scenario.stop_run(*again);
}

TEST_CASE(
    "the target dies behind the point of no return: traffic is released, and the switch is finished later") {
  Scenario scenario({"max-pause: 8s"});
  auto run = frozen_at(scenario, "switch.after-commit");
  scenario.target().stop(harness::Cluster::Stop::immediate);
  run->thaw();
  CHECK_MESSAGE(run->wait(seconds(180)) == 8, run->errors());
  CHECK(has(run->errors(), "authority has passed to the target"));
  wait_until(seconds(180), "the pooler flows", [&] { return !scenario.pooler_paused(); });
  CHECK(scenario.fence_state(Side::source) == "closed");
  scenario.target().start();
  auto again = scenario.start_run();
  scenario.wait_state(*again, "switched");
  CHECK((scenario.expect_sound("the target came back", Refusals::before) == Side::target));
  scenario.expect_equal("a target that died behind the point of no return");
  scenario.stop_run(*again);
}

TEST_CASE("sessions in the way of the fence: the pause keeps its budget; autovacuum steps aside") {
  Scenario scenario({"max-pause: 2s"});
  // A vacuum that sleeps at every page.
  scenario.source().configure({"autovacuum = on", "autovacuum_naptime = 1s"});
  scenario.source().sql(kDatabase,
                        "ALTER TABLE shop.bank_transfer SET (autovacuum_vacuum_threshold = 1, "
                        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, "
                        "autovacuum_vacuum_cost_limit = 1)");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");

  auto meddler = scenario.source().connect("postgres");
  meddler.exec("BEGIN");
  meddler.exec(std::string("GRANT CONNECT ON DATABASE ") + kDatabase + " TO app");
  const auto undone = scenario.tool({"switch"});
  CHECK_MESSAGE(undone.exit_code == 6, undone.errors);
  CHECK((scenario.expect_sound("an open GRANT in the way") == Side::source));
  meddler.exec("ROLLBACK");

  scenario.source().sql(kDatabase, "UPDATE shop.bank_transfer SET amount = amount");  // something to vacuum
  wait_until(seconds(180), "autovacuum works on the table", [&] {
    return scenario.source().value(kDatabase,
                                   "SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = "
                                   "'shop.bank_transfer'::regclass") == "t";
  });
  switch_and_back(scenario, "autovacuum in the way");
  scenario.stop_run(*run);
}

TEST_CASE("a dump of the schema that meets an application's locks in another order is tried again") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec("CREATE TABLE shop.lock_a (id int PRIMARY KEY); CREATE TABLE shop.lock_b (id int PRIMARY KEY)");
  // The dump is the one that notices, and not before the test has asked for the second lock.
  scenario.source().sql("postgres", "ALTER ROLE mover SET deadlock_timeout = '6s'");
  auto run = scenario.start_run("run.after-slot:stop");
  run->wait_frozen(seconds(180));
  auto app = scenario.source().connect(kDatabase);
  app.exec("SET deadlock_timeout = '10min'");
  app.exec("BEGIN; LOCK TABLE shop.lock_b IN ACCESS EXCLUSIVE MODE");
  run->thaw();
  wait_until(seconds(180), "the dump waits", [&] {
    return scenario.source().value(kDatabase,
                                   "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE "
                                   "NOT granted AND application_name = 'pgcutover pg_dump'") == "1";
  });
  app.exec("LOCK TABLE shop.lock_a IN ACCESS EXCLUSIVE MODE", seconds(180));
  app.exec("COMMIT");
  scenario.wait_state(*run, "ready");
  CHECK_MESSAGE(has(run->errors(), "deadlock detected"), run->errors());
  scenario.expect_equal("a deadlock in the dump");
  scenario.stop_run(*run);
}

TEST_CASE(
    "what was dropped behind our back is found, made again or refused; a finish that can't end isn't begun") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE TABLE shop.spare (id int PRIMARY KEY); CREATE TABLE shop.late_check (id int PRIMARY KEY, n "
          "int UNIQUE DEFERRABLE)");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");

  const char* slot = "SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'pgcutover_fault_reverse'";
  scenario.target().sql(kDatabase, "SELECT pg_drop_replication_slot('pgcutover_fault_reverse')");
  wait_until(seconds(180), "the slot for the way back is made again",
             [&] { return scenario.target().value(kDatabase, slot).has_value(); });

  auto replica = scenario.target().connect(kDatabase);
  replica.exec("SET session_replication_role = replica");
  replica.exec("INSERT INTO shop.late_check VALUES (1, 7), (2, 7)");
  const auto twice = scenario.tool({"switch"});
  CHECK(twice.exit_code == 3);
  CHECK_MESSAGE(has(twice.errors, "late_check"), twice.errors);
  replica.exec("DELETE FROM shop.late_check");

  scenario.target().sql(kDatabase, "ALTER PUBLICATION pgcutover_fault_reverse DROP TABLE shop.late_check");
  const auto one_way = scenario.tool({"switch"});
  CHECK(one_way.exit_code == 3);
  CHECK_MESSAGE(has(one_way.errors, "would not all come back"), one_way.errors);
  scenario.target().sql(kDatabase,
                        "ALTER PUBLICATION pgcutover_fault_reverse ADD TABLE ONLY shop.late_check");

  scenario.target().sql(kDatabase, "DROP TABLE shop.spare");
  const auto missing = scenario.tool({"switch"});
  CHECK(missing.exit_code == 3);
  CHECK(has(missing.errors, "shop.spare"));
  scenario.source().sql(kDatabase, "DROP TABLE shop.spare");
  switch_and_back(scenario, "a table that was dropped on both sides");

  scenario.target().sql(
      kDatabase,
      "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF "
      "EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_identity = 'pgcutover') "
      "THEN RAISE 'not this one'; END IF; END $$; "
      "CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION public.refuse()");
  const auto broken = scenario.tool({"finish", "--yes"});
  CHECK(broken.exit_code != 0);
  CHECK_MESSAGE(has(broken.errors, "not this one"), broken.errors);
  CHECK(scenario.tool({"verify"}).exit_code == 0);  // refused before anything was done: the stream goes on
  CHECK_MESSAGE(run->running(), run->errors());
  scenario.target().sql(kDatabase, "DROP EVENT TRIGGER refuse");
  const auto finished = scenario.tool({"finish", "--yes"});
  CHECK_MESSAGE(finished.exit_code == 0, finished.errors);
  CHECK(run->wait(seconds(180)) == 0);
  for (auto* server : {&scenario.source(), &scenario.target()}) {
    CHECK(server->value(kDatabase, "SELECT to_regnamespace('pgcutover')") == std::nullopt);
    CHECK(server->value("postgres", "SELECT count(*) FROM pg_replication_slots") == "0");
  }
  scenario.bank().wait_acknowledged(10, seconds(180));
}

TEST_CASE(
    "whoever asks is heard: another plan's name, another gate than the living run's, a step that isn't one") {
  Scenario scenario;
  const auto nonsense = scenario.tool({"run", "--until", "indexs"});
  CHECK(nonsense.exit_code == 2);
  CHECK(has(nonsense.errors, "did you mean 'indexes'"));
  const auto stopped = scenario.tool({"run", "--until", "catch-up"});
  CHECK_MESSAGE(stopped.exit_code == 0, stopped.errors);
  CHECK(scenario.target().value(kDatabase,
                                "SELECT count(*) FROM pgcutover.event WHERE step = 'foreign-keys'") == "0");

  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  for (const char* verb : {"switch", "verify", "finish"}) {
    const auto other = scenario.tool({verb, "--name", "other"});
    CHECK(other.exit_code == (std::string_view(verb) == "finish" ? 2 : 5));
    CHECK((verb == std::string_view("finish") || has(other.errors, "is named fault")));
  }
  const auto unproven = scenario.tool({"switch", "--verify-gate", "full"});
  CHECK(unproven.exit_code == 5);
  CHECK(has(unproven.errors, "no comparison of both sides was equal yet"));
  CHECK((scenario.expect_sound("orders that were refused") == Side::source));
  switch_and_back(scenario, "orders that were refused");

  // A stale controller that has nothing to apply notices by itself.
  scenario.bank().stop(seconds(180));
  run->freeze();
  auto successor = scenario.start_run("", {"--takeover"});
  scenario.wait_state(*successor, "ready");
  run->thaw();
  CHECK(run->wait(seconds(180)) != 0);
  CHECK(scenario.fence_state(Side::source) == "open");
  scenario.stop_run(*successor);
}
