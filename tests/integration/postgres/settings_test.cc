// Nothing a database or role has set may reach our sessions.
#include <doctest/doctest.h>
#include <fstream>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "replication/postgres/connection.h"
#include "tests/harness/cluster.h"
#include "tests/integration/postgres/server.h"

namespace replication::postgres {
namespace {

TEST_CASE("hostile settings of the database and the role don't touch us") {
  const auto database = new_database();
  std::string sql =
      "CREATE TABLE public.t (id int, r real, b bytea, ts timestamptz, x xml, m interval);"
      "INSERT INTO public.t VALUES (1, 0.1, '\\xff', '2024-02-03 04:05:06+00', NULL, '1 day 2 hours');"
      "CREATE SCHEMA trap; CREATE FUNCTION trap.count(int) RETURNS int LANGUAGE sql AS 'SELECT 666';"
      "CREATE ROLE hostile SUPERUSER LOGIN;";
  const std::vector<std::pair<std::string, std::string>> settings = {
      {"DateStyle", "'German, DMY'"},
      {"TimeZone", "'Asia/Tokyo'"},
      {"IntervalStyle", "iso_8601"},
      {"bytea_output", "escape"},
      {"extra_float_digits", "-5"},
      {"statement_timeout", "1"},
      {"lock_timeout", "1"},
      {"idle_in_transaction_session_timeout", "1"},
      {"default_transaction_read_only", "on"},
      {"default_transaction_isolation", "serializable"},
      {"default_transaction_deferrable", "on"},
      {"search_path", "trap, public, pg_catalog"},
      {"xmloption", "document"},
      {"row_security", "on"},
      {"quote_all_identifiers", "on"},
      {"standard_conforming_strings", "off"},
      {"client_min_messages", "error"},
      {"client_encoding", "LATIN1"},
      {"array_nulls", "off"},
  };
  for (const auto& [name, value] : settings) {
    sql += "ALTER DATABASE " + database + " SET " + name + " = " + value + "; ALTER ROLE hostile SET " +
           name + " = " + value + ";";
  }
  server().sql(database, sql);
  auto connection = open(database, base::Stop::never(), "hostile");
  CHECK(connection.one_value("SELECT ROW(t.*)::text FROM public.t") ==
        R"((1,0.1,"\\xff","2024-02-03 04:05:06+00",,"1 day 02:00:00"))");
  CHECK(connection.one_value("SELECT count(1)") == "1");
  CHECK(connection.one_value("SELECT 'a\\b'") == "a\\b");
  CHECK(connection.one_value("SELECT '{NULL}'::text[] IS DISTINCT FROM ARRAY['NULL']") == "t");
  CHECK(connection.one_value("SELECT quote_ident('plain')") == "plain");
  connection.exec("SELECT pg_sleep(0.05)");
  connection.exec("BEGIN");
  CHECK(connection.one_value("SHOW transaction_isolation") == "read committed");
  CHECK(connection.one_value("SHOW transaction_deferrable") == "off");
  connection.exec("SELECT pg_sleep(0.05)");
  connection.exec("UPDATE public.t SET x = 'two <a/> parts'::xml, id = 2");
  connection.exec("COMMIT");
  CHECK(connection.one_value("SELECT id || x::text FROM public.t") == "2two <a/> parts");
  CHECK(connection.one_value("SHOW row_security") == "off");
  CHECK(connection.one_value("SHOW client_encoding") == "UTF8");
}

TEST_CASE("time-outs that only newer servers know don't end our sessions either") {
  const auto database = new_database();
  if (server().major() >= 14) {
    server().sql("postgres", "ALTER DATABASE " + database + " SET idle_session_timeout = '1ms'");
  }
  if (server().major() >= 17) {
    server().sql("postgres", "ALTER DATABASE " + database + " SET transaction_timeout = '1ms'");
  }
  for (int round = 0; round < 20; ++round) {
    auto connection = open(database);
    connection.exec("BEGIN; SELECT pg_sleep(0.01)");
    connection.wait_notification(base::Deadline::in(base::milliseconds(5)));
    connection.exec("COMMIT");
    connection.wait_notification(base::Deadline::in(base::milliseconds(5)));
    REQUIRE(connection.one_value("SELECT 1") == "1");
  }
}

TEST_CASE("settings asked for come after the pinned ones, spaces and quotes included") {
  SessionOptions options;
  options.settings = {
      {"search_path", R"("a b", public)"}, {"lock_timeout", "7s"}, {"application_name", "x \\ y"}};
  auto connection =
      Connection::open(ConnInfo::parse(server().conninfo("postgres"), "test"), options, base::Stop::never());
  CHECK(connection.one_value("SHOW search_path") == R"("a b", public)");
  CHECK(connection.one_value("SHOW lock_timeout") == "7s");
}

TEST_CASE("our name shows in pg_stat_activity unless the operator gave another") {
  const auto name_with = [](const std::string& more) {
    SessionOptions options;
    options.application_name = "pgcutover test";
    auto connection = Connection::open(ConnInfo::parse(server().conninfo("postgres") + more, "test"), options,
                                       base::Stop::never());
    return connection.one_value("SHOW application_name");
  };
  CHECK(name_with("") == "pgcutover test");
  CHECK(name_with(" application_name=mine") == "mine");
}

TEST_CASE("a refused password is unreachable, and its message has no password") {
  harness::Cluster cluster(harness::ClusterOptions{.name = "source"});
  cluster.sql("postgres", "CREATE ROLE keeper LOGIN PASSWORD 'right-0n3'");
  {
    std::ofstream hba(cluster.data_path() + "/pg_hba.conf");
    hba << "local all postgres trust\nlocal all all scram-sha-256\n";
  }
  cluster.configure({"password_encryption = 'scram-sha-256'"});
  const auto with = [&](const std::string& password) {
    return ConnInfo::parse(cluster.conninfo("postgres", "keeper") + " password='" + password + "'", "test");
  };
  harness::wait_until(soon(), "passwords are asked for", [&] {
    try {
      Connection::open(with("wr0ng-s3cret"), {}, base::Stop::never());
      return false;
    } catch (const base::UnreachableError&) {
      return true;
    }
  });
  try {
    Connection::open(with("wr0ng-s3cret"), {}, base::Stop::never());
    FAIL("a wrong password was taken");
  } catch (const base::UnreachableError& error) {
    CHECK(error.describe().find("wr0ng-s3cret") == std::string::npos);
    CHECK(error.describe().find("authentication failed") != std::string::npos);
    CHECK(error.describe().find("keeper") != std::string::npos);
    CHECK(error.exit_code() == base::ExitCode::unreachable);
  }
}

}  // namespace
}  // namespace replication::postgres
