// Emptying a database that holds more than one transaction can lock.
#include "cutover/steps/reset.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "tests/harness/cluster.h"

namespace steps = cutover::steps;

TEST_CASE(
    "a partitioned table with more leaves than a transaction can lock is dropped, and all that is there") {
  const harness::Cluster server({.name = "target",
                                 .conf = {"max_locks_per_transaction = 10", "max_connections = 20",
                                          "shared_buffers = 1MB", "max_prepared_transactions = 0"}});
  server.sql("postgres", "CREATE DATABASE shop TEMPLATE template0");
  auto connection = server.connect("shop");
  connection.exec(
      "CREATE SCHEMA app; CREATE TABLE app.parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
      "CREATE TYPE app.kind AS ENUM ('a'); CREATE FUNCTION app.f(app.kind) RETURNS int LANGUAGE sql AS "
      "'SELECT 1';"
      "CREATE STATISTICS app.both ON id, v FROM app.parted");
  for (int leaf = 0; leaf < 700; ++leaf) {
    connection.exec("CREATE TABLE app.leaf" + std::to_string(leaf) +
                    " PARTITION OF app.parted FOR VALUES FROM (" + std::to_string(leaf) + ") TO (" +
                    std::to_string(leaf + 1) + ")");
  }
  for (int table = 0; table < 120; ++table) {
    connection.exec("CREATE TABLE app.t" + std::to_string(table) +
                    " (id serial PRIMARY KEY, kind app.kind, v text UNIQUE)");
  }
  connection.exec(
      "CREATE VIEW app.all_of_it AS SELECT t0.id FROM app.t0, app.t1, app.parted WHERE app.f(t0.kind) = 1");
  // As it would be without looking at the leaves: this server can't.
  CHECK_THROWS_AS(connection.exec("DROP TABLE app.parted CASCADE"), replication::base::Error);

  steps::drop_everything(connection, steps::extension_names(connection));
  CHECK(connection.one_value("SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relnamespace <> "
                             "'pg_toast'::regnamespace") == "0");
  CHECK(connection.one_value("SELECT count(*) FROM pg_namespace WHERE nspname = 'app'") == "0");
  CHECK(connection.one_value("SELECT count(*) FROM pg_extension") == "1");
  steps::drop_everything(connection, steps::extension_names(connection));  // nothing left to do
}
