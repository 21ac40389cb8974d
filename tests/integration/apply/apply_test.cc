#include <atomic>
#include <doctest/doctest.h>

#include "tests/harness/wait.h"
#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

TEST_CASE("rows of every kind of type arrive as they were, in text and in binary") {
  for (const bool binary : {false, true}) {
    CAPTURE(binary);
    if (binary && source_server().major() < 14) {
      continue;  // pgoutput can't
    }
    Stage stage(binary ? "types_binary" : "types_text", binary);
    stage.both(
        R"(CREATE TABLE "odd "" Name" ("Group" int PRIMARY KEY, "a""b" text, c numeric(12,3), d float8, e bytea,
      f timestamptz, g jsonb, h json, i uuid, j bool, k date, l interval, m int[], n text[], o char(5), p varchar(9),
      q inet, r bit varying(9), s real, t time, u int8, v smallint, "drop me" int);
      ALTER TABLE "odd "" Name" DROP COLUMN "drop me")");
    if (!binary) {
      stage.both(
          "CREATE TYPE mood AS ENUM ('sad', 'o''k \\ \"'); CREATE DOMAIN pos AS int CHECK (VALUE > 0);"
          "CREATE TYPE pair AS (x int, y text);"
          "CREATE TABLE udt (id int PRIMARY KEY, m mood, p pos, c pair, ca pair[], r int4range, x xml, pt "
          "point)");
    }
    stage.publish();
    stage.start();
    stage.source(
        R"(INSERT INTO "odd "" Name" SELECT g, repeat(E'q"\\,(){}\n''é', g % 4), g / 7.0, CASE g WHEN 1 THEN
      'NaN'::float8 WHEN 2 THEN '-Infinity' ELSE (g / 3.0)::float8 END, decode(md5(g::text), 'hex'), now() + g * '1 h'::interval,
      jsonb_build_object('k', g, 'q', '"'), '{"a" : "x\\y" }', md5(g::text)::uuid, g % 2 = 0, '2024-02-29', '1 mon 2 d',
      ARRAY[g, NULL, 3], ARRAY['a,b', NULL, '', '"q"', '\'], 'ab', '', '10.0.0.1/8', B'101', g / 9.0, '23:59:59.999',
      -g::int8 * 10000000000, g FROM generate_series(1, 50) g)");
    stage.source(R"(UPDATE "odd "" Name" SET "a""b" = NULL, m = '{}', e = '' WHERE "Group" % 3 = 0)");
    stage.source(R"(DELETE FROM "odd "" Name" WHERE "Group" > 45)");
    if (!binary) {
      stage.source(
          "INSERT INTO udt VALUES (1, 'o''k \\ \"', 5, '(1,\"a,b\")', ARRAY['(1,x)'::pair, '(,)'], '[1,5)', "
          "'<a>&lt;</a>', '(1,2.5)'), (2, NULL, NULL, NULL, '{}', 'empty', NULL, NULL)");
    }
    REQUIRE(stage.sync() == WaitResult::reached);
    stage.check_same(R"("odd "" Name")");
    // Rows that come alone are given by their values: a key that moves is a delete and an insert.
    for (const char* statement : {R"(UPDATE "odd "" Name" SET "Group" = 60 WHERE "Group" = 1)",
                                  R"(UPDATE "odd "" Name" SET "Group" = 61 WHERE "Group" = 3)",
                                  R"(UPDATE "odd "" Name" SET d = d WHERE "Group" = 2)",
                                  R"(DELETE FROM "odd "" Name" WHERE "Group" = 4)"}) {
      stage.source(statement);
      REQUIRE(stage.sync() == WaitResult::reached);
    }
    stage.check_same(R"("odd "" Name")");
    if (!binary) {
      stage.check_same("udt");
      stage.source("UPDATE udt SET id = 3 WHERE id = 1");
      REQUIRE(stage.sync() == WaitResult::reached);
      stage.source("UPDATE udt SET x = x WHERE id = 2");
      REQUIRE(stage.sync() == WaitResult::reached);
      stage.check_same("udt");
    }
    CHECK(stage.applier->stats().row_mode_batches == 0);
  }
}

