// The verbs as a person calls them, on real servers: what each says, changes and returns, also when it is
// called twice or at the wrong moment.
#include <doctest/doctest.h>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

namespace {

// Everything but our own schema, as text: two equal texts mean that nothing was changed.
std::string fingerprint(harness::Cluster& server) {
  return server
      .value(
          kDatabase,
          "SELECT md5(string_agg(x, ',' ORDER BY x)) FROM (SELECT c.oid::text || c.relname || "
          "c.relreplident::text || "
          "coalesce(c.relacl::text, '') AS x FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
          "WHERE n.nspname NOT LIKE 'pg!_%' ESCAPE '!' UNION ALL SELECT 'slot ' || slot_name FROM "
          "pg_replication_slots "
          "UNION ALL SELECT 'pub ' || pubname FROM pg_publication UNION ALL SELECT 'acl ' || "
          "coalesce(datacl::text, '') FROM pg_database) y")
      .value_or("");
}

}  // namespace

TEST_CASE("check and plan say what they see and change nothing; verbs without a migration say so") {
  Scenario scenario;
  const auto source_before = fingerprint(scenario.source());
  const auto target_before = fingerprint(scenario.target());

  const auto check = scenario.tool({"check"});
  CHECK_MESSAGE(check.exit_code == 0, check.output << check.errors);
  CHECK(has(check.output, "keyless-table"));
  const auto plan = scenario.tool({"plan"});
  CHECK_MESSAGE(plan.exit_code == 0, plan.errors);
  CHECK(has(plan.output, "publication pgcutover_fault_forward"));
  CHECK(has(plan.output, "POINT OF NO RETURN"));
  const auto status = scenario.tool({"status", "--json"});
  CHECK(status.exit_code == 0);
  CHECK(has(status.output, "\"none\""));
  for (const char* verb : {"switch", "rollback", "verify"}) {
    const auto result = scenario.tool({verb});
    CHECK(result.exit_code == 5);
    CHECK(has(result.errors, "no migration"));
    CHECK(has(result.errors, "HINT: "));
  }
  CHECK(scenario.tool({"finish", "--yes"}).exit_code == 5);
  CHECK(fingerprint(scenario.source()) == source_before);
  CHECK(fingerprint(scenario.target()) == target_before);
}

