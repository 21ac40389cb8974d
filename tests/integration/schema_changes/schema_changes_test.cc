// Tables and types that change on the side that takes writes, moved by the real program: what is followed by
// itself, what is waited for, what has to be compared again.
#include <csignal>

#include "tests/integration/schema_changes/stage.h"

using namespace schema_changes;

TEST_CASE("schema-changes: apply follows what is proven, there and on the way back") {
  Stage stage("follows", "apply",
              "CREATE TYPE mood AS ENUM ('good', 'bad');"
              "CREATE TABLE t (id int PRIMARY KEY, n int, s varchar(5), d numeric(6, 2), m mood);"
              "INSERT INTO t SELECT g, g, 's' || g, g / 4.0, 'good' FROM generate_series(1, 100) g");
  const std::string rows = "SELECT md5(string_agg(to_jsonb(t)::text, '' ORDER BY id)) FROM t";
  // Each statement and the rows around it are in one transaction, so that rows of both shapes are in a batch.
  stage.source(
      "BEGIN; INSERT INTO t VALUES (101, 1, 'a', 1, 'bad'); ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT "
      "7,"
      " ADD COLUMN x text, ADD COLUMN a int[] DEFAULT '{1,NULL}'; INSERT INTO t (id, c) VALUES (102, 8);"
      " ALTER TABLE t ALTER COLUMN c SET DEFAULT 9, ALTER COLUMN x SET DEFAULT 'new'; UPDATE t SET n = -1 "
      "WHERE "
      "id = 1; COMMIT");
  stage.wait_same(rows);
  harness::wait_until(seconds(180), "defaults as on the source", [&] {
    return stage.value(false,
                       "SELECT string_agg(pg_get_expr(adbin, adrelid), ' ' ORDER BY adnum) FROM pg_attrdef "
                       "WHERE adrelid = 't'::regclass") ==
           stage.value(true,
                       "SELECT string_agg(pg_get_expr(adbin, adrelid), ' ' ORDER BY adnum) FROM pg_attrdef "
                       "WHERE adrelid = 't'::regclass");
  });
  stage.source(
      "BEGIN; INSERT INTO t (id, n) VALUES (103, 3); ALTER TABLE t ALTER COLUMN n TYPE bigint, ALTER COLUMN "
      "s "
      "TYPE text, ALTER COLUMN d TYPE numeric(9, 2); UPDATE t SET n = 5000000000, s = 'a longer text', d = "
      "1234567.25 WHERE id = 103; COMMIT");
  stage.wait_same(rows);
  stage.source("ALTER TYPE mood ADD VALUE 'fair' BEFORE 'bad'");
  stage.source("ALTER TYPE mood ADD VALUE 'best' BEFORE 'good'");
  stage.source("UPDATE t SET m = 'fair' WHERE id < 50; UPDATE t SET m = 'best' WHERE id = 60");
  stage.wait_same(rows);
  CHECK(stage.value(false, "SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum") ==
        "best good fair bad");
  stage.wait_status("schema-change-followed", true);
  stage.wait_status("ADD VALUE 'fair'", true);
  CHECK(has(stage.tool("report", {"--format", "json"}).output, "ADD VALUE 'fair'"));
  CHECK(stage.tool("switch").exit_code == 5);  // nobody has compared since
  stage.expect_equal();
  const auto there = stage.tool("switch");
  REQUIRE_MESSAGE(there.exit_code == 0, there.errors);
  stage.target("ALTER TABLE t ADD COLUMN back int DEFAULT 3; UPDATE t SET x = 'y' WHERE id = 5");
  stage.wait_same(rows);
  CHECK(stage.value(true, "SELECT count(*) FROM t WHERE back = 3") ==
        stage.value(true, "SELECT count(*) FROM t"));
  const auto back = stage.tool("rollback");
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK(stage.value(false, "SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("a controller that is killed between a followed change and its final default completes it") {
  Stage stage("half", "apply",
              "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)");
  const std::string rows = "SELECT md5(string_agg(to_jsonb(t)::text, '' ORDER BY id)) FROM t";
  const std::string defaults =
      "SELECT string_agg(attname || pg_get_expr(adbin, adrelid), ' ' ORDER BY attname) FROM pg_attrdef d "
      "JOIN "
      "pg_attribute a ON attrelid = adrelid AND attnum = adnum WHERE adrelid = 't'::regclass";
  int id = 100;
  for (const std::string point : {"followed", "before-default"}) {
    INFO("killed at schema-change." << point);
    stage.run_again("schema-change." + point + ":kill");
    const auto column = point == "followed" ? std::string("c") : std::string("d");
    // Old rows get 7 there, rows that leave the column out get 9 from then on.
    stage.source("BEGIN; INSERT INTO t VALUES (" + std::to_string(id + 1) + "); ALTER TABLE t ADD COLUMN " +
                 column + " int NOT NULL DEFAULT 7; ALTER TABLE t ALTER COLUMN " + column +
                 " SET DEFAULT 9; INSERT INTO t VALUES (" + std::to_string(id + 2) + "); COMMIT");
    CHECK_MESSAGE(stage.run().wait(seconds(180)) == 128 + SIGKILL, stage.run().errors());
    CHECK(stage.value(false, "SELECT count(" + column + ") > 99 FROM t") == "t");  // the column is there
    CHECK(!has(stage.value(false, defaults), column + "9"));                       // its default not yet
    stage.run_again();
    stage.wait_same(rows);
    stage.wait_same(defaults);
    CHECK(has(stage.value(false, defaults), column + "9"));
    CHECK(stage.value(false, "SELECT count(*) FROM t WHERE " + column + " = 9") == "1");
    id += 2;
  }
  // What is counted begins with each life, and says so.
  stage.source("INSERT INTO t VALUES (200); UPDATE t SET c = 1 WHERE id < 11");
  stage.wait_same(rows);
  harness::wait_until(seconds(180), "the status counts the table's changes", [&] {
    return stage.stream_status(
               "s->'tables'->0->>'table' = 'public.t' AND (s->'tables'->0->>'received')::int >= 11") ==
           "true";
  });
  CHECK(stage.stream_status("SELECT bool_and((t->>'received')::int8 = (t->>'applied')::int8 + "
                            "(t->>'compacted')::int8 + (t->>'filtered')::int8 + (t->>'echoes')::int8 + "
                            "(t->>'conflicts')::int8) FROM jsonb_array_elements(s->'tables') t") == "true");
  CHECK(stage.stream_status("(s->>'countedFromLsn')::pg_lsn > '0/0' AND (s->>'countedSinceUs')::int8 > 1") ==
        "true");
}

TEST_CASE("schema-changes: apply leaves to a person what the catalog can't prove, and says why") {
  Stage stage("unproven", "apply",
              "CREATE TABLE v (id int PRIMARY KEY); INSERT INTO v VALUES (1), (2);"
              "CREATE TABLE f (id int PRIMARY KEY); INSERT INTO f VALUES (1), (2);"
              "CREATE TABLE r (id int PRIMARY KEY, old text); INSERT INTO r VALUES (1, 'a');"
              "CREATE TABLE n (id int PRIMARY KEY, v bigint); INSERT INTO n VALUES (1, 1)");
  const auto waits = [&](const std::string& why, const std::string& heal) {
    harness::wait_until(seconds(180), why, [&] { return has(stage.tool("status").output, why); });
    stage.target(heal);
    harness::wait_until(seconds(180), "it goes on after " + heal,
                        [&] { return !has(stage.tool("status").output, "the stream waits"); });
  };
  // A value for each row: computed, so the table was rewritten.
  stage.source("ALTER TABLE v ADD COLUMN c int DEFAULT (random() * 1000)::int; INSERT INTO v VALUES (3)");
  waits("can't be told from the catalog", "ALTER TABLE v ADD COLUMN c int");
  // A constant one that a later rewrite wrote into the rows: the catalog forgot it.
  stage.source("ALTER TABLE f ADD COLUMN c int DEFAULT 5");
  stage.source("VACUUM FULL f");
  stage.source("INSERT INTO f VALUES (3)");
  waits("can't be told from the catalog", "ALTER TABLE f ADD COLUMN c int DEFAULT 5");
  stage.source("ALTER TABLE r RENAME COLUMN old TO young; INSERT INTO r VALUES (2, 'b')");
  waits("renamed", "ALTER TABLE r RENAME COLUMN old TO young");
  stage.source("ALTER TABLE n ALTER COLUMN v TYPE text; INSERT INTO n VALUES (2, '2')");
  waits("doesn't hold every value", "ALTER TABLE n ALTER COLUMN v TYPE text");
  CHECK(stage.tool("verify").exit_code == 7);  // of v only: what random() gave never came
}

TEST_CASE("a label that was added to an enum is waited for, with the statement to run") {
  Stage stage("label", "stop",
              "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE t (id int PRIMARY KEY, m mood[]);"
              "INSERT INTO t VALUES (1, '{good}')");
  stage.source("ALTER TYPE mood ADD VALUE 'fair' AFTER 'good'");
  stage.source("UPDATE t SET m = '{good,fair}'");
  const std::string statement = "ALTER TYPE \"public\".\"mood\" ADD VALUE 'fair' AFTER 'good'";
  harness::wait_until(seconds(180), "the status says the statement",
                      [&] { return has(stage.tool("status").output, statement); });
  CHECK(stage.run().running());
  stage.target(statement);
  stage.wait_same("SELECT m::text FROM t");
  stage.expect_equal();
}

TEST_CASE("values that ALTER TABLE ... USING computed are noticed without a row in the stream") {
  Stage stage(
      "rewritten", "stop",
      "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' FROM generate_series(1, "
      "100) g; CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'u')");
  stage.expect_equal();
  stage.source("VACUUM FULL u");
  stage.source("CLUSTER t USING t_pkey");
  stage.source("TRUNCATE u");
  stage.source("INSERT INTO u VALUES (2, 'w')");
  stage.wait_same("SELECT string_agg(u::text, ' ') FROM u");
  stage.source("ALTER TABLE t ALTER COLUMN v TYPE text USING v || id");
  stage.run().wait_output("public.t was rewritten on the source", seconds(180));
  CHECK_FALSE(has(stage.run().errors(), "public.u was rewritten"));
  stage.wait_status("table-rewritten", true);
  const auto refused = stage.tool("switch");
  CHECK(refused.exit_code == 5);
  CHECK_MESSAGE(has(refused.errors, "public.t was rewritten"), refused.errors);
  CHECK(stage.tool("verify").exit_code == 7);
  CHECK(stage.tool("resync", {"--table", "public.t"}).exit_code == 0);
  stage.expect_equal();
  stage.wait_status("table-rewritten", false);
  const auto there = stage.tool("switch");
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
}
