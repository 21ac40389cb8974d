#include "replication/snapshot/copy.h"

#include <doctest/doctest.h>
#include <thread>

#include "replication/base/error.h"
#include "replication/snapshot/pace.h"
#include "tests/harness/wait.h"
#include "tests/integration/snapshot/pair.h"

namespace {

using namespace snapshot_test;

void make_tables(Pair& pair) {
  pair.source.sql("shop", R"(
    CREATE TABLE app.big (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, n numeric, twice bigint
      GENERATED ALWAYS AS (id_copy * 2) STORED, id_copy bigint);
    INSERT INTO app.big (v, n, id_copy) SELECT md5(i::text), i / 7.0, i FROM generate_series(1, 5000) i;
    ALTER TABLE app.big DROP COLUMN n;
    CREATE TABLE app.plain (id int PRIMARY KEY, at timestamptz, b bytea);
    INSERT INTO app.plain SELECT i, now(), decode(md5(i::text), 'hex') FROM generate_series(1, 300) i;
    CREATE TABLE "we""ird"."Order ""s" ("select" int, "a\b" text, x xml, p point);
    INSERT INTO "we""ird"."Order ""s" SELECT i, E'a\tb\\.\n' || i, '<a/>', point(i, -i) FROM generate_series(1, 40) i;
    CREATE TABLE app.nothing ();
    INSERT INTO app.nothing SELECT FROM generate_series(1, 7);
    CREATE TABLE app.empty (i int);
    CREATE TABLE app.parted (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE app.parted_a PARTITION OF app.parted FOR VALUES IN ('a');
    CREATE TABLE app.parted_b (extra int, region text NOT NULL, id int NOT NULL);
    ALTER TABLE app.parted_b DROP COLUMN extra;
    ALTER TABLE app.parted ATTACH PARTITION app.parted_b FOR VALUES IN ('b');
    INSERT INTO app.parted SELECT i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 100) i;
    CREATE TABLE app.parent (i int); CREATE TABLE app.child (j int) INHERITS (app.parent);
    INSERT INTO app.parent VALUES (1), (2); INSERT INTO app.child VALUES (3, 4), (5, 6), (7, 8);
  )");
}

void check_tables(const Pair& pair) {
  pair.check_same("app.big", 5000);
  pair.check_same("app.plain", 300);
  pair.check_same("\"we\"\"ird\".\"Order \"\"s\"", 40);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.nothing") == "7");
  pair.check_same("app.empty", 0);
  pair.check_same("app.parted_a", 50);
  pair.check_same("app.parted_b", 50);
  pair.check_same("app.parent", 2);
  pair.check_same("app.child", 3);
}

TEST_CASE("every kind of table arrives under the exported snapshot, and later rows don't") {
  Pair pair;
  make_tables(pair);
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  auto options = pair.copy_options();
  options.exported_snapshot = held.name;
  snapshot::CopyProgress last;
  int calls = 0;
  options.progress = [&](const snapshot::CopyProgress& progress) {
    last = progress;
    ++calls;
  };
  const auto catalog = pair.catalog();
  pair.source.sql("shop", "INSERT INTO app.plain VALUES (1000)");
  copy_tables(options, catalog.tables, pair.stop);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.plain") == "300");
  pair.source.sql("shop", "DELETE FROM app.plain WHERE id = 1000");
  check_tables(pair);

  auto target = pair.target.connect("shop");
  CHECK(snapshot::pending_snapshots(target).empty());
  const auto state = snapshot::copy_state(target);
  CHECK(state.done == 9);
  CHECK(state.rows == 5000 + 300 + 40 + 7 + 50 + 50 + 2 + 3);
  CHECK(state.bytes > 100'000);
  CHECK(calls > 9);
  CHECK(last.tables_done == last.tables_total);
  CHECK(last.tables_total == 9);
  CHECK(last.rows_done == state.rows);
  CHECK(last.bytes_done == last.bytes_total);
  CHECK(pair.source.value("shop", "SELECT token FROM pgcutover.marker WHERE id = 1") == "");

  // A second call copies nothing: neither what changed at the source nor what was spoilt at the target.
  pair.target.sql("shop", "DELETE FROM app.plain");
  copy_tables(options, catalog.tables, pair.stop);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.plain") == "0");
}

TEST_CASE("without an exported snapshot each table brings its own, and a marker written after it") {
  Pair pair;
  make_tables(pair);
  pair.restore_schema();
  const auto options = pair.copy_options();
  copy_tables(options, pair.catalog().tables, pair.stop);
  check_tables(pair);

  auto target = pair.target.connect("shop");
  auto pending = snapshot::pending_snapshots(target);
  REQUIRE(pending.size() == 9);
  std::set<std::string> markers;
  for (const auto& one : pending) {
    CHECK(std::stoull(one.snapshot) >= std::stoull(options.slot_xid));
    markers.insert(one.marker);
  }
  CHECK(markers.size() > 1);  // small tables share a transaction, and with it a snapshot
  CHECK(
      markers.contains(pair.source.value("shop", "SELECT token FROM pgcutover.marker WHERE id = 1").value()));

  const auto passed = std::count_if(pending.begin(), pending.end(),
                                    [&](const auto& one) { return one.marker == pending[0].marker; });
  snapshot::mark_filter_passed(target, pending[0].marker);
  snapshot::mark_filter_passed(target, pending[0].marker);
  CHECK(snapshot::pending_snapshots(target).size() == 9 - static_cast<std::size_t>(passed));
}

TEST_CASE("a constraint that looks into another table waits for it; one that rows don't keep is named") {
  Pair pair;
  pair.source.sql("shop", R"(
    CREATE TABLE app.c (id int PRIMARY KEY);
    CREATE FUNCTION app.in_c(int) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM app.c WHERE id = $1)';
    CREATE TABLE app.b (id int CHECK (app.in_c(id)));
    CREATE FUNCTION app.in_b(int) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM app.b WHERE id = $1)';
    CREATE TABLE app.a (id int CHECK (app.in_b(id)));
    CREATE TABLE app.other (id int);
    INSERT INTO app.c VALUES (1), (2), (3); INSERT INTO app.b VALUES (1), (2); INSERT INTO app.a VALUES (1);
    INSERT INTO app.other VALUES (-1))");
  pair.restore_schema();
  const auto options = pair.copy_options();
  pair.target.sql("shop", "ALTER TABLE app.other ADD CONSTRAINT above CHECK (id > 0) NOT VALID");
  std::string text;
  try {
    copy_tables(options, pair.catalog().tables, pair.stop);
  } catch (const base::Error& error) {
    text = error.describe();
  }
  CHECK_MESSAGE(text.find("copying app.other") != std::string::npos, text);
  CHECK_MESSAGE(text.find("above") != std::string::npos, text);
  CHECK_MESSAGE(text.find("DROP CONSTRAINT") != std::string::npos, text);
  pair.target.sql("shop", "ALTER TABLE app.other DROP CONSTRAINT above");
  copy_tables(options, pair.catalog().tables, pair.stop);
  pair.check_same("app.a", 1);
  pair.check_same("app.b", 2);
  pair.check_same("app.c", 3);
  pair.check_same("app.other", 1);
}

