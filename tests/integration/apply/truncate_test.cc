// TRUNCATE of tables that others reference: the server asks for these in the same statement, whoever
// replicates.
#include <doctest/doctest.h>

#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

TEST_CASE("a TRUNCATE that reached a partitioned table by its foreign key empties its partitions") {
  Stage stage("truncate_parts");
  stage.both(
      "CREATE TABLE a (id int PRIMARY KEY) PARTITION BY RANGE (id);"
      "CREATE TABLE a1 PARTITION OF a FOR VALUES FROM (0) TO (100); CREATE TABLE a2 PARTITION OF a FOR "
      "VALUES "
      "FROM (100) TO (200);"
      "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a) PARTITION BY RANGE (id);"
      "CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (0) TO (100) PARTITION BY LIST (id);"
      "CREATE TABLE b11 PARTITION OF b1 DEFAULT; CREATE TABLE b2 PARTITION OF b DEFAULT;"
      "CREATE TABLE c (b int REFERENCES b, n serial)");
  stage.publish();
  stage.start();
  stage.source(
      "INSERT INTO a VALUES (1), (101); INSERT INTO b VALUES (1, 1), (101, 101); INSERT INTO c VALUES (1), "
      "(101)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("c");
  // In a batch with rows before and behind it, together with a change that needs row mode.
  stage.target("DELETE FROM c WHERE b = 1");
  stage.source(
      "BEGIN; INSERT INTO a VALUES (2); TRUNCATE a CASCADE; INSERT INTO a VALUES (3), (103); COMMIT");
  stage.source("INSERT INTO b VALUES (2, 3), (102, 103); INSERT INTO c VALUES (2), (102); TRUNCATE ONLY c");
  stage.source("INSERT INTO c VALUES (102)");
  REQUIRE(stage.sync() == WaitResult::reached);
  for (const char* table : {"a", "b", "c"}) {
    stage.check_same(table);
  }
  stage.source("TRUNCATE b1 CASCADE; INSERT INTO b VALUES (5, 3); INSERT INTO c VALUES (5)");
  REQUIRE(stage.sync() == WaitResult::reached);
  for (const char* table : {"a", "b", "c"}) {
    stage.check_same(table);
  }
  CHECK(stage.target_value("SELECT count(*) FROM pgcutover.conflict") == "0");
}

TEST_CASE("a TRUNCATE of a table that is referenced by one which isn't in the stream is applied as DELETE") {
  Stage stage("truncate_others");
  stage.both(
      "CREATE TABLE a (id int PRIMARY KEY, n serial, m int GENERATED ALWAYS AS IDENTITY);"
      "CREATE UNLOGGED TABLE u (a int REFERENCES a)");
  stage.target("CREATE TABLE own (a int REFERENCES a)");  // that only the target has
  stage.publish();
  stage.start();
  stage.source("INSERT INTO a SELECT generate_series(1, 9); INSERT INTO u VALUES (1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.target("INSERT INTO u VALUES (1); INSERT INTO own VALUES (2)");
  stage.target("SELECT setval('a_n_seq', 50), setval('a_m_seq', 50)");
  stage.source("TRUNCATE a RESTART IDENTITY CASCADE; INSERT INTO a VALUES (10)");
  REQUIRE(stage.sync() == WaitResult::reached);
  stage.check_same("a");
  CHECK(stage.target_value("SELECT nextval('a_n_seq') || ' ' || nextval('a_m_seq')") == "1 1");
  CHECK(stage.applier->stats().conflicts == 0);
}
