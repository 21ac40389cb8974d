// Columns that are left out: never written, whatever becomes of their rows.
#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

namespace {

const std::string kLarge =
    "(SELECT string_agg(md5((x * 7)::text), '') FROM generate_series(1, 400) x)";  // out of line

// Of all rows but the columns `out`, as text.
std::string rows_without(const std::string& table, const std::string& out) {
  return "SELECT count(*) || ' ' || coalesce(md5(string_agg(r, E'\\n' ORDER BY r)), '') FROM (SELECT "
         "(to_jsonb(t) - '{" +
         out + "}'::text[])::text COLLATE \"C\" FROM ONLY " + table + " t) x(r)";
}

struct Columns : Stage {
  Columns(const std::string& name, std::vector<std::string> patterns)
      : Stage(name), patterns_(std::move(patterns)) {}
  void begin() {
    publish();
    auto with = options();
    with.left_out.exclude = patterns_;
    start(std::move(with));
  }
  void synced() { REQUIRE_MESSAGE(sync() == WaitResult::reached, (applier->failure() ? failure() : "")); }
  void check_rows(const std::string& table, const std::string& out) {
    const auto sql = rows_without(table, out);
    CHECK(!source_value(sql).starts_with("0 "));
    CHECK_MESSAGE(target_value(sql) == source_value(sql), table);
  }
  std::vector<std::string> patterns_;
};

}  // namespace

