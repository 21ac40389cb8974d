// Tables copied again while the migration streams, and tables that are created while it does.
#include <csignal>
#include <doctest/doctest.h>
#include <thread>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using harness::has;
using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

namespace {

void resync(Scenario& scenario, const std::vector<std::string>& patterns, std::string_view told) {
  std::vector<std::string> arguments{"resync"};
  for (const auto& pattern : patterns) {
    arguments.push_back("--table=" + pattern);
  }
  const auto result = scenario.tool(arguments);
  CHECK_MESSAGE(result.exit_code == 0, result.errors);
  CHECK_MESSAGE(has(result.output, told), result.output);
}

}  // namespace

TEST_CASE("tables created on the source meanwhile are taken in, under load, and go there and back") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec("CREATE TABLE shop.aside (n int PRIMARY KEY)");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  auto app = scenario.source().connect(kDatabase, "app");
  app.exec(
      "CREATE TYPE shop.mood AS ENUM ('good', 'bad');"
      "CREATE TABLE shop.\"Late *\" (id serial PRIMARY KEY, account int NOT NULL REFERENCES "
      "shop.bank_account, mood "
      "shop.mood NOT NULL DEFAULT 'good', note text);"
      "CREATE INDEX late_note ON shop.\"Late *\" (note);"
      "CREATE TABLE shop.late_keyless (n int);"
      "CREATE TABLE shop.late_part (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);"
      "CREATE TABLE shop.late_part_1 PARTITION OF shop.late_part FOR VALUES FROM ('2026-01-01') TO "
      "('2027-01-01');"
      "INSERT INTO shop.\"Late *\" (account, note) SELECT 1 + g % 5, 'n' || g FROM generate_series(1, 500) g;"
      "INSERT INTO shop.late_keyless SELECT g FROM generate_series(1, 50) g;"
      "INSERT INTO shop.late_part SELECT g, '2026-06-01' FROM generate_series(1, 50) g");
  // A transaction that wrote before the tables were published and ends after it: its rows are neither in the
  // publication nor may they be missed.
  auto open = scenario.source().connect(kDatabase, "app");
  open.exec("BEGIN; INSERT INTO shop.aside VALUES (1)");
  const auto other = scenario.tool({"resync", "--table", "shop.nothing*"});
  CHECK(other.exit_code == 2);
  CHECK(has(other.errors, "shop.nothing*"));
  const auto asked = scenario.tool({"resync", "--table", "shop.[Ll]ate*", "--no-wait"});
  CHECK(asked.exit_code == 0);
  wait_until(Deadline::in(milliseconds(180'000)), "the tables are published", [&] {
    return scenario.source().value(
               kDatabase, "SELECT count(*) FROM pg_publication_tables WHERE tablename ~* '^late'") >= "3";
  });
  app.exec("INSERT INTO shop.\"Late *\" (account, note) SELECT 1, 'later' FROM generate_series(1, 10)");
  open.exec("INSERT INTO shop.late_keyless VALUES (1000); COMMIT");
  app.exec(
      "UPDATE shop.\"Late *\" SET mood = 'bad' WHERE id % 7 = 0; DELETE FROM shop.late_keyless WHERE n < 5");
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("tables were taken in");
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM shop.\"Late *\"") == "510");
  CHECK(scenario.target().value(kDatabase, "SELECT to_regclass('shop.late_note') IS NOT NULL") == "t");
  CHECK(scenario.target().value(kDatabase,
                                "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND "
                                "conrelid = 'shop.\"Late *\"'::regclass") == "1");
  const auto there = scenario.tool({"switch"});
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
  scenario.target().connect(kDatabase, "app").exec("INSERT INTO shop.\"Late *\" (account) VALUES (2)");
  CHECK(scenario.tool({"resync", "--table", "shop.late_part"}).exit_code == 5);
  const auto back = scenario.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK((scenario.expect_sound("there and back with new tables") == Side::source));
  scenario.expect_equal("there and back with new tables");
  CHECK(scenario.source().value(kDatabase, "SELECT count(*) FROM shop.\"Late *\"") == "511");

  // A partition of a published table is in the stream at once, and not on the target: the stream waits for
  // it.
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE TABLE shop.late_part_2 PARTITION OF shop.late_part FOR VALUES FROM ('2027-01-01') TO "
          "('2028-01-01');"
          "INSERT INTO shop.late_part SELECT g, '2027-06-01' FROM generate_series(1, 50) g");
  if (scenario.source().major() >= 13) {  // before, leaves are published, and a new one isn't
    run->wait_output("waits: ", Deadline::in(milliseconds(180'000)));
    wait_until(Deadline::in(milliseconds(180'000)), "the status names the partition",
               [&] { return has(scenario.tool({"status"}).output, "late_part_2"); });
  }
  resync(scenario, {"shop.late_part_2"}, "taken in: shop.late_part_2");
  scenario.expect_equal("a partition was taken in");
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM shop.late_part") == "100");

  // A column that only the source has: the same, until the statement was run on the target. The values that
  // its default gave the old rows never come in the stream: the comparison from before doesn't count any
  // more.
  scenario.expect_equal("before a column is added");
  scenario.source().sql(
      kDatabase,
      "ALTER TABLE shop.aside ADD COLUMN extra text DEFAULT 'old'; INSERT INTO shop.aside VALUES (2, 'x')");
  wait_until(Deadline::in(milliseconds(180'000)), "the status names the column",
             [&] { return has(scenario.tool({"status"}).output, "extra"); });
  scenario.target().sql(kDatabase, "ALTER TABLE shop.aside ADD COLUMN extra text");
  wait_until(Deadline::in(milliseconds(180'000)), "the row arrives", [&] {
    return scenario.target().value(kDatabase, "SELECT extra FROM shop.aside WHERE n = 2") == "x";
  });
  const auto unproven = scenario.tool({"switch", "--verify-gate", "full"});
  CHECK(unproven.exit_code == 5);
  CHECK_MESSAGE(has(unproven.errors, "tables were changed since"), unproven.errors);
  CHECK(scenario.tool({"verify"}).exit_code == 7);
  resync(scenario, {"shop.aside"}, "copied again: shop.aside");
  scenario.expect_equal("a column was added");
  const auto proven = scenario.tool({"switch", "--verify-gate", "full"});
  CHECK_MESSAGE(proven.exit_code == 0, proven.errors);
  scenario.stop_run(*run);
}

TEST_CASE("a table that differs is copied again under load; a run that dies on the way completes it first") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  const auto spoil = [&] {
    auto session = scenario.target().connect(kDatabase);
    session.exec("SET session_replication_role = replica");
    // One lock at a time, before any row's: the stream writes the same tables.
    session.exec(
        "BEGIN; LOCK TABLE shop.bank_transfer IN SHARE ROW EXCLUSIVE MODE;"
        "DELETE FROM shop.bank_transfer WHERE id % 3 = 0; COMMIT");
    session.exec(
        "BEGIN; LOCK TABLE shop.bank_account IN SHARE ROW EXCLUSIVE MODE;"
        "UPDATE shop.bank_account SET balance = balance + 1; COMMIT");
  };
  spoil();
  CHECK(scenario.tool({"verify"}).exit_code == 7);
  resync(scenario, {"shop.bank_transfer", "shop.bank_account"},
         "copied again: shop.bank_transfer, shop.bank_account");
  scenario.expect_equal("two tables were copied again");
  resync(scenario, {"shop.*"}, "copied again: ");
  scenario.expect_equal("all tables were copied again");
  scenario.stop_run(*run);

  for (const char* point : {"resync.published", "copy.table-before-commit@2", "resync.copied"}) {
    INFO("killed at " << std::string(point));
    const std::string text(point);
    const auto at = text.find('@');
    auto doomed =
        scenario.start_run(text.substr(0, at) + ":kill" + (at == std::string::npos ? "" : text.substr(at)));
    scenario.wait_state(*doomed, "ready");
    spoil();
    CHECK(scenario.tool({"resync", "--table", "shop.bank_*"}).exit_code != 0);
    CHECK(doomed->wait(Deadline::in(milliseconds(180'000))) == 128 + SIGKILL);
    auto again = scenario.start_run();
    scenario.wait_state(*again, "ready");
    scenario.expect_equal("it was completed");
    scenario.stop_run(*again);
  }
  auto last = scenario.start_run();
  scenario.wait_state(*last, "ready");
  const auto there = scenario.tool({"switch"});
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
  CHECK((scenario.expect_sound("tables were copied again") == Side::target));
  scenario.stop_run(*last);
}

TEST_CASE("a resync leaves alone what was not asked for, and one that fails leaves the stream alive") {
  Scenario scenario;
  auto run = scenario.start_run("resync.stopped:error");
  scenario.wait_state(*run, "ready");
  CHECK(scenario.tool({"resync", "--table", "shop.bank_account"}).exit_code == 1);
  scenario.expect_equal("a resync failed after the stream had come to rest");
  resync(scenario, {"shop.bank_account"}, "copied again: shop.bank_account");

  // Foreign keys to and from tables that stay out: they follow when these are taken in.
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE TABLE shop.far (id int PRIMARY KEY);"
          "CREATE TABLE shop.middle (id int PRIMARY KEY, far int REFERENCES shop.far);"
          "CREATE TABLE shop.near (id int PRIMARY KEY, middle int REFERENCES shop.middle);"
          "INSERT INTO shop.far VALUES (1); INSERT INTO shop.middle VALUES (1, 1);"
          "INSERT INTO shop.near VALUES (1, 1)");
  resync(scenario, {"shop.middle"}, "taken in: shop.middle");
  CHECK(scenario.tool({"switch"}).exit_code != 0);  // nothing was compared since
  scenario.stop_run(*run);
  run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  resync(scenario, {"shop.far", "shop.near"}, "taken in: shop.far, shop.near");
  CHECK(scenario.target().value(kDatabase,
                                "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND "
                                "conrelid IN ('shop.middle'::regclass, 'shop.near'::regclass)") == "2");
  scenario.expect_equal("all were taken in");
  scenario.stop_run(*run);
}

TEST_CASE(
    "a resync that loses its stream before both sides are consistent is completed before anything is "
    "obeyed") {
  Scenario scenario;
  auto run = scenario.start_run("resync.streaming:error");
  scenario.wait_state(*run, "ready");
  scenario.source()
      .connect(kDatabase, "app")
      .exec("CREATE TABLE shop.late (id int PRIMARY KEY); INSERT INTO shop.late VALUES (1)");
  const auto cut_off = scenario.tool({"resync", "--table", "shop.late"});
  CHECK(cut_off.exit_code != 0);
  CHECK_MESSAGE(has(cut_off.errors, "injected failure"), cut_off.errors);
  const auto there = scenario.tool({"switch"});
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
  // Else what is written there now would never come back.
  scenario.target().connect(kDatabase, "app").exec("INSERT INTO shop.late VALUES (2)");
  const auto back = scenario.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK(scenario.source().value(kDatabase, "SELECT count(*) FROM shop.late") == "2");
  CHECK((scenario.expect_sound("a resync that was cut off") == Side::source));
  scenario.stop_run(*run);
}

TEST_CASE("two resyncs that are asked for at once are done one after the other") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  const std::vector<std::string> both[] = {{"shop.bank_account"}, {"shop.bank_transfer"}};
  std::vector<harness::ToolResult> results(2);
  {
    std::vector<std::jthread> askers;
    for (std::size_t i = 0; i < 2; ++i) {
      askers.emplace_back([&, i] { results[i] = scenario.tool({"resync", "--table=" + both[i].front()}); });
    }
  }
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK_MESSAGE(results[i].exit_code == 0, results[i].errors);
    CHECK_MESSAGE(has(results[i].output, "copied again: " + both[i].front()), results[i].output);
  }
  const auto order = scenario.target().value(
      kDatabase, "SELECT string_agg(kind, ' ' ORDER BY at) FROM pgcutover.event WHERE step = 'resync'");
  CHECK(order == "began done began done");
  scenario.expect_equal("two resyncs at once");
  scenario.stop_run(*run);
}

TEST_CASE("a resync of a run with a spool takes up what was spooled, also after a kill in its middle") {
  const harness::TempDir directory("spool");
  const std::vector<std::string> spool{"--spool", directory.file("changes")};
  Scenario scenario;
  auto run = scenario.start_run("resync.copied:kill@2", spool);
  scenario.wait_state(*run, "ready");
  const auto spoil = [&] {
    auto session = scenario.target().connect(kDatabase);
    session.exec("SET session_replication_role = replica");
    session.exec(
        "BEGIN; LOCK TABLE shop.bank_account IN SHARE ROW EXCLUSIVE MODE;"
        "UPDATE shop.bank_account SET balance = balance + 1; COMMIT");
  };
  spoil();
  resync(scenario, {"shop.bank_*"}, "copied again: ");
  scenario.expect_equal("a resync with a spool");
  spoil();
  CHECK(scenario.tool({"resync", "--table", "shop.bank_*"}).exit_code != 0);
  CHECK(run->wait(Deadline::in(milliseconds(180'000))) == 128 + SIGKILL);
  scenario.bank().wait_acknowledged(20, Deadline::in(milliseconds(180'000)));
  run = scenario.start_run({}, spool);
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("a resync with a spool was completed");
  CHECK((scenario.expect_sound("a resync with a spool") == Side::source));
  scenario.stop_run(*run);
}
