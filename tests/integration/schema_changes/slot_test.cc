// Tables that change while the slot waits for older transactions, and transactions that span the end of that:
// the server decodes those by columns that are out of date, or not at all.
#include "tests/integration/schema_changes/stage.h"

using namespace schema_changes;

namespace {

const std::string kRows = "SELECT count(*) || md5(string_agg(to_jsonb(t)::text, '' ORDER BY id)) FROM t";

struct Open {
  explicit Open(const std::string& database) : session(server(true).connect(database)) {
    session.exec("BEGIN");
    xid = session.one_value("SELECT txid_current()::text");
  }
  replication::postgres::Connection session;
  std::string xid;
};

void wait_slot_waits(Tool& run, const Open& transaction) {
  harness::wait_until(seconds(180), "the slot waits for transaction " + transaction.xid, [&] {
    REQUIRE_MESSAGE(run.running(), run.errors());
    return server(true).value("postgres",
                              "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND "
                              "NOT granted AND transactionid::text = '" +
                                  transaction.xid + "'") == "1";
  });
}

// `change` is committed in the first part of the slot's wait, `write` by a transaction that spans the end of
// it. That one stays open, and is what a slot that is made again waits for.
void straddle(Tool& run, const std::string& database, std::unique_ptr<Open>& first, const std::string& change,
              const std::string& write) {
  wait_slot_waits(run, *first);
  auto second = std::make_unique<Open>(database);
  server(true).connect(database).exec(change);
  first->session.exec("COMMIT");
  wait_slot_waits(run, *second);
  first = std::make_unique<Open>(database);
  first->session.exec(write);
  second->session.exec("COMMIT");
}

void wait_slot_or_again(Tool& run, const std::string& database, const Open& transaction) {
  harness::wait_until(seconds(180), "the slot is there or made again", [&] {
    return !run.running() ||
           server(true).value("postgres",
                              "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT "
                              "granted AND transactionid::text = '" +
                                  transaction.xid + "'") == "1" ||
           server(true).value("postgres", "SELECT count(*) FROM pg_replication_slots WHERE database = '" +
                                              database + "' AND confirmed_flush_lsn IS NOT NULL") == "1";
  });
}

}  // namespace

TEST_CASE("a slot is made again when a table changed while the server waited for older transactions") {
  const std::string tables = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";
  std::string name, change, write;
  SUBCASE("other columns") {
    name = "spans_columns";
    change = "ALTER TABLE t ADD COLUMN extra text";
    write = "INSERT INTO t VALUES (2, 'b', 'extra')";
  }
  SUBCASE("another file") {
    name = "spans_file";
    change = "BEGIN; SAVEPOINT a; TRUNCATE t; INSERT INTO t VALUES (3, 'c'); RELEASE a; COMMIT";
    write = "INSERT INTO t VALUES (2, 'b')";
  }
  auto open = std::make_unique<Open>("postgres");
  Stage stage(name, "stop", tables, "keyless: full", [&](Tool& run) {
    straddle(run, name, open, change, write);
    wait_slot_or_again(run, name, *open);
    open->session.exec("COMMIT");
  });
  CHECK_MESSAGE(has(stage.run().errors(), "public.t; it is made again"), stage.run().errors());
  stage.source("INSERT INTO t SELECT 10; UPDATE t SET v = v || '+'");
  stage.wait_same(kRows);
  stage.expect_equal();
}

TEST_CASE(
    "a table that changes each time the slot is made ends the run without a slot; the next one goes on") {
  auto open = std::make_unique<Open>("postgres");
  // A table each: the transaction that stays open holds a lock on the one before.
  Stage stage("spans_always", "stop",
              "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY); "
              "CREATE TABLE b (id int PRIMARY KEY)",
              "keyless: full", [&](Tool& run) {
                for (const std::string table : {"a", "b", "t"}) {
                  straddle(run, "spans_always", open, "ALTER TABLE " + table + " ADD COLUMN extra text",
                           "INSERT INTO " + table + " VALUES (1, 'new')");
                }
                CHECK(run.wait(seconds(180)) == 1);
                CHECK_MESSAGE(has(run.errors(), "tables changed while the slot was made"), run.errors());
                CHECK_MESSAGE(has(run.errors(), "hold back schema changes"), run.errors());
                CHECK(server(true).value("postgres",
                                         "SELECT count(*) FROM pg_replication_slots WHERE database "
                                         "= 'spans_always'") == "0");
                open->session.exec("COMMIT");
              });
  stage.wait_same(kRows);
  stage.expect_equal();
}
