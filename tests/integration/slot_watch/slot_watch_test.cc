// What a slot costs the source while the target is the slow part, and what becomes of a run whose slot is
// lost.
#include <doctest/doctest.h>
#include <string>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

namespace {

using harness::has;
using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

constexpr const char* kSlots =
    "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgcutover_fault_forward'";
constexpr const char* kLock = "BEGIN; LOCK TABLE shop.bank_transfer IN ACCESS EXCLUSIVE MODE";

Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

// WAL that no table has to do with.
void write_wal(Scenario& scenario, int megabytes) {
  scenario.source().sql(kDatabase,
                        "SELECT count(pg_logical_emit_message(false, 'test', repeat('x', 1000000))) FROM "
                        "generate_series(1, " +
                            std::to_string(megabytes) + ")");
}

std::string status(Scenario& scenario) {
  return scenario.tool({"status"}).output;
}

// `run` ended for good: it says what was lost, which tables have to be copied again and how; `status` says
// it too, and the two commands do it.
void expect_lost(Scenario& scenario, harness::Tool& run, const std::string& why) {
  CHECK_MESSAGE(run.wait(seconds(180)) == 8, run.errors());
  INFO(run.errors());
  CHECK(has(run.errors(), why));
  CHECK(has(run.errors(), "pgcutover cancel --plan "));
  CHECK((scenario.expect_sound("a lost slot") == Side::source));
}

void expect_cancelled(Scenario& scenario) {
  const auto cancelled = scenario.tool({"cancel", "--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
  CHECK(scenario.source().value("postgres", "SELECT count(*) FROM pg_replication_slots") == "0");
}

}  // namespace

TEST_CASE("WAL that is kept for a slow target is told, and given up where the plan bounds it") {
  Scenario scenario;
  auto run = scenario.start_run("", {"--wal-warn", "24", "--wal-limit", "96"});
  scenario.wait_state(*run, "ready");
  wait_until(seconds(180), "the slot is seen", [&] { return has(status(scenario), ", room for "); });
  CHECK_FALSE(has(status(scenario), "wal-kept"));

  auto blocker = scenario.target().connect(kDatabase);
  blocker.exec(kLock);
  scenario.bank().wait_acknowledged(5, seconds(180));
  write_wal(scenario, 40);
  wait_until(seconds(180), "status warns", [&] { return has(status(scenario), "wal-kept"); });
  CHECK_MESSAGE(has(status(scenario), "not taken over by the target yet"), status(scenario));
  blocker.exec("ROLLBACK");
  wait_until(seconds(180), "the slot is within its budget again", [&] {
    scenario.source().sql(kDatabase, "CHECKPOINT");  // writes what a slot's restart position needs
    return !has(status(scenario), "wal-kept");
  });
  CHECK(run->running());

  // It isn't the other side's fault: who holds it back is named.
  auto open = scenario.source().connect(kDatabase);
  open.exec("BEGIN; SET application_name = 'sleeper'; CREATE TEMP TABLE held (id int)");
  write_wal(scenario, 40);
  wait_until(seconds(180), "status names the transaction", [&] {
    scenario.source().sql(kDatabase, "CHECKPOINT");
    return has(status(scenario), "app=sleeper");
  });
  open.exec("ROLLBACK");

  blocker.exec(kLock);
  scenario.bank().wait_acknowledged(5, seconds(180));
  write_wal(scenario, 120);
  expect_lost(scenario, *run, "more than slot: {wal-limit: 96} allows: it was given up");
  CHECK_MESSAGE(has(run->errors(), "to be copied again: shop."), run->errors());
  CHECK(scenario.source().value("postgres", kSlots) == "0");
  CHECK_MESSAGE(has(status(scenario), "slot-lost"), status(scenario));
  CHECK_FALSE(has(status(scenario), "`pgcutover run` goes on from here"));
  blocker.exec("ROLLBACK");
  expect_cancelled(scenario);
}

TEST_CASE("a switch whose way back would be given up at once for its WAL isn't begun") {
  Scenario scenario;
  auto run = scenario.start_run("", {"--wal-limit", "96"});
  scenario.wait_state(*run, "ready");
  auto open = scenario.target().connect(kDatabase);
  open.exec("BEGIN; CREATE TEMP TABLE held (id int)");
  scenario.target().sql(kDatabase,
                        "SELECT count(pg_logical_emit_message(false, 'test', repeat('x', 1000000))) FROM "
                        "generate_series(1, 120)");
  const std::vector<std::string> hand_over{"switch", "--verify-gate", "none", "--max-pause",
                                           "45s",    "--max-lag",     "45s"};
  const auto refused = scenario.tool(hand_over);
  CHECK_MESSAGE(refused.exit_code == 3, refused.errors);
  CHECK_MESSAGE(has(refused.errors, "more than slot: {wal-limit: 96} allows"), refused.errors);
  open.exec("ROLLBACK");
  wait_until(seconds(180), "the slot was let go on", [&] {
    scenario.target().sql(kDatabase, "CHECKPOINT");  // writes what a slot's restart position needs
    return scenario.target().value("postgres",
                                   "SELECT pg_current_wal_insert_lsn() - restart_lsn < 90000000 FROM "
                                   "pg_replication_slots WHERE slot_name = 'pgcutover_fault_reverse'") == "t";
  });
  const auto done = scenario.tool(hand_over);
  CHECK_MESSAGE(done.exit_code == 0, done.errors);
  wait_until(seconds(180), "the way back is looked at",
             [&] { return has(status(scenario), "reverse on target"); });
  CHECK(run->running());
  CHECK((scenario.expect_sound("a switch") == Side::target));
}

TEST_CASE("a slot that is lost while tables are copied ends the copy at once") {
  Scenario scenario;
  auto run = scenario.start_run("run.after-pre-data:stop");
  run->wait_frozen(seconds(180));
  auto blocker = scenario.source().connect(kDatabase);
  blocker.exec(kLock);  // the copy waits for it
  run->thaw();
  wait_until(seconds(180), "the copy waits", [&] {
    return scenario.source().value(kDatabase,
                                   "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = "
                                   "'shop.bank_transfer'::regclass AND mode = 'AccessShareLock'") == "t";
  });
  scenario.source().sql("postgres", "SELECT pg_drop_replication_slot('pgcutover_fault_forward')");
  CHECK_MESSAGE(run->wait(seconds(180)) == 8, run->errors());
  CHECK_MESSAGE(has(run->errors(), "doesn't exist any more"), run->errors());
  blocker.exec("ROLLBACK");
  expect_cancelled(scenario);
}

TEST_CASE("a slot that was made again behind our back, or invalidated, is refused by name") {
  Scenario scenario;
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  run->freeze();
  const auto slot = [&](const std::string& column) {
    return scenario.source().value(kDatabase, "SELECT " + column +
                                                  " FROM pg_replication_slots WHERE slot_name = "
                                                  "'pgcutover_fault_forward'");
  };
  // It may have been stopped in the middle of a transaction, for which a new slot would wait.
  scenario.source().sql(kDatabase,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE "
                        "'pgcutover %'");
  wait_until(seconds(180), "the slot is free", [&] { return slot("NOT active") == "t"; });
  scenario.bank().wait_acknowledged(5, seconds(180));
  slot("pg_drop_replication_slot(slot_name)");
  scenario.source().sql(kDatabase,
                        "SELECT pg_create_logical_replication_slot('pgcutover_fault_forward', 'pgoutput')");
  run->thaw();
  expect_lost(scenario, *run, "ahead of what was applied");
  CHECK_MESSAGE(has(run->errors(), "to be copied again: shop."), run->errors());
  expect_cancelled(scenario);

  if (scenario.source().major() < 13) {
    return;
  }
  auto again = scenario.start_run();
  scenario.wait_state(*again, "ready");
  again->kill9();
  scenario.source().configure({"max_slot_wal_keep_size = 1"});
  wait_until(seconds(180), "the server gives the slot up", [&] {
    write_wal(scenario, 1);
    scenario.source().sql("postgres", "SELECT pg_switch_wal()");
    scenario.source().sql("postgres", "CHECKPOINT");
    return slot("wal_status") == "lost";
  });
  CHECK_MESSAGE(has(status(scenario), "wal_status lost"), status(scenario));
  auto third = scenario.start_run();
  expect_lost(scenario, *third, "was invalidated by the server");
  expect_cancelled(scenario);
}
