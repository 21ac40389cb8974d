// Tables that change on one side while the stream flows, and what the target has of its own.
#include <doctest/doctest.h>

#include "replication/apply/quiet.h"
#include "replication/catalog/catalog.h"
#include "tests/harness/wait.h"
#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

namespace {

void wait_for_misfit(Stage& stage, const std::string& statement) {
  harness::wait_until(soon(), "apply waits for " + statement, [&] {
    return stage.applier->stats().waiting_for.find(statement) != std::string::npos;
  });
}

apply::ApplierOptions patient(Stage& stage) {
  auto options = stage.options();
  options.misfit_budget = base::milliseconds{600'000};
  return options;
}

std::vector<replication::catalog::Table> tables(const std::vector<std::string>& names) {
  std::vector<replication::catalog::Table> list;
  for (const auto& name : names) {
    list.emplace_back();
    list.back().schema = "public";
    list.back().name = name;
  }
  return list;
}

std::string modes(Stage& stage) {
  return stage.target_value(
      "SELECT string_agg(w, ' ' ORDER BY w) FROM (SELECT tgrelid::regclass || '.' || tgname || '=' || "
      "tgenabled::text "
      "FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'q%' AND tgname IN ('a', 'r', 'o', 'd', 'p') UNION "
      "ALL SELECT ev_class::regclass || '.' || rulename || '=' "
      "|| "
      "ev_enabled::text FROM pg_rewrite WHERE ev_class::regclass::text LIKE 'q%') AS x(w)");
}

}  // namespace

TEST_CASE("a column that only the source has is waited for, then everything goes on in order") {
  for (const bool binary : {false, true}) {
    if (binary && source_server().major() < 14) {
      continue;
    }
    Stage stage("misfit", binary);
    stage.both("CREATE TABLE m (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY)");
    stage.publish();
    stage.start(patient(stage));
    stage.source("INSERT INTO m VALUES (1, 'a')");
    stage.source("ALTER TABLE m ADD COLUMN extra int DEFAULT 7");
    stage.source("INSERT INTO m VALUES (2, 'b', 8); INSERT INTO other VALUES (1)");
    stage.source("UPDATE m SET v = 'c' WHERE id = 1");
    stage.pump();
    wait_for_misfit(stage, "ALTER TABLE \"public\".\"m\" ADD COLUMN \"extra\" integer");
    CHECK(stage.target_value("SELECT count(*) FROM other") == "0");
    stage.target("ALTER TABLE m ADD COLUMN extra int DEFAULT 7");
    REQUIRE(stage.sync() == WaitResult::reached);
    stage.check_same("m");
    stage.check_same("other");
    CHECK(stage.applier->stats().waiting_for.empty());
    CHECK(stage.applier->stats().conflicts == 0);
  }
}

TEST_CASE("tables that change names go on as who they are, also where the names change places") {
  Stage stage("names");
  stage.both(
      "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);"
      "CREATE TABLE gone (id int PRIMARY KEY); CREATE SCHEMA apart");
  stage.publish();
  auto options = patient(stage);
  options.keep_twins = true;
  stage.start(options);
  stage.source("INSERT INTO a VALUES (1, 'a'), (2, 'a'); INSERT INTO b VALUES (1, 'b'), (2, 'b')");
  stage.source("INSERT INTO gone VALUES (1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  const std::string swap =
      "BEGIN; ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b; COMMIT";
  stage.source(swap);
  stage.source("UPDATE a SET v = 'new a' WHERE id = 1; DELETE FROM b WHERE id = 2");
  stage.pump();
  wait_for_misfit(stage, "ALTER TABLE \"public\".\"b\" RENAME TO \"a\"");
  CHECK(stage.target_value("SELECT string_agg(v, '') FROM a") == "aa");
  stage.target(swap);
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("a");
  stage.check_same("b");
  stage.source("BEGIN; ALTER TABLE gone RENAME TO stays; ALTER TABLE stays SET SCHEMA apart; COMMIT");
  stage.source("INSERT INTO apart.stays VALUES (2)");
  stage.pump();
  wait_for_misfit(
      stage,
      "ALTER TABLE \"public\".\"gone\" SET SCHEMA \"apart\"; ALTER TABLE \"apart\".\"gone\" RENAME "
      "TO \"stays\"");
  stage.target("ALTER TABLE gone SET SCHEMA apart; ALTER TABLE apart.gone RENAME TO stays");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("apart.stays");
  // Of a table that was made again it is the name that counts, on either side.
  stage.source(
      "DROP TABLE b; CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b VALUES (7, 'other')");
  stage.target("DELETE FROM b");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("b");
  stage.source("DELETE FROM a");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.target("DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, v text)");
  stage.source(
      "ALTER TABLE a ALTER COLUMN v SET NOT NULL; DELETE FROM a; INSERT INTO a VALUES (8, 'made again')");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("a");
}

TEST_CASE("a binary stream is started again where a column comes whose values are bound to a server") {
  if (source_server().major() < 14) {
    return;
  }
  Stage stage("bound", true);
  stage.both(
      "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE named ()");
  stage.publish();
  stage.start();
  stage.both("ALTER TABLE t ADD COLUMN m mood");  // sent as its label
  stage.source("INSERT INTO t VALUES (1, 'glad')");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("t");
  stage.both("ALTER TABLE t ADD COLUMN r regclass");
  stage.source("INSERT INTO t VALUES (2, 'sad', 'named')");
  stage.pump();
  const auto text = stage.failure();
  CHECK_MESSAGE(text.find("the stream must be started again") != std::string::npos, text);
  CHECK(stage.target_value("SELECT count(*) FROM t") == "1");
  try {
    std::rethrow_exception(stage.applier->failure());
  } catch (const base::Error& error) {
    CHECK(error.retryable());
  }
}

TEST_CASE("a stop ends the wait for the target") {
  Stage stage("misfitstop");
  stage.source("CREATE TABLE m (id int PRIMARY KEY)");
  stage.publish();
  stage.start(patient(stage));
  stage.source("INSERT INTO m VALUES (1)");
  stage.pump();
  wait_for_misfit(stage, "pgcutover resync --table public.m takes it in");
  const auto begin = base::Clock::now();
  stage.applier->stop();
  CHECK(base::Clock::now() - begin < base::milliseconds(120'000));
}

TEST_CASE("a column that was added on the target first doesn't stop the stream") {
  for (const bool binary : {false, true}) {
    if (binary && source_server().major() < 14) {
      continue;
    }
    Stage stage("targetfirst", binary);
    stage.both(
        "CREATE TABLE m (id int PRIMARY KEY, v text); CREATE TABLE k (a int); ALTER TABLE k REPLICA IDENTITY "
        "FULL");
    stage.publish();
    stage.start(patient(stage));
    stage.source("INSERT INTO m VALUES (1, 'a'), (2, 'b'); INSERT INTO k VALUES (1), (1)");
    REQUIRE(stage.sync() == WaitResult::reached);
    stage.target("ALTER TABLE m ADD COLUMN extra int; ALTER TABLE k ADD COLUMN extra int");
    stage.source(
        "UPDATE m SET v = 'c'; INSERT INTO m VALUES (3, 'd'); UPDATE k SET a = 2 WHERE ctid = '(0,1)'");
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    stage.source("ALTER TABLE m ADD COLUMN extra int; ALTER TABLE k ADD COLUMN extra int");
    stage.source("UPDATE m SET extra = id; DELETE FROM k WHERE a = 2");
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    stage.check_same("m");
    stage.check_same("k");
  }
}

TEST_CASE("a replica identity that changes in mid-stream is followed") {
  Stage stage("identity");
  stage.both("CREATE TABLE m (id int PRIMARY KEY, k text NOT NULL UNIQUE, v text)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO m SELECT g, 'k' || g, 'v' FROM generate_series(1, 10) g");
  stage.source("UPDATE m SET v = 'w' WHERE id = 1");
  stage.source("ALTER TABLE m REPLICA IDENTITY FULL; UPDATE m SET v = 'x' WHERE id = 2");
  stage.source("ALTER TABLE m REPLICA IDENTITY USING INDEX m_k_key; UPDATE m SET id = 100 WHERE k = 'k3'");
  stage.source("ALTER TABLE m DROP CONSTRAINT m_pkey; DELETE FROM m WHERE k = 'k4'");
  stage.source(
      "ALTER TABLE m REPLICA IDENTITY FULL; ALTER TABLE m DROP CONSTRAINT m_k_key; UPDATE m SET v = v || k");
  REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
  stage.check_same("m");
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("a generated column in the key is refused by name") {
  if (source_server().major() >= 18) {
    return;  // the server refuses the change itself
  }
  Stage stage("genkey");
  stage.both(
      "CREATE TABLE g (id int NOT NULL, k int GENERATED ALWAYS AS (id * 2) STORED, v text, PRIMARY KEY (id, "
      "k))");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO g VALUES (1, DEFAULT, 'a')");
  stage.pump();
  CHECK(stage.failure().find("the replica identity (\"id\") of public.g has no unique index here") !=
        std::string::npos);
}

TEST_CASE("columns in another order, dropped ones and the target's own need no type of ours") {
  for (const bool binary : {false, true}) {
    if (binary && source_server().major() < 14) {
      continue;
    }
    Stage stage("orders", binary);
    stage.source(
        "CREATE TABLE o (gone int, id int PRIMARY KEY, a text, b int[], c numeric); ALTER TABLE o DROP "
        "COLUMN gone");
    stage.target(
        "CREATE TABLE o (c numeric, own int DEFAULT 7, b int[], gone text, gone2 text, id int PRIMARY KEY, a "
        "text);"
        "ALTER TABLE o DROP COLUMN gone; ALTER TABLE o DROP COLUMN gone2");
    stage.publish();
    stage.start();
    stage.source("INSERT INTO o SELECT g, 'a' || g, ARRAY[g, NULL], g / 3.0 FROM generate_series(1, 50) g");
    stage.source(
        "UPDATE o SET b = '{}' WHERE id < 10; DELETE FROM o WHERE id > 40; UPDATE o SET id = -id WHERE id < "
        "5");
    REQUIRE(stage.sync() == WaitResult::reached);
    const std::string rows = "SELECT md5(string_agg(ROW(id, a, b, c)::text, '' ORDER BY id)) FROM o";
    CHECK(stage.target_value(rows) == stage.source_value(rows));
    CHECK(stage.target_value("SELECT count(*) FROM o WHERE own = 7") == "40");
    CHECK(stage.applier->stats().row_mode_batches == 0);
  }
}

TEST_CASE("domains that forbid NULL don't stop changes that carry the key alone") {
  for (const bool binary : {false, true}) {
    if (binary && source_server().major() < 14) {
      continue;
    }
    Stage stage("domains", binary);
    // 12 and 13 can't fill one themselves.
    const std::string generated =
        source_server().major() < 14 ? "" : ", g strict GENERATED ALWAYS AS (id + 1) STORED";
    stage.both(
        "CREATE DOMAIN strict AS int NOT NULL; CREATE DOMAIN inner_one AS strict CHECK (VALUE > 0);"
        "CREATE DOMAIN filled AS text CHECK (VALUE IS NOT NULL); CREATE DOMAIN days AS date[] NOT NULL;"
        "CREATE TABLE d (id inner_one PRIMARY KEY, v inner_one, f filled, a days, n numeric(10, 2)" +
        generated +
        ");"
        "CREATE TABLE full_one (v strict, f filled, x json); ALTER TABLE full_one REPLICA IDENTITY FULL");
    stage.publish();
    stage.start();
    stage.source(
        "INSERT INTO d SELECT g, g, 'f' || g, ARRAY[DATE '2026-01-01' + g], g / 7.0 FROM generate_series(1, "
        "50) "
        "g; INSERT INTO full_one SELECT g % 5, 'f', '[1]' FROM generate_series(1, 20) g");
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    stage.source(
        "DELETE FROM d WHERE id < 5; UPDATE d SET id = id + 1000 WHERE id < 10; UPDATE d SET f = 'x'");
    stage.source(
        "DELETE FROM full_one WHERE ctid IN ('(0,1)', '(0,2)'); UPDATE full_one SET f = 'y' WHERE v = 3");
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    stage.check_same("d");
    stage.check_same("full_one");
    CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
    CHECK(stage.target_value("SELECT count(*) FROM pg_class WHERE relkind = 'c' AND relnamespace = "
                             "'pgcutover'::regnamespace") == "2");
  }
}

TEST_CASE("triggers and rules that fire for applied changes sleep meanwhile and are woken as they were") {
  Stage stage("quiet");
  stage.both(
      "CREATE TABLE q1 (id int PRIMARY KEY); CREATE TABLE q2 (id int PRIMARY KEY); CREATE TABLE log (w text);"
      "CREATE TABLE qp (id int PRIMARY KEY) PARTITION BY RANGE (id);"
      "CREATE TABLE qp1 PARTITION OF qp FOR VALUES FROM (0) TO (100);"
      "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES "
      "(TG_NAME); "
      "RETURN NULL; END $$;"
      "CREATE TRIGGER a AFTER INSERT ON q1 FOR EACH ROW EXECUTE FUNCTION note();"
      "CREATE TRIGGER r AFTER INSERT ON q1 FOR EACH ROW EXECUTE FUNCTION note();"
      "CREATE TRIGGER o AFTER INSERT ON q1 FOR EACH ROW EXECUTE FUNCTION note();"
      "CREATE TRIGGER d AFTER INSERT ON q1 FOR EACH ROW EXECUTE FUNCTION note();"
      "CREATE TRIGGER p AFTER INSERT ON qp FOR EACH ROW EXECUTE FUNCTION note();"
      "CREATE RULE rule1 AS ON INSERT TO q2 DO ALSO INSERT INTO public.log VALUES ('rule1');"
      "ALTER TABLE q1 ENABLE ALWAYS TRIGGER a; ALTER TABLE q1 ENABLE REPLICA TRIGGER r;"
      "ALTER TABLE q1 DISABLE TRIGGER d; ALTER TABLE qp1 ENABLE ALWAYS TRIGGER p;"
      "ALTER TABLE q2 ENABLE ALWAYS RULE rule1");
  stage.publish();
  const auto before = modes(stage);
  REQUIRE(before.find("q1.a=A") != std::string::npos);
  SUBCASE("without that the stream refuses them by name") {
    stage.start();
    stage.source("INSERT INTO q1 VALUES (1)");
    stage.pump();
    CHECK(stage.failure().find("trigger a of public.q1 fires for applied changes too") != std::string::npos);
  }
  stage.target(replication::postgres::FencingToken::schema_sql());
  SUBCASE("asleep, then awake") {
    auto connection = target_server().connect("quiet");
    const auto quieted = apply::quiet_tables(connection, tables({"q1", "q2", "qp"}), {}, soon());
    CHECK(quieted.size() == 4);
    CHECK(apply::quiet_tables(connection, tables({"q1", "q2", "qp"}), {}, soon()).empty());
    stage.start();
    stage.source("INSERT INTO q1 VALUES (1); INSERT INTO q2 VALUES (1); INSERT INTO qp VALUES (1)");
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    stage.check_same("log");  // what the source's triggers wrote, once
    stage.check_same("q1");
    CHECK(apply::wake_tables(connection, {}, soon()).empty());
    CHECK(modes(stage) == before);
    CHECK(apply::wake_tables(connection, {}, soon()).empty());
    CHECK(modes(stage) == before);
  }
  SUBCASE(
      "a table in use is waited for without anybody queueing behind us; a stale controller changes nothing") {
    auto connection = target_server().connect("quiet");
    REQUIRE(apply::quiet_tables(connection, tables({"q1"}), {}, soon()).size() == 2);
    const auto asleep = modes(stage);
    CHECK_THROWS_AS(apply::wake_tables(connection, replication::postgres::FencingToken(7), soon()),
                    base::StateError);
    CHECK(modes(stage) == asleep);
    auto reader = target_server().connect("quiet");
    reader.exec("BEGIN; LOCK TABLE q1 IN ROW EXCLUSIVE MODE");
    const auto begun = base::Clock::now();
    CHECK_THROWS_WITH_AS(apply::wake_tables(connection, {}, base::Deadline::in(base::milliseconds(500))),
                         doctest::Contains("lock timeout"), base::Error);
    CHECK(base::Clock::now() - begun < base::milliseconds(120'000));
    CHECK(modes(stage) == asleep);
    reader.exec("COMMIT");
    CHECK(apply::wake_tables(connection, {}, soon()).empty());
    CHECK(modes(stage) == before);
  }
  SUBCASE("what somebody changed meanwhile stays and is named") {
    auto connection = target_server().connect("quiet");
    apply::quiet_tables(connection, tables({"q1", "q2"}), {}, soon());
    stage.target("ALTER TABLE q1 DISABLE TRIGGER a; DROP RULE rule1 ON q2");
    const auto left = apply::wake_tables(connection, {}, soon());
    REQUIRE(left.size() == 2);
    CHECK(left[0].find("rule rule1 of public.q2 is gone") != std::string::npos);
    CHECK(left[1] == "trigger a of public.q1 is now DISABLE, it was ENABLE ALWAYS");
  }
}

TEST_CASE("what was written before a table changed is applied before the target is changed") {
  Stage stage("before");
  stage.both(
      "CREATE TABLE t (id int PRIMARY KEY, v int, big text); CREATE TABLE n (id int PRIMARY KEY, old text);"
      "CREATE TABLE other (id int PRIMARY KEY)");
  stage.publish();
  stage.start(patient(stage));
  stage.source("INSERT INTO t VALUES (1, 1, 'x'); INSERT INTO n VALUES (1, 'a')");
  REQUIRE(stage.sync() == WaitResult::reached);
  // One chunk, as a backlog brings it: rows of the old shape, then the change and rows of the same
  // transaction as it.
  stage.source(
      "INSERT INTO t VALUES (2, 2, 'y'); UPDATE t SET v = 7 WHERE id = 1; INSERT INTO other VALUES (1)");
  stage.source(
      "BEGIN; INSERT INTO other VALUES (2); TRUNCATE other; INSERT INTO other VALUES (3); UPDATE other SET "
      "id = 4;"
      "ALTER TABLE t ALTER COLUMN v TYPE bigint USING v * 100; INSERT INTO t VALUES (3, 3, 'z'); COMMIT");
  stage.source("INSERT INTO t VALUES (4, 4, 'z')");
  stage.pump();
  wait_for_misfit(stage, "ALTER COLUMN \"v\" TYPE bigint");
  CHECK(stage.target_value("SELECT string_agg(v::text, ' ' ORDER BY id) FROM t") == "7 2");
  CHECK(stage.target_value("SELECT count(*) FROM other WHERE id = 1") == "1");
  stage.target("ALTER TABLE t ALTER COLUMN v TYPE bigint USING v * 100");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("t");
  stage.check_same("other");
  // A column that is renamed: its rows are found by the old name before, by the new one after.
  stage.source("UPDATE n SET old = 'b'; INSERT INTO n VALUES (2, 'c')");
  stage.source("ALTER TABLE n RENAME COLUMN old TO new");
  stage.source("UPDATE n SET new = new || '!' WHERE id = 2");
  stage.pump();
  wait_for_misfit(stage, "RENAME COLUMN \"old\" TO \"new\"");
  CHECK(stage.target_value("SELECT string_agg(old, '' ORDER BY id) FROM n") == "bc");
  stage.target("ALTER TABLE n RENAME COLUMN old TO new");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("n");
  const auto stats = stage.applier->stats();
  CHECK(stats.changes == stats.applied + stats.compacted + stats.filtered + stats.conflicts);
  CHECK(stats.conflicts == 0);
}
