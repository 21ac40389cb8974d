// Statements of apply that somebody cancels: an operator, or a watchdog.
#include "tests/harness/wait.h"
#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

TEST_CASE("a statement that somebody cancels is tried again, in sets and change by change") {
  Stage stage("cancelled");
  stage.both(
      "CREATE TABLE k (id int PRIMARY KEY, v text); CREATE TABLE f (id int, v text); ALTER TABLE f REPLICA "
      "IDENTITY FULL; INSERT INTO k VALUES (1, 'v'), (2, 'v')");
  stage.publish();
  stage.start();
  bool in_row_mode = false;
  SUBCASE("in sets") {
    stage.source("INSERT INTO k SELECT g, 'v' FROM generate_series(10, 500) g");
  }
  SUBCASE("change by change") {
    in_row_mode = true;
    stage.target(
        "DELETE FROM k WHERE id = 2");  // its update hits no row, so the batch is repeated row by row
    stage.source("UPDATE k SET v = 'w'; INSERT INTO f SELECT g, 'v' FROM generate_series(1, 500) g");
  }
  auto blocker = target_server().connect("cancelled");
  auto eyes = target_server().connect("cancelled");
  blocker.exec(in_row_mode ? "BEGIN; LOCK TABLE f IN EXCLUSIVE MODE"
                           : "BEGIN; LOCK TABLE k IN EXCLUSIVE MODE");
  stage.source("UPDATE pgcutover.marker SET token = 'behind', written_us = 0 WHERE id = 1");
  stage.pump();
  const std::string apply =
      "FROM pg_stat_activity WHERE application_name LIKE 'pgcutover apply%' AND datname = "
      "current_database()";
  for (int i = 0; i < 3; ++i) {
    harness::wait_until(soon(), "apply waits for the lock", [&] {
      return eyes.one_value("SELECT count(*) " + apply + " AND wait_event_type = 'Lock'") == "1";
    });
    // The server's answer comes in its time: until it has, the same statement waits.
    const auto before = eyes.one_value("SELECT query_start " + apply);
    eyes.exec("SELECT pg_cancel_backend(pid) " + apply);
    harness::wait_until(soon(), "it was cancelled", [&] {
      return stage.applier->failure() != nullptr || eyes.one_value("SELECT query_start " + apply) != before;
    });
    REQUIRE_MESSAGE(stage.applier->failure() == nullptr, stage.failure());
  }
  blocker.exec("COMMIT");
  REQUIRE(stage.applier->wait_marker("behind", soon()) == WaitResult::reached);
  CHECK(stage.applier->stats().row_mode_batches == (in_row_mode ? 1 : 0));
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == (in_row_mode ? "1" : "0"));
  in_row_mode ? stage.check_same("f") : stage.check_same("k");
}

TEST_CASE("the look at the progress that somebody cancels is tried again too") {
  Stage stage("look");
  stage.both("CREATE TABLE k (id int PRIMARY KEY, v text)");
  stage.publish();
  auto blocker = target_server().connect("look");
  auto eyes = target_server().connect("look");
  blocker.exec("BEGIN; SELECT FROM pgcutover.progress FOR UPDATE");
  stage.start();
  const std::string apply =
      "FROM pg_stat_activity WHERE application_name LIKE 'pgcutover apply%' AND datname = "
      "current_database()";
  harness::wait_until(soon(), "apply waits for the row", [&] {
    return eyes.one_value("SELECT count(*) " + apply + " AND wait_event_type = 'Lock'") == "1";
  });
  const auto before = eyes.one_value("SELECT query_start " + apply);
  eyes.exec("SELECT pg_cancel_backend(pid) " + apply);
  harness::wait_until(soon(), "it was cancelled", [&] {
    return stage.applier->failure() != nullptr || eyes.one_value("SELECT query_start " + apply) != before;
  });
  blocker.exec("COMMIT");
  stage.source("INSERT INTO k VALUES (1, 'v')");
  REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
  stage.check_same("k");
}

TEST_CASE("a statement that is cancelled again and again ends the stream when the budget is used up") {
  Stage stage("watchdog");
  stage.both("CREATE TABLE k (id int PRIMARY KEY, v text)");
  stage.target(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cancelled by "
      "a watchdog' USING ERRCODE = '57014'; END $$");
  stage.publish();
  auto options = stage.options();
  options.retry_budget = base::milliseconds{1'000};
  stage.start(std::move(options));
  stage.source("INSERT INTO k VALUES (1, 'v')");
  REQUIRE(stage.sync() == WaitResult::reached);
  // Behind apply's look at the table, which wouldn't allow it.
  stage.target(
      "CREATE TRIGGER refuse BEFORE INSERT ON k FOR EACH ROW EXECUTE FUNCTION refuse();"
      "ALTER TABLE k ENABLE ALWAYS TRIGGER refuse");
  stage.source("INSERT INTO k VALUES (2, 'v')");
  stage.pump();
  const auto why = stage.failure();
  CHECK_MESSAGE(why.find("watchdog") != std::string::npos, why);
  CHECK(stage.target_value("SELECT count(*) FROM k") == "1");
}