TEST_CASE("what a row has in a column that is left out stays with it, whatever the stream does to the row") {
  Columns stage("keeps", {"public.?.note", "public.gone.note"});
  // Keyed, keyless, deferrable key, identity ALWAYS; `gone` has no such column here.
  stage.both(
      "CREATE TABLE k (id int PRIMARY KEY, u int UNIQUE, v text, big text, note text DEFAULT 'default');"
      "ALTER TABLE k ALTER big SET STORAGE EXTERNAL, ALTER note SET STORAGE EXTERNAL;"
      "CREATE TABLE f (id int, v text, note text DEFAULT 'default'); ALTER TABLE f REPLICA IDENTITY FULL;"
      "CREATE TABLE d (id int PRIMARY KEY DEFERRABLE, v text, note text DEFAULT 'default');"
      "ALTER TABLE d REPLICA IDENTITY FULL;"
      "CREATE TABLE i (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, v text, note text DEFAULT "
      "'default')");
  stage.source("CREATE TABLE gone (id int PRIMARY KEY, note text NOT NULL, v text)");
  stage.target("CREATE TABLE gone (id int PRIMARY KEY, v text)");
  stage.begin();
  stage.source(
      "INSERT INTO k SELECT g, g, 'v', " + kLarge + " || g, " + kLarge +
      " FROM generate_series(1, 20) g; INSERT INTO f SELECT g, 'v', 'secret' FROM generate_series(1, 20) g;"
      "INSERT INTO d SELECT g, 'v', 'secret' FROM generate_series(1, 20) g;"
      "INSERT INTO i (n, v, note) SELECT g, 'v', 'secret' FROM generate_series(1, 20) g;"
      "INSERT INTO gone SELECT g, 'secret', 'v' FROM generate_series(1, 20) g");
  stage.synced();
  for (const std::string table : {"k", "f", "d", "i"}) {
    INFO(table);
    stage.check_rows(table, "note");
    CHECK(stage.target_value("SELECT string_agg(DISTINCT note, ' ') FROM " + table) == "default");
    // What somebody has there, as the closed side has it on the way back: one for each row.
    stage.target("UPDATE " + table + " SET note = 'own of ' || " + (table == "i" ? "n" : "id"));
  }
  stage.check_rows("gone", "note");
  // Of everything that can be done to rows, in sets and change by change; `was` is how a row is known again.
  stage.source(
      "UPDATE k SET v = 'w' WHERE id < 5; UPDATE k SET note = 'other' WHERE id = 6;"
      "UPDATE k SET note = NULL, v = 'x' WHERE id = 7; UPDATE k SET id = id + 100 WHERE id IN (3, 9, 10)");
  stage.source(
      "BEGIN; UPDATE k SET id = 999 WHERE id = 11; UPDATE k SET id = 11 WHERE id = 12; UPDATE k SET id = 12 "
      "WHERE id = 999; COMMIT");  // two keys change places
  stage.source(
      "BEGIN; UPDATE k SET u = -13 WHERE u = 13; UPDATE k SET u = 13 WHERE u = 14; UPDATE k SET u = 14 WHERE "
      "u = -13; COMMIT; DELETE FROM k WHERE id = 15; INSERT INTO k VALUES (15, 15, 'again', 'b', 'n')");
  stage.source(
      "UPDATE f SET v = 'w' WHERE id < 5; UPDATE f SET note = 'other' WHERE id = 6; UPDATE f SET id = id + "
      "100 "
      "WHERE id = 7; DELETE FROM f WHERE id = 8");
  stage.source(
      "UPDATE d SET v = 'w' WHERE id < 5; UPDATE d SET note = 'other' WHERE id = 6; UPDATE d SET id = id + "
      "100 "
      "WHERE id = 7; DELETE FROM d WHERE id = 8");
  stage.source(
      "UPDATE i SET v = 'w' WHERE id < 5; UPDATE i SET note = 'other' WHERE id = 6; UPDATE i SET id = "
      "DEFAULT "
      "WHERE n = 7; DELETE FROM i WHERE n = 8");
  stage.source(
      "UPDATE gone SET note = 'other' WHERE id = 1; UPDATE gone SET id = 200 WHERE id = 2; DELETE FROM gone "
      "WHERE id = 3");
  stage.synced();
  for (const std::string table : {"k", "f", "d", "i", "gone"}) {
    INFO(table);
    stage.check_rows(table, "note");
  }
  // u, n and the last two digits of id tell which row it was.
  CHECK(
      stage.target_value(
          "SELECT count(*) || ' ' || string_agg(note, ',' ORDER BY u) FROM k WHERE note <> 'own of ' || u") ==
      "3 own of 14,own of 13,default");
  CHECK(stage.target_value("SELECT count(*) FROM i WHERE note <> 'own of ' || n") == "0");
  for (const std::string table : {"f", "d"}) {
    CHECK(stage.target_value("SELECT count(*) FROM " + table + " WHERE note <> 'own of ' || id % 100") ==
          "0");
  }
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE(
    "partitions leave out what their root does, and a column that comes or goes in mid-stream stops "
    "nothing") {
  Columns stage("come_and_go", {"public.pt.note", "public.*.*_tmp"});
  stage.both(
      "CREATE TABLE pt (id int, r text, v text, note text DEFAULT 'default', PRIMARY KEY (id, r)) PARTITION "
      "BY LIST "
      "(r);"
      "CREATE TABLE pt_a PARTITION OF pt FOR VALUES IN ('a');"
      "CREATE TABLE pt_b PARTITION OF pt FOR VALUES IN ('b') PARTITION BY RANGE (id);"
      "CREATE TABLE pt_b1 PARTITION OF pt_b FOR VALUES FROM (0) TO (1000);"
      "CREATE TABLE t (id int PRIMARY KEY, v text)");
  stage.begin();
  stage.source(
      "INSERT INTO pt SELECT g, CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END, 'v', 'secret' FROM "
      "generate_series(1, 20) g; INSERT INTO t VALUES (1, 'v')");
  stage.synced();
  stage.target("UPDATE pt SET note = 'own of ' || id");
  stage.source(
      "UPDATE pt SET v = 'w', note = 'other' WHERE id < 10; UPDATE pt SET id = id + 100 WHERE id = 20");
  // One transaction with rows of all shapes.
  stage.source(
      "BEGIN; INSERT INTO t VALUES (2, 'v'); ALTER TABLE t ADD COLUMN a_tmp text DEFAULT 'secret'; INSERT "
      "INTO "
      "t VALUES (3, 'v', 'x'); UPDATE t SET v = 'w' WHERE id < 3; ALTER TABLE t DROP COLUMN a_tmp; INSERT "
      "INTO "
      "t VALUES (4, 'v'); COMMIT");
  stage.source("ALTER TABLE t ADD COLUMN b_tmp point; INSERT INTO t VALUES (5, 'v', '(1,2)')");
  stage.synced();
  stage.check_rows("pt_a", "note");
  stage.check_rows("pt_b1", "note");
  stage.check_rows("t", "b_tmp");
  CHECK(stage.target_value("SELECT count(*) FROM pt WHERE note <> 'own of ' || id % 100") == "0");
  CHECK(stage.target_value(
            "SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 't'::regclass AND "
            "attnum > 0") == "id v");
  CHECK(stage.applier->stats().waiting_for.empty());
  // It becomes the key by which rows are found: no row of it can be applied.
  stage.source(
      "ALTER TABLE t ADD COLUMN c_tmp int; UPDATE t SET c_tmp = id; ALTER TABLE t ALTER c_tmp SET NOT NULL");
  stage.source(
      "CREATE UNIQUE INDEX tc ON t (c_tmp); ALTER TABLE t REPLICA IDENTITY USING INDEX tc; UPDATE t SET v = "
      "'z'");
  stage.pump();
  const auto why = stage.failure();
  CHECK_MESSAGE(why.find("\"c_tmp\" of public.t is left out") != std::string::npos, why);
}

TEST_CASE("what is left out isn't in a recorded conflict either") {
  Columns stage("conflicts", {"public.k.note"});
  stage.both("CREATE TABLE k (id int PRIMARY KEY, v text, note text); INSERT INTO k VALUES (1, 'v', NULL)");
  stage.begin();
  stage.target("DELETE FROM k");
  stage.source("UPDATE k SET v = 'w', note = 'secret' WHERE id = 1");
  stage.synced();
  CHECK(stage.target_value(
            "SELECT new_row LIKE '%w%' AND c::text NOT LIKE '%secret%' FROM pgcutover.conflict c") == "t");
}
