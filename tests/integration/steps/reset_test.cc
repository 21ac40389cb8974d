// Emptying a database that holds more than one transaction can lock.
#include "cutover/steps/reset.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <string>
#include <thread>

#include "cutover/check/check.h"
#include "replication/base/error.h"
#include "tests/harness/cluster.h"
#include "tests/harness/wait.h"

namespace steps = cutover::steps;

namespace {

harness::ClusterOptions few_locks() {
  return {.name = "target",
          .conf = {"max_locks_per_transaction = 10", "max_connections = 20", "shared_buffers = 1MB",
                   "max_prepared_transactions = 0"}};
}

}  // namespace

TEST_CASE(
    "a partitioned table with more leaves than a transaction can lock is dropped, and all that is there") {
  const harness::Cluster server(few_locks());
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

TEST_CASE("more rows' tables and large objects than a transaction can lock are emptied") {
  const harness::Cluster server(few_locks());
  server.sql("postgres", "CREATE DATABASE shop TEMPLATE template0");
  auto connection = server.connect("shop");
  for (int table = 0; table < 150; ++table) {
    const auto name = "t" + std::to_string(table);
    connection.exec("CREATE TABLE " + name + " (id serial PRIMARY KEY, v text UNIQUE); INSERT INTO " + name +
                    " (v) VALUES ('x')");
  }
  connection.exec("SELECT lo_create(0) FROM generate_series(1, 1500)");
  CHECK_THROWS_AS(connection.exec("SELECT lo_unlink(oid) FROM pg_largeobject_metadata"),
                  replication::base::Error);
  CHECK(steps::tables_to_empty(connection, {}).size() == 151);
  steps::empty_tables(connection, {});
  CHECK(steps::tables_to_empty(connection, {}).empty());
  CHECK(connection.one_value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "150");

  connection.exec("SELECT lo_create(0) FROM generate_series(1, 1500)");
  steps::drop_everything(connection, steps::extension_names(connection));
  CHECK(cutover::check::target_objects(connection).empty());
}

TEST_CASE("what is dropped was listed, whatever its kind") {
  const harness::Cluster server({.name = "target"});
  server.sql("postgres", "CREATE DATABASE shop TEMPLATE template0");
  auto connection = server.connect("shop");
  connection.exec(R"(
    CREATE SCHEMA "odd "" one"; SET search_path = "odd "" one";
    CREATE AGGREGATE number(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
    CREATE AGGREGATE middle(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
      FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
    CREATE FUNCTION less(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2';
    CREATE OPERATOR <<<< (LEFTARG = int, RIGHTARG = int, FUNCTION = less);
    CREATE OPERATOR CLASS ints FOR TYPE int USING btree AS OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int);
    CREATE COLLATION plain FROM "C";
    CREATE CONVERSION latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
    CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.english);
    CREATE TYPE pair AS (a int, b int);
    CREATE CAST (pair AS text) WITH INOUT;
    CREATE FUNCTION fired() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER "on any" ON ddl_command_end EXECUTE FUNCTION fired();
    CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER "far away" FOREIGN DATA WRAPPER wrapper;
    CREATE LANGUAGE own HANDLER plpgsql_call_handler;
    CREATE ACCESS METHOD stored TYPE TABLE HANDLER heap_tableam_handler;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC)");
  const auto listed = cutover::check::objects_to_drop(connection);
  for (const std::string word :
       {"operator ", "operator class ", "collation ", "conversion ", "configuration ", "cast ",
        "event trigger ", "wrapper ", "server ", "language ", "access method ", "default "}) {
    CHECK_MESSAGE(std::ranges::any_of(listed, [&](const auto& name) { return name.find(word) != name.npos; }),
                  word);
  }
  steps::drop_everything(connection, steps::extension_names(connection));
  CHECK(cutover::check::objects_to_drop(connection).empty());
}

TEST_CASE(
    "whoever is in the way of a reset is named with what it holds, and nobody is waited for without end") {
  const harness::Cluster server({.name = "target", .conf = {"max_prepared_transactions = 2"}});
  server.sql("postgres", "CREATE DATABASE shop TEMPLATE template0");
  auto connection = server.connect("shop");
  connection.exec(
      "CREATE SCHEMA app; CREATE TABLE app.\"In use\" (id int); INSERT INTO app.\"In use\" VALUES (1); "
      "CREATE TABLE app.free (id int); CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'");
  auto user = server.connect("shop");
  user.exec("SET application_name = 'forgotten tab'; BEGIN; SELECT FROM app.\"In use\"");
  const auto refused = [&](const auto& work) -> std::string {
    try {
      work();
    } catch (const replication::base::TimeoutError& error) {
      return error.message() + " | " + error.hint();
    }
    return "nothing was thrown";
  };
  const replication::base::milliseconds soon(100);  // one wait, then the error
  const auto drop = [&] { steps::drop_everything(connection, steps::extension_names(connection), soon); };
  const auto empty = [&] { steps::empty_tables(connection, {}, soon); };
  const auto pid = std::to_string(user.backend_pid());
  for (const auto& said : {refused(drop), refused(empty)}) {
    for (const auto& text :
         {"pid " + pid + " (postgres, forgotten tab, idle in transaction, transaction open for ",
          std::string("holds AccessShareLock on app.\"In use\""),
          "SELECT pg_terminate_backend(" + pid + ");"}) {
      CHECK_MESSAGE(said.find(text) != std::string::npos, said);
    }
  }
  user.exec("PREPARE TRANSACTION 'it''s prepared'");
  const auto said = refused(drop);
  CHECK_MESSAGE(
      said.find(
          "prepared transaction 'it''s prepared' of postgres holds AccessShareLock on app.\"In use\"") !=
          std::string::npos,
      said);
  CHECK_MESSAGE(said.find("ROLLBACK PREPARED 'it''s prepared';") != std::string::npos, said);
  CHECK(connection.one_value("SELECT count(*) FROM app.\"In use\"") == "1");
  user.exec("ROLLBACK PREPARED 'it''s prepared'");

  // One that ends meanwhile is waited for.
  user.exec("BEGIN; SELECT FROM app.\"In use\"");
  std::thread ends([&] {
    auto observer = server.connect("shop");
    harness::wait_until(replication::base::Deadline::in(replication::base::milliseconds(20'000)),
                        "the reset waits for a lock", [&] {
                          return observer.one_value("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0";
                        });
    user.exec("ROLLBACK");
  });
  steps::drop_everything(connection, steps::extension_names(connection));
  ends.join();
  CHECK(connection.one_value("SELECT count(*) FROM pg_namespace WHERE nspname = 'app'") == "0");
  CHECK(connection.one_value("SHOW lock_timeout") == "0");
}