TEST_CASE(
    "a migration by its verbs: run, verify, switch, rollback, finish; each twice, and each at the wrong "
    "moment") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");

  const auto second = scenario.tool({"run"});
  CHECK(second.exit_code == 5);
  CHECK(has(second.errors, "another controller is at work"));
  const auto early = scenario.tool({"rollback"});
  CHECK(early.exit_code == 5);
  CHECK(has(early.errors, "source takes writes already"));
  CHECK(scenario.tool({"finish"}).exit_code == 2);  // nobody can be asked, and --yes wasn't said
  scenario.expect_equal("run");

  // A row that somebody changed on the target is found, named by its key, and is no longer different once put
  // back.
  scenario.target().sql(kDatabase,
                        "UPDATE shop.bank_transfer SET amount = amount + 1 WHERE id = (SELECT min(id) FROM "
                        "shop.bank_transfer)");
  const auto differs = scenario.tool({"verify"});
  CHECK(differs.exit_code == 7);
  CHECK(has(differs.output, "shop.bank_transfer: different"));
  scenario.target().sql(kDatabase,
                        "UPDATE shop.bank_transfer SET amount = amount - 1 WHERE id = (SELECT min(id) FROM "
                        "shop.bank_transfer)");
  scenario.expect_equal("the row was put back");

  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK(has(switched.last_line(), "target takes writes; write pause "));
  CHECK((scenario.expect_sound("switch") == Side::target));
  const auto again = scenario.tool({"switch"});
  CHECK(again.exit_code == 5);
  CHECK(has(again.errors, "target takes writes already"));
  CHECK(scenario.tool({"cancel", "--yes"}).exit_code == 5);
  CHECK(scenario.tool({"unfence", "--yes"}).exit_code == 5);
  CHECK((scenario.expect_sound("what can't be done now") == Side::target));
  // The application can't connect to the side that is closed.
  CHECK_THROWS(scenario.source().connect(kDatabase, "app"));
  scenario.expect_equal("switch");

  const auto status = scenario.tool({"status", "--json"});
  CHECK(has(status.output, "\"switched\""));
  const auto back = scenario.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK(has(back.last_line(), "source takes writes; write pause "));
  CHECK((scenario.expect_sound("rollback") == Side::source));
  CHECK_THROWS(scenario.target().connect(kDatabase, "app"));
  scenario.expect_equal("rollback");

  const auto report = scenario.tool({"report", "--format", "json"});
  CHECK(report.exit_code == 0);
  CHECK(has(report.output, "write pause"));
  const auto finished = scenario.tool({"finish", "--yes"});
  CHECK_MESSAGE(finished.exit_code == 0, finished.errors);
  CHECK(has(finished.output, "source takes writes"));
  CHECK(has(finished.output, "GRANT CONNECT"));
  CHECK(run->wait(Deadline::in(milliseconds(180'000))) == 0);
  CHECK(scenario.tool({"finish", "--yes"}).exit_code == 5);
  scenario.bank().wait_acknowledged(10, Deadline::in(milliseconds(180'000)));
}

TEST_CASE("without a living run a verb becomes the controller for its time") {
  Scenario scenario;
  {
    auto run = scenario.start_run();
    scenario.wait_state(*run, "ready");
    scenario.stop_run(*run);
  }
  const auto verified = scenario.tool({"verify"});
  CHECK_MESSAGE(verified.exit_code == 0, verified.errors);
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK(has(switched.errors, "no `pgcutover run` is alive"));
  CHECK((scenario.expect_sound("switch") == Side::target));
  const auto back = scenario.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK((scenario.expect_sound("rollback") == Side::source));
}

TEST_CASE("a table that was created on the source meanwhile is never left behind: the switch refuses") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  scenario.source()
      .connect(kDatabase, "app")
      .exec("CREATE TABLE shop.late (id int PRIMARY KEY); INSERT INTO shop.late VALUES (1)");
  const auto refused = scenario.tool({"switch"});
  CHECK(refused.exit_code == 3);
  CHECK(has(refused.errors, "shop.late"));
  CHECK(has(refused.errors, "HINT: "));
  CHECK((scenario.expect_sound("a refused switch") == Side::source));
  scenario.source().sql(kDatabase, "DROP TABLE shop.late");
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK((scenario.expect_sound("the switch afterwards") == Side::target));
  scenario.stop_run(*run);
}

TEST_CASE(
    "a change that met no row keeps the switch shut, also after a restart, until both sides were found "
    "equal") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  const auto id = scenario.target().value(kDatabase, "SELECT min(id) FROM shop.bank_transfer").value();
  scenario.target().sql(kDatabase, "DELETE FROM shop.bank_transfer WHERE id = " + id);
  scenario.source().sql(kDatabase, "UPDATE shop.bank_transfer SET amount = amount WHERE id = " + id);
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the conflict is recorded", [&] {
    return scenario.target().value(kDatabase, "SELECT count(*) FROM pgcutover.conflict") == "1";
  });
  run->kill9();
  auto again = scenario.start_run();
  scenario.wait_state(*again, "ready");
  const auto refused = scenario.tool({"switch"});
  CHECK(refused.exit_code == 3);
  CHECK(has(refused.errors, "met no row"));
  CHECK(scenario.tool({"verify"}).exit_code == 7);

  const auto row =
      scenario.source().value(kDatabase, "SELECT row(t.*)::text FROM shop.bank_transfer t WHERE id = " + id);
  auto session = scenario.target().connect(kDatabase);
  session.exec("SET session_replication_role = replica");
  session.exec(
      "INSERT INTO shop.bank_transfer OVERRIDING SYSTEM VALUE SELECT ($1::text::shop.bank_transfer).*",
      {*row});
  const auto equal = scenario.tool({"verify"});
  CHECK_MESSAGE(equal.exit_code == 0, equal.output);
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  scenario.stop_run(*again);
}

TEST_CASE(
    "cancel empties the target of what belongs to no schema as well: the next run begins from nothing") {
  Scenario scenario;
  scenario.target().sql(kDatabase, "CREATE EXTENSION hstore");  // was there before: it stays
  scenario.source().sql(kDatabase,
                        "CREATE EXTENSION citext; CREATE EXTENSION postgres_fdw; CREATE SERVER far "
                        "FOREIGN DATA WRAPPER postgres_fdw; CREATE FOREIGN DATA WRAPPER own; "
                        "CREATE CAST (date AS bytea) WITH INOUT");
  for (int round = 1; round <= 2; ++round) {
    INFO("round " << round);
    auto run = scenario.start_run();
    scenario.wait_state(*run, "ready");
    const auto cancelled = scenario.tool({"cancel", "--yes"});
    CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
    CHECK(run->wait(Deadline::in(milliseconds(180'000))) == 0);
    CHECK(scenario.target().value(kDatabase,
                                  "SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension") ==
          "hstore,plpgsql");
    CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM pg_foreign_data_wrapper") == "0");
    CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM pg_cast WHERE oid >= 16384") ==
          scenario.target().value(kDatabase,
                                  "SELECT count(*) FROM pg_cast c JOIN pg_depend d ON d.objid = c.oid AND "
                                  "d.deptype = 'e' WHERE c.oid >= 16384"));
  }
}

TEST_CASE("a command that nobody waits for any more is not carried out later") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  run->freeze();
  const auto given_up = scenario.tool({"switch", "--timeout", "1s"});
  CHECK(given_up.exit_code == 1);
  CHECK(has(given_up.errors, "withdrawn"));
  const auto sent = scenario.tool({"switch", "--no-wait"});
  CHECK(sent.exit_code == 0);
  run->kill9();
  auto again = scenario.start_run();
  scenario.wait_state(*again, "ready");
  CHECK(scenario.tool({"verify"}).exit_code == 0);  // a turn of the loop later nothing has moved
  CHECK((scenario.expect_sound("an order to a controller that is gone") == Side::source));
  scenario.stop_run(*again);
}

TEST_CASE("a run survives the restart of either server") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  // A comparison that the restart cuts off says so; the next one must work, with the same run.
  const auto equal_again = [&](const std::string& after) {
    harness::wait_until(Deadline::in(milliseconds(180'000)), "both sides are compared after " + after,
                        [&] { return scenario.tool({"verify"}).exit_code == 0; });
    CHECK_MESSAGE(run->running(), run->errors());
  };
  scenario.target().restart(harness::Cluster::Stop::immediate);
  equal_again("a crash of the target");
  // A restart that takes long: the status looks old, and whoever asks leaves the living run its place.
  run->freeze();
  scenario.target().restart(harness::Cluster::Stop::immediate);
  scenario.target().sql(kDatabase, "UPDATE pgcutover.status SET at = at - interval '1 minute'");
  auto asked = scenario.start_tool({"verify"});
  harness::wait_until(Deadline::in(milliseconds(180'000)), "somebody asks", [&] {
    return scenario.target().value(kDatabase,
                                   "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE "
                                   "'pgcutover-cli command %' AND query LIKE '%pgcutover.status%'") == "1";
  });
  run->thaw();
  asked->wait(Deadline::in(milliseconds(180'000)));
  equal_again("a restart of the target");
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  scenario.source().restart(harness::Cluster::Stop::immediate);
  equal_again("a crash of the source");
  CHECK((scenario.expect_sound("the restarts") == Side::target));
  scenario.stop_run(*run);
}

TEST_CASE("the target is lost after the switch: the source is reopened, and told what that means") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  CHECK(scenario.tool({"switch"}).exit_code == 0);
  run->kill9();
  const auto living = scenario.tool({"rollback", "--target-lost", "--yes"});
  CHECK(living.exit_code == 5);
  CHECK(has(living.errors, "the target answers"));
  CHECK(scenario.fence_state(Side::source) == "closed");
  scenario.target().stop(harness::Cluster::Stop::immediate);
  const auto refused = scenario.tool({"unfence", "--yes"});
  CHECK(refused.exit_code == 5);
  const auto reopened = scenario.tool({"rollback", "--target-lost", "--yes"});
  CHECK_MESSAGE(reopened.exit_code == 0, reopened.errors);
  CHECK(has(reopened.output, "everything committed on the target after LSN"));
  CHECK(scenario.fence_state(Side::source) == "open");
  scenario.bank().wait_acknowledged(10, Deadline::in(milliseconds(180'000)));
}