TEST_CASE(
    "a table rewritten between the snapshot and its lock is copied whole, under a snapshot of its own") {
  Pair pair;
  pair.source.sql(
      "shop",
      "CREATE TABLE app.vacuumed (id int PRIMARY KEY, v text);"
      "CREATE TABLE app.retyped (id int, v int); CREATE TABLE app.kept (id int);"
      "INSERT INTO app.vacuumed SELECT i, 'x' FROM generate_series(1, 500) i;"
      "INSERT INTO app.retyped SELECT i, i FROM generate_series(1, 400) i; INSERT INTO app.kept VALUES (1)");
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  auto options = pair.copy_options();
  options.exported_snapshot = held.name;
  const auto catalog = pair.catalog();
  pair.source.sql("shop", "UPDATE app.vacuumed SET v = 'y'; INSERT INTO app.kept VALUES (2)");
  pair.source.sql("shop", "VACUUM FULL app.vacuumed");
  pair.source.sql("shop", "ALTER TABLE app.retyped ALTER v TYPE int USING v + 1000000, ALTER v TYPE int");
  pair.source.sql("shop", "CLUSTER app.vacuumed USING vacuumed_pkey");
  copy_tables(options, catalog.tables, pair.stop);
  pair.check_same("app.vacuumed", 500);
  pair.check_same("app.retyped", 400);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.kept") ==
        "1");  // not rewritten: the slot's snapshot
  auto target = pair.target.connect("shop");
  const auto pending = snapshot::pending_snapshots(target);
  REQUIRE(pending.size() == 2);
  CHECK(pending[0].name == "retyped");
  CHECK(pending[1].name == "vacuumed");
}

