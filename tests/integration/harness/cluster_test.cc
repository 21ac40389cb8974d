#include "tests/harness/cluster.h"

#include <doctest/doctest.h>
#include <filesystem>
#include <string>

#include "replication/base/error.h"
#include "tests/harness/pgbouncer.h"
#include "tests/harness/process.h"
#include "tests/harness/wait.h"

using harness::Cluster;
using harness::Deadline;
using harness::milliseconds;
using harness::wait_until;

TEST_CASE("a cluster starts, answers, and survives a restart and a crash") {
  Cluster cluster({.name = "one", .conf = {"work_mem = 7MB"}});
  CHECK(cluster.value("postgres", "SHOW work_mem") == "7MB");
  CHECK(cluster.value("postgres", "SHOW wal_level") == "logical");
  cluster.sql("postgres", "CREATE TABLE kept(id int); INSERT INTO kept VALUES (1), (2)");
  cluster.restart();
  CHECK(cluster.value("postgres", "SELECT count(*) FROM kept") == "2");
  cluster.sql("postgres", "INSERT INTO kept VALUES (3)");
  cluster.kill9();
  CHECK_FALSE(cluster.running());
  cluster.start();
  CHECK(cluster.value("postgres", "SELECT count(*) FROM kept") == "3");
  CHECK(cluster.value("postgres", "SELECT setting FROM pg_settings WHERE name = 'server_version_num'")
            ->starts_with(std::to_string(cluster.major())));
}

TEST_CASE("two clusters have different system identifiers and logical decoding works on both") {
  Cluster first({.name = "first"});
  Cluster second({.name = "second"});
  const std::string identifier = "SELECT system_identifier FROM pg_control_system()";
  CHECK(first.value("postgres", identifier) != second.value("postgres", identifier));
  for (const auto* cluster : {&first, &second}) {
    cluster->sql("postgres", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    CHECK(cluster->value("postgres", "SELECT count(*) FROM pg_replication_slots") == "1");
  }
}

TEST_CASE("hostile names of databases and roles pass through a conninfo") {
  Cluster cluster({.name = "hostile"});
  cluster.sql("postgres", "CREATE ROLE \"o'b \\ \"\"x\" LOGIN SUPERUSER");
  cluster.sql("postgres", "CREATE DATABASE \"a\"\"b c\"");
  auto connection = cluster.connect("a\"b c", "o'b \\ \"x");
  CHECK(connection.one_value("SELECT current_database()") == "a\"b c");
  CHECK(connection.one_value("SELECT current_user") == "o'b \\ \"x");
}

TEST_CASE("a cluster leaves neither a process nor a directory behind") {
  pid_t pid = 0;
  std::string directory;
  {
    Cluster cluster({.name = "ends"});
    pid = cluster.pid();
    directory = cluster.host();
    CHECK(std::filesystem::exists(directory));
    CHECK_FALSE(harness::children_of(pid).empty());
  }
  CHECK_FALSE(std::filesystem::exists(directory));
  CHECK(harness::children_of(pid).empty());
}

TEST_CASE("a wrong setting is reported with the server's own words") {
  CHECK_THROWS_WITH_AS(Cluster({.name = "wrong", .conf = {"shared_buffers = lots"}}),
                       doctest::Contains("lots"), replication::base::Error);
  CHECK_THROWS_WITH_AS(Cluster({.name = "wrong", .version = "7"}),
                       doctest::Contains("no PostgreSQL 7 server"), replication::base::Error);
}

TEST_CASE("a wait that never comes true names its condition") {
  CHECK_THROWS_WITH_AS(wait_until(Deadline::in(milliseconds(50)), "pigs fly", [] { return false; }),
                       "timed out waiting until pigs fly", replication::base::TimeoutError);
}

TEST_CASE("pgbouncer holds traffic with PAUSE, changes its host with RELOAD and lets go with RESUME") {
  Cluster first({.name = "first"});
  Cluster second({.name = "second"});
  const auto where = [](const Cluster& cluster) {
    return "host=" + cluster.host() + " port=" + std::to_string(Cluster::kPort) + " dbname=postgres";
  };
  for (const auto* cluster : {&first, &second}) {
    cluster->sql("postgres", "CREATE TABLE who AS SELECT '" + cluster->name() + "'::text AS name");
  }
  harness::Pgbouncer pooler({.databases = {{"shop", where(first)}}, .users = {"postgres"}});
  const auto info = replication::postgres::ConnInfo::parse(pooler.conninfo("shop", "postgres"), "pooler");
  replication::postgres::SessionOptions session;
  session.kind = replication::postgres::SessionKind::console;  // a plain session, as an application's
  auto client = replication::postgres::Connection::open(info, session, replication::base::Stop::never());
  CHECK(client.exec("SELECT name FROM public.who").text(0, 0) == "first");

  pooler.console("PAUSE shop");
  CHECK_THROWS_WITH_AS(client.exec("SELECT 1", Deadline::in(milliseconds(300))), doctest::Contains("in time"),
                       replication::base::Error);
  pooler.write_databases({{"shop", where(second)}});
  pooler.console("RELOAD");
  pooler.console("RESUME shop");
  auto later = replication::postgres::Connection::open(info, session, replication::base::Stop::never());
  CHECK(later.exec("SELECT name FROM public.who").text(0, 0) == "second");
}
