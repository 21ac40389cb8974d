// A run with --spool: what the source has been told is on disk, whatever dies.
#include <doctest/doctest.h>
#include <filesystem>
#include <string>

#include "replication/base/error.h"
#include "replication/base/lsn.h"
#include "tests/harness/temp_dir.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

namespace {

using replication::base::Deadline;
using replication::base::Lsn;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;

// No key to tell a row by: what is lost or doubled shows.
constexpr const char* kTable = "CREATE TABLE spooled (text text); INSERT INTO spooled VALUES ('first')";
constexpr const char* kInsert = "INSERT INTO spooled SELECT 'row' FROM generate_series(1, 100)";

Lsn confirmed(Scenario& scenario) {
  return Lsn::parse(scenario.source()
                        .value(kDatabase,
                               "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = "
                               "'pgcutover_fault_forward'")
                        .value_or("0/0"));
}

Lsn write(Scenario& scenario) {
  scenario.source().connect(kDatabase, "app").exec(kInsert);
  return Lsn::parse(scenario.source().value(kDatabase, "SELECT pg_current_wal_lsn()").value_or("0/0"));
}

void wait_confirmed(Scenario& scenario, Lsn lsn) {
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the slot moves on",
                      [&] { return confirmed(scenario) >= lsn; });
}

