#include "replication/postgres/connection.h"

#include <doctest/doctest.h>
#include <future>
#include <string>

#include "replication/base/error.h"
#include "replication/postgres/sqlstate.h"
#include "tests/integration/postgres/server.h"

namespace replication::postgres {
namespace {

base::Error error_of(Connection& connection, const std::string& sql) {
  try {
    connection.exec(sql);
  } catch (const base::Error& error) {
    return error;
  }
  FAIL("no error of: " << sql);
  return base::Error("unreachable");
}

TEST_CASE("an error carries the server's code, text, hint, and the statement's first words") {
  auto connection = open("postgres");
  const auto error = error_of(connection, "SELECT  no_such_function(1)\n FROM pg_class");
  CHECK(error.sqlstate() == "42883");
  CHECK(error.server() == "source");
  CHECK(error.message() == "function no_such_function(integer) does not exist");
  CHECK(error.where() == "SELECT no_such_function(1) FROM pg_class");
  CHECK_FALSE(error.hint().empty());
  CHECK_FALSE(error.retryable());
  CHECK(error.connection_usable());
  CHECK(connection.one_value("SELECT 1") == "1");
}

TEST_CASE("the detail of a violated constraint is part of the message") {
  auto connection = open(new_database());
  connection.exec("CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)");
  const auto error = error_of(connection, "INSERT INTO public.t VALUES (1)");
  CHECK(error.sqlstate() == sqlstate::kUniqueViolation);
  CHECK(error.message().find("Key (id)=(1) already exists") != std::string::npos);
}

TEST_CASE("statements with parameters, NULLs and several statements in one text") {
  auto connection = open("postgres");
  Params params;
  params.text(std::string_view("it's")).integer(-5).boolean(true).null().lsn(base::Lsn{0x100000001});
  const auto row =
      connection.one_row("SELECT $1::text, $2::int8 - 1, $3::bool, $4::text, $5::pg_lsn", params);
  CHECK(row.text(0, 0) == "it's");
  CHECK(row.integer(0, 1) == -6);
  CHECK(row.boolean(0, 2));
  CHECK(row.is_null(0, 3));
  CHECK(row.lsn(0, 4) == base::Lsn{0x100000001});
  CHECK(connection.exec("SELECT 1; SELECT 2, 3").columns() == 2);
  CHECK_FALSE(connection.maybe_value("SELECT 1 WHERE false"));
  CHECK_FALSE(connection.maybe_value("SELECT NULL"));
  CHECK_THROWS_AS(connection.one_row("SELECT 1 WHERE false"), base::Bug);
  CHECK_THROWS_AS(connection.none("SELECT 1"), base::Bug);
}

TEST_CASE("the deadline cancels a statement and the session stays usable") {
  auto connection = open("postgres");
  const auto begin = base::Clock::now();
  CHECK_THROWS_AS(connection.exec("SELECT pg_sleep(60)", base::Deadline::in(base::milliseconds(50))),
                  base::TimeoutError);
  CHECK(base::Clock::now() - begin < base::milliseconds(10'000));
  CHECK(connection.usable());
  CHECK(connection.one_value("SELECT 1") == "1");
  CHECK(server().value("postgres",
                       "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND "
                       "state = 'active'") == "0");
}

TEST_CASE("a cancel that comes too late never hits the next statement") {
  auto connection = open("postgres");
  int cancelled = 0;
  for (int round = 0; round < 300; ++round) {
    // Ends at about its deadline: now this one first, now that.
    try {
      connection.exec("SELECT pg_sleep(0.003)", base::Deadline::in(base::milliseconds(3 + round % 3)));
    } catch (const base::TimeoutError&) {
      ++cancelled;
    }
    REQUIRE(connection.usable());
    REQUIRE_NOTHROW(connection.exec("SELECT pg_sleep(0.004)"));
  }
  CHECK(cancelled > 0);
}

TEST_CASE("a stop request ends a statement, and those after it, at once") {
  base::Stop stop;
  auto connection = open("postgres", stop);
  auto running = std::async(std::launch::async, [&] { connection.exec("SELECT pg_sleep(61)"); });
  harness::wait_until(soon(), "the statement runs", [] {
    return server().value("postgres",
                          "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)' AND "
                          "state = 'active'") == "1";
  });
  stop.request();
  CHECK_THROWS_AS(running.get(), base::Stopped);
  CHECK_THROWS_AS(connection.exec("SELECT 1"), base::Stopped);
  const Connection::Uninterrupted guard(connection);
  CHECK(connection.usable());
  CHECK(connection.one_value("SELECT 1") == "1");
}

TEST_CASE("a session that was terminated is an error that can be retried on another one") {
  auto connection = open("postgres");
  server().sql("postgres", "SELECT pg_terminate_backend(" + std::to_string(connection.backend_pid()) + ")");
  const auto error = error_of(connection, "SELECT 1");
  CHECK_FALSE(error.connection_usable());
  CHECK(error.retryable());
  CHECK((error.sqlstate() == "57P01" || error.sqlstate() == "08006"));
  CHECK_FALSE(connection.usable());
  CHECK_FALSE(error_of(connection, "SELECT 1").connection_usable());
}

TEST_CASE("a server that isn't there, and a database that isn't, are unreachable") {
  const auto nowhere = ConnInfo::parse("host=/tmp/no-such-directory dbname=x", "test");
  CHECK_THROWS_AS(Connection::open(nowhere, {}, base::Stop::never()), base::UnreachableError);
  CHECK_THROWS_AS(open("no such database"), base::UnreachableError);
  base::Stop stop;
  stop.request();
  CHECK_THROWS_AS(open("postgres", stop), base::Stopped);
}

TEST_CASE("notices are kept with their codes, and a notification wakes its listener") {
  auto connection = open("postgres");
  connection.exec("DO $$ BEGIN RAISE WARNING 'look out' USING ERRCODE = '01ABC'; END $$");
  const auto notices = connection.take_notices();
  REQUIRE(notices.size() == 1);
  CHECK(notices[0] == std::pair<std::string, std::string>("01ABC", "look out"));
  CHECK(connection.take_notices().empty());
  connection.exec("LISTEN wake");
  CHECK_FALSE(connection.wait_notification(base::Deadline::in(base::milliseconds(1))));
  server().sql("postgres", "NOTIFY wake");
  CHECK(connection.wait_notification(soon()));
}

}  // namespace
}  // namespace replication::postgres
