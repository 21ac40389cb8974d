// Columns that the plan leaves out, through a whole migration by the real program: copy, stream, comparison,
// switch, way back. Compared with SQL of the test's own.
#include "tests/integration/schema_changes/stage.h"

using namespace schema_changes;

namespace {

const std::string kTables =
    "CREATE SCHEMA app;"
    "CREATE TABLE app.orders (id int PRIMARY KEY, u int UNIQUE, v text, big text, note text, "
    "why text NOT NULL DEFAULT 'unknown');"
    "CREATE INDEX ON app.orders (md5(note)); ALTER TABLE app.orders ALTER big SET STORAGE EXTERNAL, ALTER "
    "note "
    "SET STORAGE EXTERNAL;"
    "CREATE TABLE app.log (id int, v text, note text);"
    "CREATE TABLE app.events (id int, r int, v text, note text DEFAULT 'default', PRIMARY KEY (id, r)) "
    "PARTITION BY "
    "RANGE (r);"
    "CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (0) TO (10);"
    "CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM (10) TO (20);"
    "CREATE TABLE app.ident (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, v text, note text);"
    "CREATE TABLE app.large (id int PRIMARY KEY, v text, note text);"
    "CREATE TABLE app.lacks (id int PRIMARY KEY, v text, note text);"
    "INSERT INTO app.orders SELECT g, g, 'v', repeat(md5(g::text), 100), repeat(md5((g * 3)::text), 100) || "
    "g, 'why ' "
    "|| g FROM generate_series(1, 50) g;"
    "INSERT INTO app.log SELECT g, 'v', 'note ' || g FROM generate_series(1, 50) g;"
    "INSERT INTO app.events SELECT g, g % 20, 'v', 'note ' || g FROM generate_series(1, 50) g;"
    "INSERT INTO app.ident (n, v, note) SELECT g, 'v', 'note ' || g FROM generate_series(1, 50) g;"
    "INSERT INTO app.large SELECT g, 'v', 'note ' || g FROM generate_series(1, 20000) g;"
    "INSERT INTO app.lacks SELECT g, 'v', 'note ' || g FROM generate_series(1, 50) g";

// Of all tables, without what is left out.
std::string rows() {
  std::string sql = "SELECT concat_ws(' '";
  for (const std::string table : {"orders", "log", "events_1", "events_2", "ident", "large", "lacks"}) {
    sql +=
        ", (SELECT count(*) || ':' || md5(string_agg(r, ' ' ORDER BY r)) FROM (SELECT (to_jsonb(t) - "
        "'{note,why,a_tmp,b_tmp}'::text[])::text COLLATE \"C\" FROM app." +
        table + " t) x(r))";
  }
  return sql + ")";
}

// Changes of every kind, of rows whose key ends in `n`.
std::string changes(int n) {
  const auto like = [n](const std::string& column) { return column + " % 10 = " + std::to_string(n); };
  return "UPDATE app.orders SET v = v || '+' WHERE " + like("u") +
         " AND u < 30; UPDATE app.orders SET id = id + 1000 "
         "WHERE " +
         like("u") + " AND u >= 30; UPDATE app.log SET v = v || '+' WHERE " + like("id") +
         "; UPDATE app.events SET v = v || '+' WHERE " + like("id") +
         "; UPDATE app.events SET id = id + 1000 WHERE " + like("id") +
         " AND id > 30; UPDATE app.ident SET v = v || '+' WHERE " + like("n") +
         "; UPDATE app.ident SET id = DEFAULT WHERE " + like("n") +
         " AND n > 30; UPDATE app.large SET v = v || '+' WHERE " + like("id / 100") +
         "; UPDATE app.lacks SET v = v || '+', id = id + 1000 WHERE " + like("id") +
         "; INSERT INTO app.orders (id, u, v, big) VALUES (" + std::to_string(500 + n) + ", " +
         std::to_string(500 + n) + ", 'new', 'b'); INSERT INTO app.lacks VALUES (" + std::to_string(500 + n) +
         ", 'new')";
}

}  // namespace