TEST_CASE("a rewritten table is not locked on the source by a second session of the copy") {
  Pair pair;
  pair.source.sql("shop", "CREATE TABLE app.t (i int); INSERT INTO app.t VALUES (1)");
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  const auto catalog = pair.catalog();
  pair.source.sql("shop", "TRUNCATE app.t");
  auto old = pair.source.connect("shop");
  old.exec("BEGIN");
  old.exec("SELECT txid_current()");
  auto options = pair.copy_options();
  options.exported_snapshot = held.name;
  bool locked = false;
  std::jthread releaser([&] {
    try {
      harness::wait_until(
          base::Deadline::in(base::milliseconds(180'000)), "the copy waits for a snapshot of its own", [&] {
            return pair.source.value(
                       "shop",
                       "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgcutover copy' "
                       "AND query LIKE '%backend_xid%'") != "0";
          });
      auto application = pair.source.connect("shop");
      application.exec("SET lock_timeout = 60000");
      application.exec("TRUNCATE app.t");
      application.exec("INSERT INTO app.t VALUES (2), (3)");
      locked = true;
    } catch (const base::Error&) {
      // the copy's lock was in the way
    }
    old.exec("COMMIT");
  });
  copy_tables(options, catalog.tables, pair.stop);
  releaser.join();
  CHECK(locked);
  pair.check_same("app.t", 2);
}

TEST_CASE("a snapshot that reaches behind the slot waits for the old transaction to end") {
  Pair pair;
  pair.source.sql("shop", "CREATE TABLE app.t (i int); INSERT INTO app.t VALUES (1)");
  pair.restore_schema();
  auto old = pair.source.connect("shop");
  old.exec("BEGIN");
  old.exec("INSERT INTO app.t VALUES (2)");
  const auto options = pair.copy_options();
  std::jthread releaser([&] {
    try {
      harness::wait_until(
          base::Deadline::in(base::milliseconds(180'000)), "the copy has looked at its snapshot", [&] {
            return pair.source.value(
                       "shop",
                       "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgcutover copy' "
                       "AND query LIKE '%backend_xid%'") != "0";
          });
      old.exec("COMMIT");
    } catch (const base::Error&) {
      pair.stop.request();  // the copy fails, and the test with it
    }
  });
  copy_tables(options, pair.catalog().tables, pair.stop);
  releaser.join();
  pair.check_same("app.t", 2);
}

TEST_CASE("a copy that failed in the middle goes on with the tables that are left") {
  Pair pair;
  make_tables(pair);
  pair.restore_schema();
  auto options = pair.copy_options();
  options.jobs = 1;
  options.progress = [](const snapshot::CopyProgress& progress) {
    if (progress.tables_done == 3) {
      throw base::Error("enough");
    }
  };
  const auto catalog = pair.catalog();
  CHECK_THROWS_WITH_AS(copy_tables(options, catalog.tables, pair.stop), "enough", base::Error);
  auto target = pair.target.connect("shop");
  const auto done = snapshot::copy_state(target).done;
  CHECK(done >= 3);
  CHECK(done < 9);
  snapshot::CopyProgress last;
  options.progress = [&](const snapshot::CopyProgress& progress) { last = progress; };
  copy_tables(options, catalog.tables, pair.stop);
  check_tables(pair);
  CHECK(snapshot::copy_state(target).done == 9);
  // What was there before counts as done, and not for the rate.
  CHECK(last.tables_done == 9);
  CHECK(last.tables_before == done);
  CHECK(last.bytes_before > 0);
  CHECK(last.bytes_before < last.bytes_done);
  CHECK(last.rows_before < last.rows_done);
}

TEST_CASE("lost connections to either side are tried again, and no row is doubled") {
  Pair pair;
  make_tables(pair);
  pair.source.sql(
      "shop", "INSERT INTO app.big (v, id_copy) SELECT repeat('x', 200), i FROM generate_series(1, 60000) i");
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  auto options = pair.copy_options();
  options.exported_snapshot = held.name;
  snapshot::Pace pace(8'000'000);  // else it is over before anybody looks twice
  options.pace = &pace;
  int kills = 0;
  options.progress = [&](const snapshot::CopyProgress& progress) {
    if (!progress.running.empty() && progress.running.front().table == "app.big" && kills < 2) {
      auto& cluster = ++kills == 1 ? pair.source : pair.target;
      cluster.sql("shop",
                  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                  "WHERE application_name = 'pgcutover copy' AND state = 'active'");
    }
  };
  copy_tables(options, pair.catalog().tables, pair.stop);
  CHECK(kills == 2);
  pair.check_same("app.big", 65000);
  pair.check_same("app.plain", 300);
  auto target = pair.target.connect("shop");
  CHECK(snapshot::pending_snapshots(target).empty());  // the slot's snapshot was still there
}

TEST_CASE("when the exported snapshot is lost the rest is copied under snapshots of its own") {
  Pair pair;
  make_tables(pair);
  pair.restore_schema();
  auto options = pair.copy_options();
  {
    const HeldSnapshot held(pair.source);
    options.exported_snapshot = held.name;
  }
  copy_tables(options, pair.catalog().tables, pair.stop);
  check_tables(pair);
  auto target = pair.target.connect("shop");
  CHECK(snapshot::pending_snapshots(target).size() == 9);
}

TEST_CASE("a controller that lost its token copies nothing") {
  Pair pair;
  make_tables(pair);
  pair.restore_schema();
  auto options = pair.copy_options();
  pair.target.sql("shop", "UPDATE pgcutover.controller SET epoch = 5");
  options.token = postgres::FencingToken(4);
  CHECK_THROWS_AS(copy_tables(options, pair.catalog().tables, pair.stop), base::StateError);
  auto target = pair.target.connect("shop");
  CHECK(snapshot::copy_state(target).done == 0);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.big") == "0");
}

TEST_CASE("a table that foreign keys point at is emptied without TRUNCATE") {
  Pair pair;
  pair.source.sql("shop", "CREATE TABLE app.a (i int PRIMARY KEY); INSERT INTO app.a VALUES (1), (2)");
  pair.restore_schema();
  pair.target.sql("shop",
                  "ALTER TABLE app.a ADD PRIMARY KEY (i); CREATE TABLE app.b (i int REFERENCES app.a);"
                  "INSERT INTO app.a VALUES (1), (9)");
  copy_tables(pair.copy_options(), pair.catalog().tables, pair.stop);
  pair.check_same("app.a", 2);
}

TEST_CASE("an error names the table") {
  Pair pair;
  pair.source.sql("shop", "CREATE TABLE app.t (i int); INSERT INTO app.t VALUES (1)");
  pair.restore_schema();
  pair.target.sql("shop", "ALTER TABLE app.t ADD CHECK (i > 5)");
  try {
    copy_tables(pair.copy_options(), pair.catalog().tables, pair.stop);
    FAIL("nothing was thrown");
  } catch (const base::Error& error) {
    CHECK(error.message().starts_with("copying app.t: new row"));
    CHECK(error.server() == "target");
    CHECK(error.sqlstate() == "23514");
  }
}

TEST_CASE("rows that a trigger on the target swallows are noticed") {
  Pair pair;
  pair.source.sql("shop", "CREATE TABLE app.t (i int); INSERT INTO app.t VALUES (1), (2)");
  pair.restore_schema();
  pair.target.sql("shop",
                  "CREATE FUNCTION app.eat() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
                  "CREATE TRIGGER eat BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.eat();"
                  "ALTER TABLE app.t ENABLE ALWAYS TRIGGER eat");
  CHECK_THROWS_WITH_AS(copy_tables(pair.copy_options(), pair.catalog().tables, pair.stop),
                       "the target stored 0 of 2 rows", base::Error);
}

}  // namespace
