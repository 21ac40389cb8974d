#include "replication/catalog/server.h"

#include <algorithm>
#include <doctest/doctest.h>

#include "tests/harness/cluster.h"

namespace catalog = replication::catalog;

TEST_CASE("facts about a server, its sessions and its prepared transactions") {
  harness::Cluster server({.name = "source", .conf = {"max_prepared_transactions = 5"}});
  server.sql("postgres", "CREATE ROLE mover LOGIN REPLICATION");
  server.sql("postgres", "CREATE ROLE app LOGIN");
  server.sql("postgres", "CREATE DATABASE shop OWNER mover");
  auto mover = server.connect("shop", "mover");
  auto root = server.connect("shop");

  SUBCASE("facts") {
    const catalog::ServerFacts facts = catalog::server_facts(mover);
    CHECK(facts.version / 10000 == server.major());
    CHECK(facts.system_identifier ==
          *server.value("postgres", "SELECT system_identifier FROM pg_control_system()"));
    CHECK(facts.timeline == 1);
    CHECK(facts.database == "shop");
    CHECK(facts.database_bytes > 1'000'000);
    CHECK_FALSE(facts.in_recovery);
    CHECK(facts.user == "mover");
    CHECK_FALSE(facts.superuser);
    CHECK(facts.replication);
    CHECK(facts.owns_database);
    CHECK(facts.encoding == "UTF8");
    CHECK(facts.collate == facts.ctype);
    CHECK(facts.locale_provider == "libc");
    CHECK(catalog::server_facts(root).superuser);
    auto app = server.connect("shop", "app");
    CHECK_FALSE(catalog::server_facts(app).owns_database);
    CHECK_FALSE(catalog::server_facts(app).replication);
  }
  SUBCASE("settings") {
    CHECK(catalog::setting(mover, "wal_level") == "logical");
    CHECK(catalog::setting(mover, "no_such_setting").empty());
  }
  SUBCASE("sessions of others, not our own, not of other databases") {
    auto app = server.connect("shop", "app");
    app.exec("BEGIN");
    app.exec("SELECT 'a query'");
    auto elsewhere = server.connect("postgres", "app");
    auto colleague = server.connect("shop", "mover");
    const auto sessions = catalog::foreign_sessions(mover);
    REQUIRE(sessions.size() == 2);
    const auto found = std::ranges::find(sessions, "app", &catalog::Session::user);
    REQUIRE(found != sessions.end());
    CHECK(found->pid == app.backend_pid());
    CHECK_FALSE(found->superuser);
    CHECK(std::ranges::find(sessions, "postgres", &catalog::Session::user)->superuser);
    const auto seen = catalog::foreign_sessions(root);
    const auto detail = std::ranges::find(seen, "app", &catalog::Session::user);
    REQUIRE(detail != seen.end());
    CHECK(detail->state == "idle in transaction");
    CHECK(detail->query == "SELECT 'a query'");
    CHECK(detail->client == "local");
    CHECK(detail->transaction_seconds > 0);
  }
  SUBCASE("prepared transactions") {
    mover.exec("CREATE TABLE t(id int)");
    mover.exec("BEGIN");
    mover.exec("INSERT INTO t VALUES (1)");
    mover.exec("PREPARE TRANSACTION 'half done'");
    const auto prepared = catalog::prepared_transactions(root);
    REQUIRE(prepared.size() == 1);
    CHECK(prepared[0].gid == "half done");
    CHECK(prepared[0].owner == "mover");
    CHECK(prepared[0].database == "shop");
    CHECK(prepared[0].age_seconds >= 0);
  }
  SUBCASE("positions") {
    const auto before = catalog::insert_lsn(root);
    CHECK(before.valid());
    root.exec("CREATE TABLE moved(id int)");
    CHECK(catalog::flush_lsn(root) > before);
  }
}