TEST_CASE(
    "the target is away and the tool dies: the source recycles its WAL, and nothing is lost or doubled") {
  const harness::TempDir directory("spool");
  const std::vector<std::string> spool{"--spool", directory.file("changes")};
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  auto run = scenario.start_run({}, spool);
  scenario.wait_state(*run, "ready");
  write(scenario);
  scenario.target().stop(harness::Cluster::Stop::immediate);
  wait_confirmed(scenario, write(scenario));
  scenario.source().sql("postgres", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots");
  wait_confirmed(scenario, write(scenario));  // the receiver connects again without the target
  CHECK(run->running());
  run->kill9();
  write(scenario);  // not spooled: the slot keeps it
  scenario.target().start();

  // Elsewhere, or without the option: refused, and nothing is begun anew.
  auto without = scenario.start_run();
  CHECK(without->wait(Deadline::in(milliseconds(180'000))) == 8);
  CHECK_MESSAGE(without->errors().find("are only in the spool of ") != std::string::npos, without->errors());
  auto elsewhere = scenario.start_run({}, {"--spool", directory.file("other")});
  CHECK(elsewhere->wait(Deadline::in(milliseconds(180'000))) == 8);

  run = scenario.start_run({}, spool);
  scenario.wait_state(*run, "ready");
  write(scenario);
  scenario.expect_equal("kill -9 with a spool");
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM spooled") == "501");
  REQUIRE(scenario.tool({"switch"}).exit_code == 0);
  CHECK((scenario.expect_sound("a switch with a spool") == scenario::Side::target));
  REQUIRE(scenario.tool({"rollback"}).exit_code == 0);
  write(scenario);
  scenario.expect_equal("a rollback with a spool");
  scenario.stop_run(*run);
}

TEST_CASE(
    "while the first copy waits the source is told what is spooled, and status says on whom it depends") {
  const harness::TempDir directory("spool");
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  auto run = scenario.start_run("run.after-pre-data:stop", {"--spool", directory.file("changes")});
  const auto deadline = Deadline::in(milliseconds(180'000));
  run->wait_frozen(deadline);
  auto blocker = scenario.target().connect(kDatabase);
  blocker.exec("BEGIN; LOCK TABLE spooled IN ACCESS EXCLUSIVE MODE");
  run->thaw();
  wait_confirmed(scenario, write(scenario));
  CHECK(scenario.target().value(kDatabase, "SELECT applied_lsn < '" + confirmed(scenario).to_string() +
                                               "' FROM pgcutover.progress") == "t");
  harness::wait_until(deadline, "status says so", [&] {
    return scenario.tool({"status"}).output.find("this run depends on host ") != std::string::npos;
  });
  blocker.exec("ROLLBACK");
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("a copy with a spool");
  scenario.stop_run(*run);
}

TEST_CASE(
    "a copy of the target is brought up to date from the spool alone, whatever snapshots its tables had") {
  const harness::TempDir directory("spool");
  const auto spool = directory.file("changes");
  const auto kept = directory.file("kept");
  const std::vector<std::string> options{
      "--spool", spool, "--snapshot", "per-table", "--exclude-columns", "public.spooled.extra"};
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  scenario.source()
      .connect(kDatabase, "app")
      .exec("ALTER TABLE spooled ADD COLUMN extra text DEFAULT 'secret'");
  // Between slot and copy: both the table's snapshot and the spool have it.
  auto begun = scenario.start_run("run.after-pre-data:stop", options);
  const auto deadline = Deadline::in(milliseconds(180'000));
  begun->wait_frozen(deadline);
  write(scenario);
  begun->kill9();
  auto until = options;
  until.insert(until.begin(), {"run", "--until", "indexes"});
  REQUIRE(scenario.tool(until).exit_code == 0);
  scenario.target().sql("postgres", std::string("CREATE DATABASE staging TEMPLATE ") + kDatabase);
  // Left out by the run, so by the replay as well.
  scenario.target().sql("staging",
                        "ALTER TABLE spooled ALTER extra DROP DEFAULT; UPDATE spooled SET extra = NULL");
  std::filesystem::copy(spool, kept);  // what run has on its target already, the next run may release
  write(scenario);

  auto blocker = scenario.target().connect(kDatabase);
  blocker.exec("BEGIN; LOCK TABLE spooled IN ACCESS EXCLUSIVE MODE");  // nothing else of it may be
  auto run = scenario.start_run({}, options);
  wait_confirmed(scenario, write(scenario));
  run->kill9();
  using std::filesystem::copy_options;
  std::filesystem::copy(spool, kept, copy_options::recursive | copy_options::overwrite_existing);
  blocker.exec("ROLLBACK");
  const auto replay = [&](const std::string& database) {
    return harness::Tool::run(
        {"journal", "replay", "--spool", kept, "--target", scenario.target().conninfo(database, "mover")},
        Deadline::in(milliseconds(180'000)));
  };
  const auto first = replay("staging");
  REQUIRE_MESSAGE(first.exit_code == 0, first.output << first.errors);
  CHECK(first.output.find(" 0 conflicts") != std::string::npos);
  CHECK(scenario.target().value("staging", "SELECT count(*) FROM spooled") == "301");
  CHECK(replay("staging").exit_code == 0);
  CHECK(scenario.target().value("staging", "SELECT count(*) FROM spooled") == "301");
  CHECK(scenario.target().value("staging", "SELECT count(extra) FROM spooled") == "0");
  CHECK(replay(kDatabase).exit_code == 5);
}

TEST_CASE("a spool can be looked into, and replayed on a staging database, once") {
  const harness::TempDir directory("spool");
  const auto spool = directory.file("changes");
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  scenario.source()
      .connect(kDatabase, "app")
      .exec("DROP VIEW shop.open_orders; DROP MATERIALIZED VIEW shop.sales");  // of an excluded table
  auto run = scenario.start_run({}, {"--spool", spool, "--include", "public.spooled"});
  scenario.wait_state(*run, "ready");
  write(scenario);
  wait_confirmed(scenario, write(scenario));
  scenario.stop_run(*run);
  const auto tool = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "journal");
    arguments.insert(arguments.end(), {"--spool", spool});
    return harness::Tool::run(arguments, Deadline::in(milliseconds(180'000)));
  };
  const auto stat = tool({"stat"});
  CHECK_MESSAGE(stat.output.find("slot pgcutover_fault_forward, 0/") != std::string::npos,
                stat.output << stat.errors);
  CHECK(stat.output.find("no damage") != std::string::npos);
  for (const char* action : {"stat", "cat"}) {
    const harness::TempDir empty("empty");
    const auto nothing = harness::Tool::run({"journal", action, "--spool", empty.path().string()},
                                            Deadline::in(milliseconds(180'000)));
    CHECK(nothing.exit_code == 2);
    CHECK(nothing.errors.find("there is no journal in") != std::string::npos);
  }
  const auto cat = tool({"cat"});
  std::size_t inserts = 0;
  for (auto at = cat.output.find("insert public.spooled text="); at != std::string::npos;
       at = cat.output.find("insert public.spooled text=", at + 1)) {
    ++inserts;
  }
  CHECK(inserts == 200);

  scenario.target().sql("postgres", "CREATE DATABASE staging");
  const std::string staging = scenario.target().conninfo("staging", "mover");
  scenario.target().connect("staging", "mover").exec(kTable);  // what the first copy saw
  const auto first = tool({"replay", "--target", staging});
  REQUIRE_MESSAGE(first.exit_code == 0, first.output << first.errors);
  CHECK(scenario.target().value("staging", "SELECT count(*) FROM spooled") == "201");
  const auto second = tool({"replay", "--target", staging});
  CHECK_MESSAGE(second.exit_code == 0, second.output << second.errors);
  CHECK(scenario.target().value("staging", "SELECT count(*) FROM spooled") == "201");
  CHECK(tool({"replay", "--target", scenario.target().conninfo(kDatabase, "mover")}).exit_code == 5);
}

TEST_CASE("a full spool stops receiving until the target has some of it") {
  const harness::TempDir directory("spool");
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  auto run = scenario.start_run({}, {"--spool", directory.file("changes"), "--spool-limit", "1048576"});
  scenario.wait_state(*run, "ready");
  scenario.target().stop(harness::Cluster::Stop::immediate);
  const auto noise = [&](int rows) {
    scenario.source()
        .connect(kDatabase, "app")
        .exec(
            "INSERT INTO spooled SELECT md5(random()::text) || md5(random()::text) FROM generate_series(1, " +
            std::to_string(rows) + ")");
  };
  for (int i = 0; i < 40; ++i) {
    noise(2'000);  // about 100 kB of the spool each
  }
  run->wait_output("is full", Deadline::in(milliseconds(180'000)));
  const auto end = write(scenario);
  scenario.target().start();
  wait_confirmed(scenario, end);
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("a full spool");
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM spooled") == "80101");

  scenario.stop_run(*run);
}

TEST_CASE("the tool dies between a segment's end and the next one's beginning: nothing is lost or doubled") {
  const harness::TempDir directory("spool");
  const std::vector<std::string> spool{"--spool", directory.file("changes"), "--spool-limit", "1048576"};
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  int rows = 1;
  const auto deadline = [] { return Deadline::in(milliseconds(180'000)); };
  // While it is written, and then (the first time that the point is passed) while it is opened again.
  for (const char* fault :
       {"spool.footer-written:kill@2", "spool.sealed:kill@2", "spool.segment-made:kill@2",
        "spool.segment-begun:kill@2", "spool.footer-written:kill", "spool.segment-made:kill"}) {
    CAPTURE(fault);
    auto run = scenario.start_run(fault, spool);
    harness::wait_until(deadline(), "it dies there", [&] {
      scenario.source()
          .connect(kDatabase, "app")
          .exec(
              "INSERT INTO spooled SELECT md5(random()::text) || md5(random()::text) FROM generate_series(1, "
              "2000)");
      rows += 2'000;
      return !run->running();
    });
    CHECK(run->errors().find("damaged") == std::string::npos);
  }
  auto run = scenario.start_run({}, spool);
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("kills while a segment is rotated");
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM spooled") == std::to_string(rows));
  scenario.stop_run(*run);
}

TEST_CASE("a transaction larger than the spool's limit ends the run by name; a larger limit takes it") {
  const harness::TempDir directory("spool");
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTable);
  const auto start = [&](const char* limit) {
    return scenario.start_run({}, {"--spool", directory.file("changes"), "--spool-limit", limit});
  };
  auto run = start("1048576");
  scenario.wait_state(*run, "ready");
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "INSERT INTO spooled SELECT md5(random()::text) || md5(random()::text) FROM generate_series(1, "
          "100000)");
  CHECK_MESSAGE(run->wait(Deadline::in(milliseconds(180'000))) == 5, run->errors());
  CHECK_MESSAGE(run->errors().find("larger than --spool-limit") != std::string::npos, run->errors());
  auto again = start("104857600");
  scenario.wait_state(*again, "ready");
  scenario.expect_equal("a transaction larger than the first limit");
  const char* count = "SELECT count(*) FROM spooled";
  CHECK(scenario.source().value(kDatabase, count).value_or("0").size() == 6);
  CHECK(scenario.target().value(kDatabase, count) == scenario.source().value(kDatabase, count));
  scenario.stop_run(*again);
}

}  // namespace
