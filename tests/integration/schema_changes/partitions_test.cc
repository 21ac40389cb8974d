// Partitions that come, go and come back while the migration streams: no row of them is lost unnoticed.
#include "replication/base/error.h"
#include "tests/integration/schema_changes/stage.h"

using namespace schema_changes;

namespace {

constexpr const char* kTables =
    "CREATE TABLE p (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);"
    "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200);"
    "CREATE TABLE k (id int, v text) PARTITION BY RANGE (id);"
    "CREATE TABLE k1 PARTITION OF k FOR VALUES FROM (0) TO (100);"
    "INSERT INTO p SELECT g, 'v' FROM generate_series(1, 150) g; INSERT INTO k VALUES (1, 'a'), (1, 'a')";
constexpr const char* kRows = "SELECT count(*) || md5(string_agg(p::text, ',' ORDER BY id)) FROM p";

void expect_refused(Stage& stage, const std::string& why) {
  const auto refused = stage.tool("switch", {"--verify-gate", "none"});
  CHECK_MESSAGE(refused.exit_code != 0, refused.output);
  CHECK_MESSAGE(has(refused.errors, why), refused.errors);
}

}  // namespace

TEST_CASE("a partition that is detached, written and attached again loses no row; a detached one is told") {
  Stage stage("detached", "stop", kTables);
  stage.source(
      "BEGIN; ALTER TABLE p DETACH PARTITION p2; INSERT INTO p2 VALUES (199, 'in between'); UPDATE p2 SET v "
      "= "
      "'u' WHERE id = 101; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200); COMMIT");
  stage.source("INSERT INTO p VALUES (198, 'y')");
  stage.wait_same(kRows);
  CHECK(stage.value(false, "SELECT v FROM p WHERE id = 199") == "in between");
  // It can't be kept out of the WAL either.
  CHECK_THROWS_AS(stage.source("ALTER TABLE p2 SET UNLOGGED"), replication::base::Error);
  stage.expect_equal();

  stage.source("ALTER TABLE p DETACH PARTITION p2");
  stage.source("INSERT INTO p2 VALUES (197, 'alone')");
  expect_refused(stage, "p2");
  stage.target("ALTER TABLE p DETACH PARTITION p2");
  stage.wait_same("SELECT count(*) || md5(string_agg(p2::text, ',' ORDER BY id)) FROM p2");
  stage.expect_equal();
  const auto there = stage.tool("switch");
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
}

TEST_CASE("rows of a partition that is created or attached while streaming are never left behind") {
  for (const std::string policy : {"stop", "apply"}) {
    CAPTURE(policy);
    Stage stage("attached_" + policy, policy, kTables);
    stage.expect_equal();
    stage.source(
        "CREATE TABLE p3 (id int PRIMARY KEY, v text); INSERT INTO p3 VALUES (250, 'before'); ALTER TABLE p "
        "ATTACH PARTITION p3 FOR VALUES FROM (200) TO (300); INSERT INTO p VALUES (251, 'after')");
    // Before 13 a partition is published by itself; up to 14 a walsender that saw it written before it was
    // attached goes on leaving it out.
    if (server(true).major() >= 15) {
      stage.wait_status("p3 is in the stream but doesn't exist here", true);
      CHECK(has(stage.tool("status").output, "pgcutover resync --table public.p3"));
    }
    expect_refused(stage, "p3");
    // Made by hand: the row from before it was attached was never in the stream.
    stage.target("CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (200) TO (300)");
    if (server(true).major() >= 13) {
      stage.wait_status("the stream waits", false);
      CHECK(stage.tool("switch").exit_code == 5);  // nobody has compared since
      const auto differs = stage.tool("verify");
      CHECK(differs.exit_code == 7);
      CHECK_MESSAGE(has(differs.output, "public.p3: different"), differs.output);
      CHECK(stage.tool("switch").exit_code == 5);
    } else {
      expect_refused(stage, "p3");
    }
    const auto taken = stage.tool("resync", {"--table", "public.p3"});
    CHECK_MESSAGE(taken.exit_code == 0, taken.errors);
    stage.source("UPDATE p SET v = v || '!' WHERE id > 200");
    stage.wait_same(kRows);
    CHECK(stage.value(false, "SELECT string_agg(v, ' ' ORDER BY id) FROM p3") == "before! after!");
    stage.expect_equal();
    const auto there = stage.tool("switch");
    CHECK_MESSAGE(there.exit_code == 0, there.errors);
  }
}

TEST_CASE("a new partition without a key takes the application's UPDATE") {
  if (server(true).major() < 13) {
    return;  // it isn't published
  }
  Stage stage("keyless", "stop", kTables);
  stage.source("CREATE TABLE k2 PARTITION OF k FOR VALUES FROM (100) TO (200)");
  harness::wait_until(seconds(180), "it has an identity", [&] {
    return stage.value(true, "SELECT relreplident FROM pg_class WHERE relname = 'k2'") == "f";
  });
  stage.source("INSERT INTO k VALUES (101, 'a'), (101, 'a'); UPDATE k SET v = 'b' WHERE id = 101");
  const auto taken = stage.tool("resync", {"--table", "public.k2"});
  CHECK_MESSAGE(taken.exit_code == 0, taken.errors);
  stage.wait_same("SELECT count(*) || string_agg(v, ',' ORDER BY v) FROM k");
  CHECK(stage.tool("cancel", {"--yes"}).exit_code == 0);
  CHECK(stage.value(true, "SELECT relreplident FROM pg_class WHERE relname = 'k2'") == "d");
}
