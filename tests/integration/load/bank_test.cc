// The proof is worth something only if it can fail: each case breaks one thing on purpose.
#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <set>
#include <string>

#include "replication/base/error.h"
#include "tests/harness/cluster.h"
#include "tests/harness/pgbouncer.h"
#include "tests/harness/wait.h"
#include "tests/load/bank_load.h"
#include "tests/load/bank_proof.h"
#include "tests/load/shop_schema.h"
#include "tests/load/shop_writes.h"

using harness::Cluster;
using harness::Deadline;
using harness::milliseconds;

namespace {

constexpr milliseconds kLimit{180'000};

// A cluster with a loaded bank, and what its clients know.
struct Bank {
  explicit Bank(std::int64_t commits, bool through_pooler = false) {
    cluster.sql("postgres", "CREATE ROLE app LOGIN");
    cluster.sql("postgres", "CREATE DATABASE shop OWNER app");
    cluster.connect("shop", "app").exec(load::shop_schema_sql(size));
    if (through_pooler) {
      pooler.emplace(harness::PgbouncerOptions{
          .databases = {{"shop", "host=" + cluster.host() + " port=5432 dbname=shop"}}});
    }
    load::BankLoadOptions options{.conninfo = pooler ? pooler->conninfo("shop", "app")
                                                     : cluster.conninfo("shop", "app")};
    options.rate = 0;
    options.size = size;
    clients.emplace(options);
    clients->wait_acknowledged(commits, Deadline::in(kLimit));
    harness::wait_until(Deadline::in(kLimit), "each client has sent some", [&] {
      return std::ranges::all_of(std::array{1, 2, 3, 4},
                                 [&](int client) { return clients->log().last_seq(client) > 5; });
    });
  }
  load::LoadReport stop() { return clients->stop(Deadline::in(kLimit)); }
  load::BankProof proof() {
    auto connection = cluster.connect("shop");
    return load::prove_bank(connection, clients->log(), size);
  }
  // Breaks the data behind the back of triggers and foreign keys.
  void tamper(const std::string& sql) {
    cluster.sql("shop", "SET session_replication_role = replica; " + sql);
  }

  load::ShopSize size;
  Cluster cluster{{.name = "bank"}};
  std::optional<harness::Pgbouncer> pooler;
  std::optional<load::BankLoad> clients;
};

bool mentions(const load::BankProof& proof, const std::string& text) {
  return proof.summary().find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("load through a pooler fails nowhere, writes every kind of row, and its proof holds") {
  Bank bank(400, true);
  const auto report = bank.stop();
  const auto first_failure = report.failures.empty() ? std::string() : report.failures.front().text;
  INFO(first_failure);
  CHECK(report.failed == 0);
  CHECK(report.in_doubt == 0);
  const auto proof = bank.proof();
  INFO(proof.summary());
  CHECK(proof.holds());
  CHECK(proof.acknowledged == report.acknowledged);
  CHECK(proof.transfers == report.acknowledged);
  CHECK(report.longest_stall.size() == 4);
  CHECK(report.worst().length > milliseconds(0));
  for (const std::string& moved : std::vector<std::string>{
           "SELECT count(*) FROM shop.every_type WHERE c_bool",
           "SELECT count(*) FROM shop.every_type WHERE c_bool IS NULL",
           "SELECT count(*) FROM shop.every_type WHERE seq < 0",
           "SELECT count(*) FROM shop.event_other WHERE kind = 'moved'",
           "SELECT count(*) FROM shop.orders WHERE state = 'paid'", "SELECT count(*) FROM shop.invoice"}) {
    INFO(moved);
    CHECK(bank.cluster.value("shop", moved) != "0");
  }
}

TEST_CASE("the proof finds what was lost, doubled, changed or invented") {
  Bank bank(100);
  bank.stop();
  REQUIRE(bank.proof().holds());

  SUBCASE("a lost row") {
    bank.tamper("DELETE FROM shop.bank_transfer WHERE client = 1 AND seq = 3");
    CHECK(mentions(bank.proof(),
                   "acknowledged transfer 3 of client 1 is 0 times in bank_transfer and 1 times"));
  }
  SUBCASE("a row that the keyless table has twice") {
    bank.tamper("INSERT INTO shop.bank_journal SELECT * FROM shop.bank_journal WHERE client = 2 AND seq = 5");
    CHECK(mentions(bank.proof(),
                   "acknowledged transfer 5 of client 2 is 1 times in bank_transfer and 2 times"));
  }
  SUBCASE("money that appeared") {
    bank.tamper("UPDATE shop.bank_account SET balance = balance + 1 WHERE id = 7");
    CHECK(mentions(bank.proof(), "account 7 holds"));
    CHECK(mentions(bank.proof(), "total is 200001 instead of 200000"));
  }
  SUBCASE("an update that was applied twice on both sides of a transfer") {
    bank.tamper(
        "UPDATE shop.bank_account SET balance = balance + CASE id WHEN 7 THEN 5 ELSE -5 END "
        "WHERE id IN (7, 8)");
    CHECK(mentions(bank.proof(), "account 8 holds"));
    CHECK_FALSE(mentions(bank.proof(), "instead of 200000"));
  }
  SUBCASE("a transfer nobody sent") {
    bank.tamper("INSERT INTO shop.bank_journal VALUES (9, 1, 1, 'x')");
    CHECK(mentions(bank.proof(), "transfer 1 of client 9 was never sent"));
  }
  SUBCASE("another amount than was sent") {
    bank.tamper("UPDATE shop.bank_journal SET amount = amount + 100 WHERE client = 1 AND seq = 2");
    CHECK(mentions(bank.proof(), "transfer 2 of client 1 has other accounts or another amount"));
  }
  SUBCASE("a trigger that fired again") {
    bank.tamper("INSERT INTO shop.order_audit(\"order\") VALUES (1)");
    CHECK(mentions(bank.proof(), "order 1 has 2 audit rows"));
  }
  CHECK_FALSE(bank.proof().holds());
}

TEST_CASE("commits in doubt and failures are told apart when the server crashes, and clients go on") {
  Bank bank(200);
  bank.cluster.kill9();
  harness::wait_until(Deadline::in(kLimit), "the clients notice",
                      [&] { return bank.clients->report().failed >= 4; });
  bank.cluster.start();
  bank.clients->wait_acknowledged(200, Deadline::in(kLimit));
  const auto report = bank.stop();
  CHECK(report.failed > 0);
  const auto proof = bank.proof();
  INFO(proof.summary());
  CHECK(proof.holds());
  CHECK(proof.doubtful == report.in_doubt);
}

TEST_CASE("a commit that was acknowledged and then lost by the server is found") {
  Bank bank(100);
  bank.stop();
  const auto log = bank.cluster.data_path() + "/../commits";
  bank.tamper("CREATE TABLE shop.before AS SELECT * FROM shop.bank_account");
  load::BankLoadOptions options{.conninfo = bank.cluster.conninfo("shop", "app"),
                                .clients = 1,
                                .rate = 0,
                                .log_path = log,
                                .size = bank.size,
                                .shop_writes = false};
  // A second generation, with a log in a file: read back by another process, as after a crash of the
  // generator.
  bank.cluster.sql(
      "shop", "TRUNCATE shop.bank_transfer, shop.bank_journal; UPDATE shop.bank_account SET balance = 1000");
  load::BankLoad clients(options);
  clients.wait_acknowledged(20, Deadline::in(kLimit));
  clients.stop(Deadline::in(kLimit));
  const load::CommitLog read_back(log);
  CHECK(read_back.last_seq(1) >= 20);
  CHECK(read_back.last_seq(2) == 0);
  auto connection = bank.cluster.connect("shop");
  CHECK(load::prove_bank(connection, read_back, bank.size).holds());
  bank.tamper("DELETE FROM shop.bank_transfer WHERE seq = 20; DELETE FROM shop.bank_journal WHERE seq = 20");
  const auto proof = load::prove_bank(connection, read_back, bank.size);
  CHECK(mentions(proof, "acknowledged transfer 20 of client 1 is 0 times in bank_transfer and 0 times"));
}

TEST_CASE("the proof holds while the load goes on, and tells a replica that is behind") {
  Bank bank(100);
  for (int round = 0; round < 5; ++round) {
    const auto proof = bank.proof();
    INFO(proof.summary());
    CHECK(proof.holds());
    bank.clients->wait_acknowledged(20, Deadline::in(kLimit));
  }
  bank.stop();
  auto connection = bank.cluster.connect("shop");
  CHECK(load::has_acknowledged(connection, bank.clients->log().transfers()));
  bank.tamper(
      "DELETE FROM shop.bank_transfer WHERE (client, seq) IN (SELECT client, max(seq) FROM "
      "shop.bank_transfer "
      "GROUP BY client)");
  CHECK_FALSE(load::has_acknowledged(connection, bank.clients->log().transfers()));
}

TEST_CASE("a replica is judged by what was acknowledged when it was waited for, not by what came since") {
  Bank bank(50);
  const auto sent = bank.clients->log().transfers();
  bank.clients->wait_acknowledged(50, Deadline::in(kLimit));
  bank.stop();
  auto connection = bank.cluster.connect("shop");
  // As a replica that lacks the last transaction of a client, which the log knows by now.
  const auto last = std::to_string(bank.clients->log().last_seq(1));
  const auto is_last = " WHERE client = 1 AND seq = " + last;
  bank.tamper(
      "UPDATE shop.bank_account a SET balance = balance + CASE a.id WHEN t.from_account THEN t.amount ELSE "
      "-t.amount END FROM shop.bank_transfer t WHERE a.id IN (t.from_account, t.to_account) AND t.client = 1 "
      "AND t.seq = " +
      last);
  bank.tamper("DELETE FROM shop.bank_transfer" + is_last + "; DELETE FROM shop.bank_journal" + is_last);
  const auto proof = load::prove_bank(connection, bank.clients->log(), bank.size, sent);
  INFO(proof.summary());
  CHECK(proof.holds());
  CHECK_FALSE(load::prove_bank(connection, bank.clients->log(), bank.size).holds());
  // One that it had been waited for is not forgiven.
  bank.tamper("DELETE FROM shop.bank_journal WHERE client = 1 AND seq = 1");
  CHECK_FALSE(load::prove_bank(connection, bank.clients->log(), bank.size, sent).holds());
}

TEST_CASE("an empty log proves nothing") {
  Bank bank(1);
  bank.stop();
  const load::CommitLog empty;
  auto connection = bank.cluster.connect("shop");
  CHECK_FALSE(load::prove_bank(connection, empty, bank.size).holds());
}
