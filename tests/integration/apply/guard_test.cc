// Small batches go to the target in one burst with their COMMIT: what keeps a batch that doesn't fit from
// being committed, and what is known when the answer is lost.
#include "tests/harness/tcp_proxy.h"
#include "tests/harness/wait.h"
#include "tests/integration/apply/stage.h"

using apply_stage::soon;
using apply_stage::Stage;
using apply_stage::target_server;
using replication::apply::WaitResult;

namespace {

std::string progress(Stage& stage) {
  return stage.target_value("SELECT applied_lsn FROM pgcutover.progress");
}

// Waits until apply's session on the target waits for a lock.
void wait_blocked(Stage& stage) {
  harness::wait_until(soon(), "apply waits for a lock", [&] {
    return stage.target_value(
               "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover apply%' AND "
               "datname = current_database() AND wait_event_type = 'Lock'") == "1";
  });
}

}  // namespace

TEST_CASE("a set that misses a row isn't committed; the batch is repeated and the miss recorded") {
  Stage stage("guard_none");
  stage.both("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO a VALUES (1, 'a'), (2, 'a'); INSERT INTO b VALUES (1, 'a'), (2, 'a')");
  REQUIRE(stage.sync() == WaitResult::reached);
  CHECK(stage.applier->stats().row_mode_batches == 0);
  // Each commit leaves its xid behind: what was tried in vain must leave none.
  stage.target(
      "CREATE TABLE tried (xid bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "INSERT INTO public.tried VALUES (txid_current()); RETURN NULL; END $$;"
      "CREATE TRIGGER note AFTER UPDATE ON a FOR EACH STATEMENT EXECUTE FUNCTION note();"
      "ALTER TABLE a ENABLE ALWAYS TRIGGER note");
  for (const char* statement : {"UPDATE b SET v = v || 'b'", "DELETE FROM b WHERE id = 2"}) {
    INFO(statement);
    stage.target("DELETE FROM b WHERE id = 2; TRUNCATE tried");
    const auto before = stage.applier->stats();
    stage.source(std::string("BEGIN; UPDATE a SET v = v || 'b'; ") + statement + "; COMMIT");
    REQUIRE(stage.sync() == WaitResult::reached);
    const auto after = stage.applier->stats();
    CHECK(after.row_mode_batches == before.row_mode_batches + 1);
    CHECK(after.conflicts == before.conflicts + 1);
    stage.check_same("a");
    CHECK(stage.target_value("SELECT count(DISTINCT xid) FROM tried") == "1");
  }
  CHECK(
      stage.target_value("SELECT string_agg(kind || ' ' || key, '; ' ORDER BY id) FROM pgcutover.conflict") ==
      "update_missing id=2; delete_missing id=2");
  // What was prepared, or skipped while it was to be, doesn't matter to the batches after.
  stage.source("INSERT INTO b VALUES (3, 'c'); DELETE FROM a WHERE id = 2; UPDATE a SET v = 'd'");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("a");
  stage.check_same("b");
}

TEST_CASE("a set that touches two rows for one isn't committed and stops the stream") {
  Stage stage("guard_two");
  stage.both("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (1, 'a')");
  REQUIRE(stage.sync() == WaitResult::reached);
  const auto before = progress(stage);
  stage.target("ALTER TABLE b DROP CONSTRAINT b_pkey; INSERT INTO b VALUES (1, 'twin')");
  stage.source("BEGIN; UPDATE a SET v = 'b'; UPDATE b SET v = 'b'; COMMIT");
  stage.pump();
  CHECK(!stage.failure().empty());
  CHECK(stage.target_value("SELECT string_agg(v, ',' ORDER BY v) FROM b") == "a,twin");
  CHECK(stage.target_value("SELECT v FROM a") == "a");
  CHECK(progress(stage) == before);
}

TEST_CASE(
    "an error of the server in the middle of a burst leaves nothing of it, and no statement half known") {
  Stage stage("guard_error");
  stage.both(
      "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, u int UNIQUE);"
      "CREATE TABLE c (id int PRIMARY KEY, v text)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (1, 1), (2, 2)");
  REQUIRE(stage.sync() == WaitResult::reached);
  // Two rows change a unique value: refused in the middle. The statement for c comes after it, and was never
  // prepared before.
  stage.source(
      "BEGIN; UPDATE a SET v = v || 'b'; UPDATE b SET u = 3 WHERE id = 1; UPDATE b SET u = 1 WHERE id = 2; "
      "UPDATE b SET u = 2 WHERE id = 1; INSERT INTO c VALUES (1, 'a'); COMMIT");
  REQUIRE(stage.sync() == WaitResult::reached);
  CHECK(stage.applier->stats().row_mode_batches == 1);
  stage.source("INSERT INTO c VALUES (2, 'a'); UPDATE a SET v = v || 'c'");
  REQUIRE(stage.sync() == WaitResult::reached);
  CHECK(stage.applier->stats().row_mode_batches == 1);
  for (const char* table : {"a", "b", "c"}) {
    stage.check_same(table);
  }
  // And where nothing helps, it stops with nothing written.
  const auto before = progress(stage);
  stage.target("ALTER TABLE c ADD CONSTRAINT short CHECK (length(v) < 3) NOT VALID");
  stage.source("BEGIN; UPDATE a SET v = 'lost'; UPDATE c SET v = 'long' WHERE id = 2; COMMIT");
  stage.pump();
  CHECK(stage.failure().find("public.c (id=2)") != std::string::npos);
  CHECK(stage.target_value("SELECT v FROM a") == "abc");
  CHECK(progress(stage) == before);
}

TEST_CASE("a burst whose answer is lost is not applied again, one that died is") {
  Stage stage("guard_lost");
  stage.both("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE busy (id int PRIMARY KEY, v text)");
  stage.publish();
  harness::TcpProxy proxy(target_server().host(), harness::Cluster::kPort);
  auto options = stage.options();
  options.server = replication::postgres::ConnInfo::parse(proxy.conninfo("guard_lost", "postgres"), "target");
  stage.start(options);
  stage.source("INSERT INTO a VALUES (1, 'a'); INSERT INTO busy VALUES (1, 'a')");
  REQUIRE(stage.sync() == WaitResult::reached);
  for (const bool arrives : {true, false}) {
    INFO("the server gets to the COMMIT: " << arrives);
    const auto before = stage.applier->stats();
    auto blocker = target_server().connect("guard_lost");
    blocker.exec("BEGIN; SELECT 1 FROM busy FOR UPDATE");
    const auto place = progress(stage);
    stage.source("BEGIN; UPDATE a SET v = v || 'b'; UPDATE busy SET v = v || 'b'; COMMIT");
    stage.pump();
    wait_blocked(stage);  // the whole burst is with the server: it is small
    proxy.set_refusing(true);
    if (!arrives) {
      stage.target(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover "
          "apply%' AND datname = current_database()");
      harness::wait_until(soon(), "it is gone", [&] {
        return stage.target_value(
                   "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover apply%' AND "
                   "datname = current_database()") == "0";
      });
    }
    proxy.cut();
    blocker.exec("COMMIT");
    if (arrives) {
      harness::wait_until(soon(), "the burst was committed", [&] { return progress(stage) != place; });
    } else {
      CHECK(progress(stage) == place);
    }
    proxy.set_refusing(false);
    REQUIRE(stage.sync() == WaitResult::reached);
    stage.check_same("a");
    stage.check_same("busy");
    const auto after = stage.applier->stats();
    CHECK(after.row_mode_batches == before.row_mode_batches);
    CHECK(after.changes == before.changes + 2);
  }
}
