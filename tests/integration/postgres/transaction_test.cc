#include "replication/postgres/transaction.h"

#include <doctest/doctest.h>
#include <future>
#include <string>

#include "replication/base/error.h"
#include "replication/postgres/fencing_token.h"
#include "tests/integration/postgres/server.h"

namespace replication::postgres {
namespace {

std::string rows(const std::string& database) {
  return server().value(database, "SELECT count(*) FROM t").value_or("none");
}

std::string database_with_table() {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int)");
  return database;
}

TEST_CASE("a transaction is committed, rolled back, or rolled back with its scope") {
  const auto database = database_with_table();
  auto connection = open(database);
  {
    const Transaction transaction(connection);
    connection.exec("INSERT INTO public.t VALUES (1)");
    CHECK(connection.in_transaction());
  }
  CHECK_FALSE(connection.in_transaction());
  CHECK(rows(database) == "0");
  {
    Transaction transaction(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    connection.exec("INSERT INTO public.t VALUES (1)");
    transaction.rollback();
  }
  CHECK(rows(database) == "0");
  {
    Transaction transaction(connection);
    connection.exec("INSERT INTO public.t VALUES (1)");
    CHECK(transaction.commit() == CommitOutcome::committed);
    CHECK_THROWS_AS(static_cast<void>(transaction.commit()), base::Bug);
  }
  CHECK(rows(database) == "1");
}

TEST_CASE("a commit of a failed transaction is an error, not a success") {
  const auto database = database_with_table();
  auto connection = open(database);
  Transaction transaction(connection);
  connection.exec("INSERT INTO public.t VALUES (1)");
  CHECK_THROWS_AS(connection.exec("SELECT 1/0"), base::Error);
  CHECK_THROWS_AS(static_cast<void>(transaction.commit()), base::Error);
  CHECK(connection.usable());
  CHECK(rows(database) == "0");
}

TEST_CASE("a commit the server refuses is a definite error") {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
  auto connection = open(database);
  Transaction transaction(connection);
  connection.exec("INSERT INTO public.t VALUES (1), (1)");
  try {
    static_cast<void>(transaction.commit());
    FAIL("two equal keys were committed");
  } catch (const base::Error& error) {
    CHECK(error.sqlstate() == "23505");
    CHECK(error.connection_usable());
  }
  CHECK(rows(database) == "0");
}

TEST_CASE("a session lost before COMMIT commits nothing, and is never reported as committed") {
  const auto database = database_with_table();
  auto connection = open(database);
  Transaction transaction(connection);
  connection.exec("INSERT INTO public.t VALUES (1)");
  server().sql(database, "SELECT pg_terminate_backend(" + std::to_string(connection.backend_pid()) + ")");
  CHECK_THROWS_AS(transaction.commit_or_throw(), base::Error);
  CHECK(rows(database) == "0");
}

// A session that is told to wait for a standby that doesn't exist has committed when it waits: killed then,
// it is the one case in which the answer is lost and the data is there.
TEST_CASE("an answer lost after the commit took place is in doubt, and the data is there") {
  const auto database = database_with_table();
  auto connection = open(database);
  const auto set_standby = [](const std::string& name) {
    server().configure({"synchronous_standby_names = '" + name + "'"});
    harness::wait_until(soon(), "synchronous_standby_names is set",
                        [&] { return server().value("postgres", "SHOW synchronous_standby_names") == name; });
  };
  set_standby("nobody");
  auto outcome = std::async(std::launch::async, [&] {
    Transaction transaction(connection);
    connection.exec("INSERT INTO public.t VALUES (1)");
    return transaction.commit();
  });
  const auto pid = std::to_string(connection.backend_pid());
  harness::wait_until(soon(), "the commit waits for the standby", [&] {
    return server().value("postgres", "SELECT wait_event FROM pg_stat_activity WHERE pid = " + pid) ==
           "SyncRep";
  });
  server().sql("postgres", "SELECT pg_terminate_backend(" + pid + ")");
  CHECK(outcome.get() == CommitOutcome::in_doubt);
  CHECK_FALSE(connection.usable());
  set_standby("");
  CHECK(rows(database) == "1");
}

TEST_CASE(
    "a stop request doesn't make a commit's outcome unknown, and doesn't keep a rollback from happening") {
  const auto database = database_with_table();
  base::Stop stop;
  auto connection = open(database, stop);
  auto other = open(database, stop);
  {
    Transaction committed(connection);
    const Transaction undone(other);
    connection.exec("INSERT INTO public.t VALUES (1)");
    other.exec("INSERT INTO public.t VALUES (2)");
    stop.request();
    CHECK(committed.commit() == CommitOutcome::committed);
  }
  CHECK_FALSE(other.in_transaction());
  CHECK(other.usable());
  CHECK(rows(database) == "1");
}

TEST_CASE(
    "the fencing token holds for one controller, and holds a take-over back until the transaction ends") {
  const auto database = database_with_table();
  server().sql(database, FencingToken::schema_sql());
  server().sql(database, FencingToken::schema_sql());  // twice changes nothing
  server().sql(database, "UPDATE pgcutover.controller SET epoch = 7, holder = 'us'");
  auto connection = open(database);
  const FencingToken ours(7);
  const FencingToken old(6);
  {
    const Transaction transaction(connection);
    CHECK_THROWS_AS(old.assert_current(connection), base::StateError);
  }
  CHECK(connection.one_value("SELECT " + ours.sql_condition()) == "t");
  CHECK(connection.one_value("SELECT " + old.sql_condition()) == "f");
  Transaction transaction(connection);
  ours.assert_current(connection);
  auto successor = open(database);
  const auto take_over = "UPDATE pgcutover.controller SET epoch = 8 WHERE epoch = 7";
  CHECK_THROWS_AS(successor.exec(take_over, base::Deadline::in(base::milliseconds(100))), base::TimeoutError);
  transaction.commit_or_throw();
  CHECK(successor.exec(take_over).affected_rows() == 1);
  const Transaction late(connection);
  CHECK_THROWS_AS(ours.assert_current(connection), base::StateError);
}

}  // namespace
}  // namespace replication::postgres