TEST_CASE("equal rows of a table without a key are changed one by one") {
  Stage stage("keyless");
  // From 18 on the server refuses FULL beside a generated column.
  const bool generated = source_server().major() < 18;
  stage.both("CREATE TABLE k (a int, b text, j json" +
             std::string(generated ? ", g int GENERATED ALWAYS AS (a + 1) STORED" : "") +
             "); ALTER TABLE k REPLICA IDENTITY FULL");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO k SELECT g % 3, NULL, '{\"a\": 1}' FROM generate_series(1, 30) g");
  stage.source("DELETE FROM k WHERE ctid IN (SELECT ctid FROM k WHERE a = 1 LIMIT 4)");
  stage.source("UPDATE k SET b = 'x' WHERE ctid IN (SELECT ctid FROM k WHERE a = 2 LIMIT 3)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("k");
  CHECK(stage.target_value("SELECT count(*) FROM k") == "26");
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("keys and secondary unique values change places") {
  Stage stage("swaps");
  stage.both(
      "CREATE TABLE s (id int PRIMARY KEY, u int UNIQUE, big text);"
      "CREATE TABLE d (id int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE d REPLICA IDENTITY FULL");
  stage.publish();
  stage.start();
  stage.source(
      "INSERT INTO s SELECT g, g, string_agg(md5((g * x)::text), '') FROM generate_series(1, 20) g, "
      "generate_series(1, 200) x GROUP BY g; INSERT INTO d SELECT g, 'v' || g FROM generate_series(1, 20) g");
  REQUIRE(stage.sync() == WaitResult::reached);
  // one batch: key swap with an unchanged TOAST value, unique hand-over, shift under a deferrable key
  stage.source(
      "UPDATE s SET id = 100 WHERE id = 1; UPDATE s SET id = 1 WHERE id = 2; UPDATE s SET id = 2 WHERE id = "
      "100");
  stage.source(
      "UPDATE s SET u = -1 WHERE id = 5; UPDATE s SET u = 5 WHERE id = 6; UPDATE s SET u = 6 WHERE id = 5");
  stage.source("UPDATE d SET id = id + 1");
  stage.source("DELETE FROM s WHERE id = 9; INSERT INTO s VALUES (9, 9, 'new')");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("s");
  stage.check_same("d");
  CHECK(stage.applier->stats().row_mode_batches > 0);
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("TRUNCATE keeps its place, unchanged TOAST its value") {
  Stage stage("toast");
  stage.both("CREATE TABLE t (id int PRIMARY KEY, n int, big text); CREATE TABLE e (id int PRIMARY KEY)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO t VALUES (1, 0, 'gone'); INSERT INTO e VALUES (1)");
  stage.source("TRUNCATE t, e");
  stage.source(
      "INSERT INTO t SELECT 1, 1, string_agg(md5(x::text), '') FROM generate_series(1, 500) x;"
      "INSERT INTO e VALUES (1), (2)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.source("UPDATE t SET n = n + 1; UPDATE t SET n = n + 1");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("t");
  stage.check_same("e");
}

TEST_CASE("a transaction larger than a batch is applied as one, also where a part needs row mode") {
  Stage stage("large");
  stage.both("CREATE TABLE l (id int PRIMARY KEY, u int UNIQUE)");
  stage.publish();
  auto options = stage.options();
  options.batch_changes_max = 100;
  stage.start(options);
  stage.source("INSERT INTO l SELECT g, g FROM generate_series(1, 1050) g");
  stage.source("BEGIN; UPDATE l SET u = -u; UPDATE l SET u = 1051 + u; COMMIT");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("l");
  const auto stats = stage.applier->stats();
  CHECK(stats.changes == 1050 * 3);
  CHECK(stats.applied + stats.compacted + stats.conflicts + stats.filtered == stats.changes);
}

TEST_CASE("a change that hits no row is recorded and apply goes on") {
  Stage stage("conflicts");
  stage.both("CREATE TABLE c (id int PRIMARY KEY, r text)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO c SELECT g, 'a' FROM generate_series(1, 10) g");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.target("DELETE FROM c WHERE id IN (3, 4)");
  stage.source("UPDATE c SET r = 'b'; DELETE FROM c WHERE id = 4");
  REQUIRE(stage.sync() == WaitResult::reached);
  CHECK(
      stage.target_value("SELECT string_agg(kind || ' ' || key, '; ' ORDER BY id) FROM pgcutover.conflict") ==
      "update_missing id=3; update_missing id=4; delete_missing id=4");
  CHECK(stage.target_value("SELECT new_row FROM pgcutover.conflict WHERE key = 'id=3'") ==
        "{\"id\":3,\"r\":\"b\"}");
  CHECK(stage.target_value("SELECT count(*) FROM c WHERE r = 'b'") == "8");
  CHECK(stage.applier->stats().conflicts == 3);
}

TEST_CASE("a change that hits no row ends the stream where conflicts stop it, and nothing of it is applied") {
  Stage stage("conflicts_stop");
  stage.both("CREATE TABLE c (id int PRIMARY KEY, r text)");
  stage.publish();
  auto options = stage.options();
  options.stop_at_conflict = true;
  stage.start(options);
  stage.source("INSERT INTO c SELECT g, 'a' FROM generate_series(1, 10) g");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.target("DELETE FROM c WHERE id = 4");
  const auto before = stage.target_value("SELECT applied_lsn FROM pgcutover.progress");
  stage.source("UPDATE c SET r = 'b'");
  stage.pump();
  const auto text = stage.failure();
  CHECK_MESSAGE(
      text.find("update of public.c (id=4) can't be applied: there is no such row here") != std::string::npos,
      text);
  CHECK(text.find("commit at ") != std::string::npos);
  CHECK(stage.target_value("SELECT count(*) FROM c WHERE r = 'a'") == "9");
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
  CHECK(stage.target_value("SELECT applied_lsn FROM pgcutover.progress") == before);
}

TEST_CASE("a row that is in the way stops the stream with table, key and place") {
  Stage stage("blocked");
  stage.both("CREATE TABLE b (id int PRIMARY KEY)");
  stage.publish();
  stage.target("INSERT INTO b VALUES (7)");
  stage.start();
  const auto before = stage.target_value("SELECT applied_lsn FROM pgcutover.progress");
  stage.source("INSERT INTO b VALUES (6), (7)");
  stage.pump();
  const auto text = stage.failure();
  CHECK(text.find("public.b (id=7)") != std::string::npos);
  CHECK(text.find("commit at ") != std::string::npos);
  CHECK(stage.target_value("SELECT string_agg(id::text, ',') FROM b") == "7");
  CHECK(stage.target_value("SELECT applied_lsn FROM pgcutover.progress") == before);
}

TEST_CASE("a column or table that is missing here is named with its remedy") {
  Stage stage("shape");
  stage.source("CREATE TABLE m (id int PRIMARY KEY, extra int)");
  stage.target("CREATE TABLE m (id int PRIMARY KEY)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO m VALUES (1, 2)");
  stage.pump();
  CHECK(stage.failure().find("ALTER TABLE \"public\".\"m\" ADD COLUMN \"extra\" integer") !=
        std::string::npos);
}

TEST_CASE("a stale applier changes nothing once another controller took over") {
  Stage stage("stale");
  stage.both("CREATE TABLE f (id int PRIMARY KEY)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO f VALUES (1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  {
    auto connection = target_server().connect("stale");
    apply::adopt_progress(connection, "forward", 2);
    CHECK_THROWS_AS(apply::adopt_progress(connection, "forward", 1), base::StateError);
  }
  stage.source("INSERT INTO f VALUES (2)");
  stage.pump();
  CHECK(stage.failure().find("another controller took over") != std::string::npos);
  CHECK(stage.target_value("SELECT count(*) FROM f") == "1");
}

TEST_CASE("what was applied is dropped when it is delivered again") {
  Stage stage("again");
  stage.both("CREATE TABLE r (id int, v int); ALTER TABLE r REPLICA IDENTITY FULL");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO r VALUES (1, 1)");
  stage.pump(false);
  stage.source("INSERT INTO r VALUES (2, 2)");
  stage.pump(false);
  stage.pump(false);
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("r");
  CHECK(stage.applier->stats().changes == 2);
}

TEST_CASE("a lost connection, also with the outcome in doubt, neither loses nor doubles rows") {
  Stage stage("lost");
  stage.both("CREATE TABLE x (id int, v int); ALTER TABLE x REPLICA IDENTITY FULL");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO x VALUES (0, 0)");
  REQUIRE(stage.sync() == WaitResult::reached);
  for (int i = 1; i <= 30; ++i) {
    stage.source("INSERT INTO x SELECT " + std::to_string(i) + ", g FROM generate_series(1, 200) g");
    stage.pump();
    stage.target(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover "
        "apply%' "
        "AND datname = current_database()");
  }
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("x");
}

TEST_CASE("a table's own snapshot decides what it has, until its marker") {
  Stage stage("filtered");
  stage.both("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
  stage.publish();
  stage.source("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)");
  const auto snapshot = stage.source_value("SELECT txid_current_snapshot()");
  stage.target("INSERT INTO a VALUES (1)");  // the copy under that snapshot
  stage.source("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
  auto options = stage.options();
  std::string passed;
  options.filters = {{"public", "a", snapshot, "m1"}};
  options.on_filter_passed = [&](const std::string& marker) { passed = marker; };
  stage.start(options);
  REQUIRE(stage.sync() == WaitResult::reached);
  CHECK(passed == "m1");
  stage.check_same("a");
  stage.check_same("b");
  CHECK(stage.applier->stats().filtered == 1);
}

TEST_CASE("hold, run_until and release stop and go between transactions") {
  Stage stage("orders");
  stage.both("CREATE TABLE h (id int PRIMARY KEY)");
  stage.publish();
  stage.start();
  REQUIRE(stage.sync() == WaitResult::reached);
  REQUIRE(stage.applier->hold(soon()) == WaitResult::reached);
  stage.source("INSERT INTO h VALUES (1)");
  const auto middle = base::Lsn::parse(stage.source_value("SELECT pg_current_wal_insert_lsn()"));
  stage.source("INSERT INTO h VALUES (2)");
  stage.pump();
  CHECK(stage.applier->run_until(middle, soon()) == WaitResult::reached);
  CHECK(stage.target_value("SELECT string_agg(id::text, ',') FROM h") == "1");
  CHECK(stage.applier->stats().held);
  stage.applier->release();
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("h");
}

TEST_CASE("what is reported as durable is flushed and stored") {
  Stage stage("durable");
  stage.both("CREATE TABLE d (id int PRIMARY KEY)");
  stage.publish();
  auto options = stage.options();
  std::atomic<std::uint64_t> reported{0};
  options.on_durable = [&](base::Lsn lsn) { reported = lsn.value; };
  stage.start(options);
  stage.source("INSERT INTO d VALUES (1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  const auto applied = stage.applier->stats().applied_lsn;
  CHECK(stage.applier->wait_durable(applied, soon()) == WaitResult::reached);
  CHECK(reported.load() >= applied.value);
  CHECK(stage.target_value("SELECT applied_lsn >= '" + applied.to_string() + "' FROM pgcutover.progress") ==
        "t");
  auto idle = std::make_shared<stream::Chunk>();
  idle->drained = true;
  idle->idle_until = {applied.value + 4096};
  REQUIRE(stage.queue.push(std::move(idle), 1, soon()));
  CHECK(stage.applier->wait_durable({applied.value + 4096}, soon()) == WaitResult::reached);
}

TEST_CASE("identity ALWAYS columns follow the source, generated ones are left to the target") {
  Stage stage("identities");
  stage.both(
      "CREATE TABLE i (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, big text, "
      "g text GENERATED ALWAYS AS (v || '!') STORED);"
      "CREATE TABLE n (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text)");
  stage.publish();
  stage.start();
  stage.source(
      "INSERT INTO i (v, big) SELECT 'v' || g, string_agg(md5((g * x)::text), '') FROM generate_series(1, 5) "
      "g, "
      "generate_series(1, 300) x GROUP BY g; INSERT INTO n (id, v) SELECT g, 'v' FROM generate_series(1, 5) "
      "g");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.source("UPDATE i SET v = 'w' WHERE id > 2; UPDATE i SET id = DEFAULT WHERE id = 2");
  stage.source("UPDATE n SET v = 'w' WHERE id = 3; UPDATE n SET n = DEFAULT WHERE id < 3");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("i");
  stage.check_same("n");
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("keys are compared as their index does") {
  Stage stage("citexts");
  stage.both(
      "CREATE EXTENSION citext; CREATE TABLE c (k citext, l numeric, v int, PRIMARY KEY (k, l));"
      "CREATE TABLE o (id int PRIMARY KEY, k char(3) NOT NULL); CREATE UNIQUE INDEX oi ON o (k, id);"
      "ALTER TABLE o REPLICA IDENTITY USING INDEX oi");
  stage.publish();
  stage.start();
  stage.source(
      "INSERT INTO c VALUES ('Abc', 1.0, 1), ('x', -0.50, 2); INSERT INTO o VALUES (1, 'a'), (2, 'b')");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.source("UPDATE c SET k = 'aBC', v = 5 WHERE k = 'ABC'; UPDATE c SET l = -0.5 WHERE k = 'X'");
  stage.source("UPDATE c SET v = v + 1; UPDATE o SET k = 'c' WHERE id = 2; DELETE FROM o WHERE id = 1");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("c");
  stage.check_same("o");
  CHECK(stage.applier->stats().row_mode_batches == 0);
}

TEST_CASE("rows are found by keys on domains over every kind of type") {
  Stage stage("domain_keys");
  stage.both(
      "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd'); CREATE TYPE pair AS (x int, y "
      "text);"
      "CREATE DOMAIN moods AS mood; CREATE DOMAIN inner_ints AS int[]; CREATE DOMAIN ints AS inner_ints;"
      "CREATE DOMAIN spans AS int4range; CREATE DOMAIN pairs AS pair; CREATE DOMAIN words AS citext;"
      "CREATE TABLE e (k moods PRIMARY KEY, v int); CREATE TABLE i (k ints PRIMARY KEY, v int);"
      "CREATE TABLE s (k spans PRIMARY KEY, v int); CREATE TABLE p (k pairs PRIMARY KEY, v int);"
      "CREATE TABLE w (k words PRIMARY KEY, v int); CREATE TABLE d (k moods PRIMARY KEY DEFERRABLE, v int);"
      "ALTER TABLE d REPLICA IDENTITY FULL; CREATE TABLE plain (id int PRIMARY KEY, v int)");
  stage.publish();
  stage.start();
  const std::pair<const char*, std::vector<std::string>> keys[] = {
      {"e", {"'a'", "'b'", "'c'", "'d'"}},
      {"d", {"'a'", "'b'", "'c'", "'d'"}},
      {"i", {"'{1}'", "'{}'", "'{NULL}'", "'{2,3}'"}},
      {"s", {"'[1,2)'", "'empty'", "'(,)'", "'[5,)'"}},
      {"p", {"'(1,a)'", "'(,)'", "'(2,)'", "'(2,b)'"}},
      {"w", {"'a'", "''", "'b'", "'c'"}}};
  for (const auto& [table, key] : keys) {
    const std::string name(table);
    stage.source("INSERT INTO " + name + " VALUES (" + key[0] + ", 1), (" + key[1] + ", 2), (" + key[2] +
                 ", 3)");
  }
  stage.source("INSERT INTO plain VALUES (1, 1), (2, 2)");
  REQUIRE(stage.sync() == WaitResult::reached);
  // As sets, as rows that come alone, and change by change, since one of them is missed.
  for (int round = 0; round < 3; ++round) {
    if (round == 2) {
      stage.target("DELETE FROM plain WHERE id = 1");
      stage.source("UPDATE plain SET v = 5");
    }
    for (const auto& [table, key] : keys) {
      const std::string name(table);
      for (const std::string& sql : {"UPDATE " + name + " SET v = v + 10 WHERE v % 10 < 3",
                                     "DELETE FROM " + name + " WHERE v % 10 = 3",
                                     "UPDATE " + name + " SET k = " + key[3] + " WHERE v % 10 = 2",
                                     "INSERT INTO " + name + " VALUES (" + key[2] + ", 3)",
                                     "UPDATE " + name + " SET k = " + key[1] + " WHERE v % 10 = 2"}) {
        stage.source(sql);
        if (round == 1) {
          REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
        }
      }
    }
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    for (const auto& [table, key] : keys) {
      stage.check_same(table);
    }
  }
  CHECK(stage.target_value("SELECT string_agg(DISTINCT table_name, ' ') FROM pgcutover.conflict") == "plain");
}

TEST_CASE("partitions, inheritance and columns of the target's own") {
  Stage stage("layouts");
  stage.both(
      "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (extra int, PRIMARY KEY (id)) "
      "INHERITS "
      "(parent); CREATE TABLE pt (id int, r text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);"
      "CREATE TABLE pt_a PARTITION OF pt FOR VALUES IN ('a'); CREATE TABLE pt_b PARTITION OF pt FOR VALUES "
      "IN ('b')");
  stage.source("CREATE TABLE w (v text, id int PRIMARY KEY)");
  stage.target(
      "CREATE TABLE w (own int DEFAULT 7, id int PRIMARY KEY, v text, gone int); ALTER TABLE w DROP COLUMN "
      "gone");
  stage.publish();
  stage.start();
  stage.source(
      "INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (1, 'c', 2); INSERT INTO w VALUES ('x', "
      "1)");
  stage.source("INSERT INTO pt VALUES (1, 'a'), (2, 'b'); UPDATE pt SET r = 'b' WHERE id = 1");
  stage.source("UPDATE ONLY parent SET v = 'q'; DELETE FROM w; INSERT INTO w VALUES ('y', 1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("ONLY parent");
  stage.check_same("child");
  stage.check_same("pt_b");
  CHECK(stage.target_value("SELECT own || v FROM w") == "7y");
}

TEST_CASE("a stream that starts again drops what was unfinished") {
  Stage stage("resets");
  stage.both("CREATE TABLE z (id int, v int); ALTER TABLE z REPLICA IDENTITY FULL");
  stage.publish();
  auto options = stage.options();
  options.batch_changes_max = 50;
  stage.start(options);
  stage.source("INSERT INTO z SELECT g, g FROM generate_series(1, 500) g");
  stage.pump_part(300);  // the target transaction is open with parts
  auto reset = std::make_shared<stream::Chunk>();
  reset->reset = true;
  REQUIRE(stage.queue.push(std::move(reset), 1, soon()));
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("z");
  CHECK(stage.applier->stats().transactions > 0);
}

TEST_CASE("a target that lost commits in a crash ends apply with an error that asks for a new start") {
  Stage stage("crashed");
  stage.both("CREATE TABLE y (id int PRIMARY KEY)");
  stage.publish();
  stage.start();
  stage.source("INSERT INTO y VALUES (1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  const auto early = stage.target_value("SELECT applied_lsn FROM pgcutover.progress");
  stage.source("INSERT INTO y VALUES (2)");
  REQUIRE(stage.sync() == WaitResult::reached);
  // As a crash leaves it: rows and progress row of the last commit gone, the sessions too.
  stage.target("DELETE FROM y WHERE id = 2; UPDATE pgcutover.progress SET applied_lsn = '" + early + "'");
  stage.target(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover apply%' "
      "AND "
      "datname = current_database()");
  stage.source("INSERT INTO y VALUES (3)");
  stage.pump();
  CHECK(stage.failure().find("must be started again") != std::string::npos);
  CHECK(stage.target_value("SELECT string_agg(id::text, ',') FROM y") == "1");
}

TEST_CASE("a target that lost commits while its session was idle is noticed before anything is written") {
  Stage stage("crashed_idle");
  stage.both("CREATE TABLE y (id int PRIMARY KEY); CREATE TABLE z (id int)");
  stage.target("CREATE SEQUENCE written; ALTER TABLE z ADD own int DEFAULT nextval('written')");
  stage.publish();
  auto options = stage.options();
  options.batch_changes_max = 50;
  stage.start(options);
  stage.source("INSERT INTO y VALUES (1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  const auto early = stage.target_value("SELECT applied_lsn FROM pgcutover.progress");
  stage.source("INSERT INTO y VALUES (2)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.source("INSERT INTO z SELECT g FROM generate_series(1, 500) g");
  stage.pump_part(302);  // BEGIN, the relation, six parts
  harness::wait_until(soon(), "all parts are written", [&] {
    return stage.target_value(
               "SELECT last_value FROM written, pg_stat_activity WHERE application_name LIKE 'pgcutover "
               "apply%' AND datname = current_database() AND state = 'idle in transaction'") == "300";
  });
  // A crash, of which apply sees nothing: it waits for the source, whose connection is lost as well.
  constexpr const char* kSession =
      "pg_stat_activity WHERE application_name LIKE 'pgcutover apply%' AND datname = current_database()";
  stage.target(std::string("SELECT pg_terminate_backend(pid) FROM ") + kSession);
  harness::wait_until(soon(), "its session is gone", [&] {
    return stage.target_value(std::string("SELECT count(*) FROM ") + kSession) == "0";
  });
  stage.target("DELETE FROM y WHERE id = 2; UPDATE pgcutover.progress SET applied_lsn = '" + early + "'");
  auto reset = std::make_shared<stream::Chunk>();
  reset->reset = true;
  REQUIRE(stage.queue.push(std::move(reset), 1, soon()));
  stage.pump();
  CHECK(stage.failure().find("must be started again") != std::string::npos);
}

TEST_CASE("a large transaction whose progress can't be moved is not committed without its earlier parts") {
  Stage stage("unmoved");
  stage.both("CREATE TABLE z (id int PRIMARY KEY)");
  stage.publish();
  // Refuses the position once, in the large transaction's last part.
  stage.target(
      "CREATE SEQUENCE calls; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "IF NEW.changes > OLD.changes + 100 AND nextval('public.calls') = 1 THEN RAISE 'refused'; END IF; "
      "RETURN NEW; END $$; "
      "CREATE TRIGGER refuse BEFORE UPDATE ON pgcutover.progress FOR EACH ROW EXECUTE FUNCTION refuse(); "
      "ALTER TABLE pgcutover.progress ENABLE ALWAYS TRIGGER refuse");
  auto options = stage.options();
  options.batch_changes_max = 50;
  stage.start(options);
  stage.source("INSERT INTO z SELECT g FROM generate_series(1, 120) g");
  stage.pump();
  CHECK(stage.failure().find("progress can't be written: ") != std::string::npos);
  CHECK(stage.target_value("SELECT count(*) FROM z") == "0");
}

TEST_CASE("a database without an encoding keeps bytes that are no UTF-8, in rows, keys and conflicts") {
  Stage stage("no_encoding");
  for (auto* server : {&source_server(), &target_server()}) {
    server->sql("postgres", "DROP DATABASE no_encoding");
    server->sql(
        "postgres",
        "CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
  }
  stage.source("CREATE SCHEMA pgcutover");
  stage.source("CREATE TABLE pgcutover.marker (id int PRIMARY KEY, token text, written_us bigint)");
  stage.source("INSERT INTO pgcutover.marker VALUES (1, '', 0), (2, '', 0)");
  stage.target(apply::progress_schema_sql());
  stage.both("CREATE TABLE t (k text PRIMARY KEY, v text)");
  stage.publish();
  stage.start();
  stage.source(
      "INSERT INTO t VALUES (convert_from('\\xe9e8ff', 'SQL_ASCII'), convert_from('\\xfffe80', "
      "'SQL_ASCII')), "
      "('x', 'y')");
  REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
  stage.check_same("t");
  stage.target("DELETE FROM t");
  stage.source("UPDATE t SET v = v || convert_from('\\xe9', 'SQL_ASCII')");
  REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "2");
}