TEST_CASE("columns that are left out stay behind, and the way back gives each row the one it had") {
  Stage stage("leaves", "stop", kTables,
              "keyless: full, exclude-columns: [app.*.note, app.orders.why, 'app.*.*_tmp']");
  const auto missing = [&] {
    return stage.value(
        false,
        "SELECT count(note) || ' ' || (SELECT count(note) FROM app.log) || ' ' || (SELECT count(note) "
        "FROM app.large) || ' ' || string_agg(DISTINCT why, ',') FROM app.orders");
  };
  CHECK(stage.value(true, rows()) == stage.value(false, rows()));
  CHECK(missing() == "0 0 0 unknown");
  CHECK(stage.value(false, "SELECT count(*) FROM app.events WHERE note = 'default'") == "50");
  stage.wait_status("columns-left-out", true);
  CHECK(has(stage.tool("status").output, "app.orders.note"));
  CHECK(has(stage.tool("report", {"--format", "json"}).output, "left out by exclude-columns"));
  stage.target("ALTER TABLE app.lacks DROP COLUMN note");

  stage.source(changes(1));
  stage.source(
      "UPDATE app.orders SET note = 'changed', why = 'changed' WHERE id = 2; UPDATE app.log SET note = "
      "'changed' WHERE id = 2; DELETE FROM app.large WHERE id > 19990");
  // Columns that come and go while rows are written, and one that comes to stay.
  stage.source(
      "BEGIN; ALTER TABLE app.log ADD COLUMN a_tmp text DEFAULT 'x'; INSERT INTO app.log VALUES (300, 'v', "
      "'n', "
      "'a'); ALTER TABLE app.large ADD COLUMN b_tmp int NOT NULL DEFAULT 7; UPDATE app.large SET v = 'b' "
      "WHERE "
      "id < 10; COMMIT");
  stage.source("ALTER TABLE app.log DROP COLUMN a_tmp; INSERT INTO app.log VALUES (301, 'v', 'n')");
  stage.wait_same(rows());
  stage.wait_status("app.large.b_tmp", true);
  CHECK(!has(stage.tool("status").output, "the stream waits"));
  CHECK(missing() == "0 0 0 unknown");
  const auto verified = stage.tool("verify");
  CHECK_MESSAGE(verified.exit_code == 0, verified.output << verified.errors);
  CHECK(has(verified.output, "not compared, being left out (exclude-columns): "));
  CHECK(has(verified.output, "app.orders.note"));
  CHECK(has(stage.tool("verify", {"--json"}).output, "without note, why"));

  // What must be the same when everything is back: of each row, known by what never changes of it.
  const std::string kept =
      "SELECT concat_ws(' ', (SELECT md5(string_agg(u || note || why, ' ' ORDER BY u)) FROM app.orders WHERE "
      "u < 500),"
      "(SELECT md5(string_agg(id || note, ' ' ORDER BY id)) FROM app.log WHERE id < 300),"
      "(SELECT md5(string_agg(id % 1000 || note, ' ' ORDER BY id % 1000)) FROM app.events),"
      "(SELECT md5(string_agg(n || note, ' ' ORDER BY n)) FROM app.ident),"
      "(SELECT md5(string_agg(id || note || b_tmp, ' ' ORDER BY id)) FROM app.large),"
      "(SELECT md5(string_agg(id % 1000 || note, ' ' ORDER BY id % 1000)) FROM app.lacks WHERE id % 1000 < "
      "500))";
  const auto before = stage.value(true, kept);
  const auto there = stage.tool("switch");
  REQUIRE_MESSAGE(there.exit_code == 0, there.errors);
  CHECK(has(stage.run().errors(), "the values stay behind on the source"));
  stage.target(changes(2));
  stage.target("UPDATE app.orders SET note = 'of the target', why = 'target' WHERE u < 20");
  stage.target(
      "ALTER TABLE app.events ADD COLUMN a_tmp int DEFAULT 5; UPDATE app.events SET v = 'c', a_tmp = 6 WHERE "
      "id "
      "< 10");
  stage.wait_same(rows());
  CHECK(stage.value(true, kept) == before);
  CHECK(stage.value(true, "SELECT why || coalesce(note, '') FROM app.orders WHERE id = 502") == "unknown");
  stage.expect_equal();
  const auto back = stage.tool("rollback");
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  stage.source(changes(3));
  stage.wait_same(rows());
  CHECK(stage.value(true, kept) == before);
  stage.expect_equal();
  CHECK(stage.value(false, "SELECT count(*) FROM pgcutover.conflict") == "0");
  CHECK(stage.value(true, "SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("a table is copied again without what is left out; the choice may grow, and never shrinks unsaid") {
  Stage stage("grows", "apply",
              "CREATE TABLE t (id int PRIMARY KEY, v text, note text); INSERT INTO t SELECT g, 'v', 'n' FROM "
              "generate_series(1, 100) g; CREATE TABLE u (id int PRIMARY KEY, a text)",
              "exclude-columns: [public.t.note]");
  stage.target("UPDATE t SET v = 'wrong' WHERE id = 3");
  CHECK(stage.tool("verify").exit_code == 7);
  const auto again = stage.tool("resync", {"--table", "public.t"});
  CHECK_MESSAGE(again.exit_code == 0, again.errors);
  stage.expect_equal();
  CHECK(stage.value(false, "SELECT count(*) || ' ' || count(note) FROM t") == "100 0");
  // Followed is what isn't left out, and nothing else.
  stage.source("ALTER TABLE t ADD COLUMN more int DEFAULT 3; INSERT INTO t VALUES (200, 'v', 'n', 4)");
  stage.wait_same("SELECT string_agg(id || coalesce(to_jsonb(t)->>'more', ''), ' ' ORDER BY id) FROM t");
  CHECK(stage.value(false, "SELECT count(note) FROM t") == "0");

  stage.run().terminate();
  stage.run().wait(seconds(30));
  stage.write_plan("exclude-columns: [public.u.a]");
  const auto refused = stage.tool("run");
  CHECK(refused.exit_code == 5);
  CHECK_MESSAGE(has(refused.errors, "leaves out the columns public.t.note, and this plan doesn't"),
                refused.errors);
  stage.write_plan("exclude-columns: [public.t.note, public.u.id]");
  const auto key = stage.tool("run");
  CHECK(key.exit_code == 5);
  CHECK_MESSAGE(has(key.errors, "public.u.id can't be left out: it is in the primary key"), key.errors);
  stage.write_plan("exclude-columns: [public.t.note, public.u.a]");
  stage.run_again();
  stage.source("INSERT INTO u VALUES (1, 'secret')");
  stage.wait_same("SELECT count(*) FROM u");
  CHECK(stage.value(false, "SELECT a IS NULL FROM u") == "t");
  // A key that is made of it meanwhile: the switch says so before anything is held.
  stage.source("ALTER TABLE u ADD CONSTRAINT ua CHECK (a <> '')");
  stage.expect_equal();
  const auto there = stage.tool("switch");
  CHECK(there.exit_code == 3);
  CHECK_MESSAGE(has(there.errors, "public.u.a can't be left out: it is in the CHECK constraint ua"),
                there.errors);
}

TEST_CASE("a column that was left out under another name is compared before either side is opened") {
  Stage stage(
      "renames", "stop",
      "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' FROM "
      "generate_series(1, 50) g; CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u SELECT g, "
      "'v' FROM generate_series(1, 50) g",
      "exclude-columns: ['*.*.*_tmp']");
  const auto refused = [&](const std::string& verb) {
    const auto result = stage.tool(verb);
    CHECK(result.exit_code == 5);
    CHECK_MESSAGE(has(result.errors, "tables were changed since both sides were found equal"), result.errors);
    CHECK(stage.tool("verify").exit_code == 7);
    CHECK(stage.tool(verb).exit_code == 5);
  };
  stage.expect_equal();
  // Its name is as before when it is looked at.
  stage.source("ALTER TABLE t RENAME v TO v_tmp");
  stage.source("UPDATE t SET v_tmp = 'changed' WHERE id < 5");
  stage.source("ALTER TABLE t RENAME v_tmp TO v");
  refused("switch");
  REQUIRE(stage.tool("resync", {"--table", "public.t"}).exit_code == 0);
  stage.expect_equal();
  // What is left out and stays so holds nothing up.
  stage.source("ALTER TABLE t ADD a_tmp int; UPDATE t SET a_tmp = 1");
  REQUIRE(stage.tool("switch").exit_code == 0);

  stage.target("ALTER TABLE u ADD v_tmp text");
  stage.target("UPDATE u SET v_tmp = 'changed'");
  stage.target("ALTER TABLE u DROP v; ALTER TABLE u RENAME v_tmp TO v");
  refused("rollback");
  stage.target("UPDATE u SET v = v");
  stage.expect_equal();
  const auto back = stage.tool("rollback");
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  CHECK(stage.value(true, "SELECT count(*) FROM u WHERE v = 'changed'") == "50");
  REQUIRE(stage.tool("verify").exit_code == 0);
  REQUIRE(stage.tool("switch").exit_code == 0);
  const auto at_once = stage.tool("rollback");
  CHECK_MESSAGE(at_once.exit_code == 0, at_once.errors);
}
