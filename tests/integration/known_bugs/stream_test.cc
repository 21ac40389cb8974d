// Where other tools lost the place in the stream, or let a switch happen that lost a transaction: one
// migration, whose cases follow each other.
#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "replication/postgres/connection.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/known_bugs/world.h"

using namespace known_bugs;
using harness::has;
using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;

namespace {

constexpr const char* kSlot = "pgcutover_bugs_forward";

World& world() {
  static const Case tables{
      "the stream",
      "CREATE TABLE k (a int, b text); CREATE TABLE late (id int PRIMARY KEY); CREATE TABLE t (id int "
      "PRIMARY "
      "KEY, v text); INSERT INTO t VALUES (1, 'a'); CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA c0 TO app; "
      "GRANT ALL ON t, k TO app",
      {}};
  static World one(std::vector<Case>{tables});
  return one;
}

Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

void wait_for(replication::postgres::Connection& connection, const std::string& condition) {
  wait_until(seconds(180), condition, [&] { return connection.one_value("SELECT " + condition) == "t"; });
}

void restart_by_force() {
  world().run().kill9();
  world().start_run();
}

// Another session than the harness's superuser: an application.
replication::postgres::Connection application() {
  auto connection = world().writer().connect(kDatabase, "app");
  connection.exec("SET search_path = c0; SET default_transaction_isolation = 'read committed'");
  return connection;
}

}  // namespace

TEST_CASE("a keepalive never moves the confirmed position past what isn't applied (pgcopydb 1033)") {
  auto held = world().hold();
  auto source = world().at_writer();
  const auto before = source.one_value("SELECT pg_current_wal_insert_lsn()");
  source.exec("INSERT INTO k VALUES (1, 'x'), (1, 'x'); INSERT INTO t VALUES (2, 'b')");
  // What comes after it in the WAL is none of our business: only keepalives tell of it.
  world().source.sql("postgres", "CREATE TABLE noise AS SELECT g FROM generate_series(1, 20000) g");
  const auto after = world().source.value("postgres", "SELECT pg_current_wal_flush_lsn()").value();
  auto target = world().at_reader();
  wait_for(target,
           "(json::jsonb #>> '{streams,0,receivedLsn}')::pg_lsn >= '" + after + "' FROM pgcutover.status");
  const auto confirmed =
      "confirmed_flush_lsn <= '" + before + "' FROM pg_replication_slots WHERE slot_name = '" + kSlot + "'";
  CHECK(source.one_value("SELECT " + confirmed) == "t");
  CHECK(target.one_value("SELECT count(*) FROM t") == "1");
  world().run().kill9();
  CHECK(source.one_value("SELECT " + confirmed) == "t");
  held.exec("ROLLBACK");
  world().start_run();
  world().wait_state("ready");
  world().sync();
  world().compare(0);
  CHECK(target.one_value("SELECT count(*) FROM k") == "2");
}

TEST_CASE(
    "a stream that dies in the middle of a transaction, also of a COPY whose rows share one position, starts "
    "again at its beginning (pgcopydb 319, 555; Debezium DBZ-5031, DBZ-5915, DBZ-6204, dbz#1554)") {
  auto target = world().at_reader();
  target.exec("BEGIN; LOCK TABLE late IN ACCESS EXCLUSIVE MODE");
  auto source = world().at_writer();
  source.exec("TRUNCATE k");
  source.exec("BEGIN");
  source.exec("COPY k FROM PROGRAM 'seq 1 120000 | sed \"s/.*/7\\tcopied/\"'");
  source.exec("INSERT INTO late VALUES (1); COMMIT");
  auto watcher = world().at_reader();
  const std::string waiting = "FROM pg_locks WHERE NOT granted AND relation = 'late'::regclass";
  wait_for(watcher, "count(*) > 0 " + waiting);
  const auto old = watcher.one_value("SELECT pid " + waiting);
  restart_by_force();
  wait_for(watcher, "count(*) > 0 " + waiting + " AND pid <> " + old);
  watcher.exec("SELECT pg_terminate_backend(pid) " + waiting);
  target.exec("ROLLBACK");
  world().wait_state("ready");
  world().sync();
  world().compare(0);
  CHECK(watcher.one_value("SELECT count(*) FROM k") == "120000");
  source.exec("TRUNCATE k");
}

TEST_CASE("a prepared transaction is named before a switch, which is refused") {
  {
    auto app = application();
    app.exec("BEGIN; INSERT INTO t VALUES (10, 'prepared'); PREPARE TRANSACTION 'half done'");
  }
  const auto refused = world().tool("switch", {"--verify-gate", "none"});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(has(refused.errors, "half done"), refused.errors);
  world().at_writer().exec("COMMIT PREPARED 'half done'");
  world().sync();
  world().compare(0);
}

TEST_CASE(
    "a transaction that is open when the switch begins is on both sides or on neither (Vitess 9400, 9453)") {
  CHECK_THROWS_AS(world().target.connect(kDatabase, "app"), replication::base::Error);  // Vitess 14360
  auto app = application();
  app.exec("BEGIN; INSERT INTO t VALUES (20, 'open'); UPDATE t SET v = 'open' WHERE id = 1");
  const auto undone = world().tool("switch", {"--verify-gate", "none"});
  CHECK(undone.exit_code == 6);
  CHECK_MESSAGE(has(undone.errors, "pid " + std::to_string(app.backend_pid())), undone.errors);
  app.exec("COMMIT");  // the source takes it, and so does the target
  world().sync();
  world().compare(0);
  CHECK(world().at_reader().one_value("SELECT v FROM t WHERE id = 20") == "open");

  app.exec("BEGIN; INSERT INTO t VALUES (21, 'open'); DELETE FROM t WHERE id = 20");
  const auto there =
      world().tool("switch", {"--verify-gate", "none", "--cancel-blockers", "--lock-limit", "45s"});
  REQUIRE_MESSAGE(there.exit_code == 0, there.errors);
  CHECK_THROWS_AS(app.exec("COMMIT"), replication::base::Error);
  CHECK_THROWS_AS(application(), replication::base::Error);  // writes before the fence are over
  for (const auto* side : {&world().source, &world().target}) {
    CHECK(side->value(kDatabase, "SELECT string_agg(id::text, ',' ORDER BY id) FROM c0.t WHERE id >= 20") ==
          "20");
  }
  world().turn();
  application().exec("INSERT INTO t VALUES (22, 'there')");
  world().sync();
  world().compare(0);
  const auto back = world().tool("rollback", {"--verify-gate", "none"});
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  world().turn();
}

TEST_CASE(
    "a slot that was made again under its name is refused (Debezium DBZ-5739, DBZ-7015; patroni 1056)") {
  auto source = world().at_writer();
  source.exec("INSERT INTO t VALUES (30, 'x')");
  world().run().terminate();
  CHECK(world().run().wait(seconds(180)) == 0);
  const std::string name = std::string("'") + kSlot + "'";
  source.exec("SELECT pg_drop_replication_slot(" + name + ")");
  source.exec("INSERT INTO t VALUES (31, 'lost with the slot')");
  source.exec("SELECT pg_create_logical_replication_slot(" + name + ", 'pgoutput')");
  world().start_run();
  CHECK(world().run().wait(seconds(180)) != 0);
  CHECK_MESSAGE(has(world().run().errors(), "copy is needed again"), world().run().errors());
  CHECK(world().tool("switch", {"--verify-gate", "none"}).exit_code != 0);
  CHECK(world().at_reader().one_value("SELECT count(*) FROM t WHERE id = 31") == "0");
}
