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
  const std::string tables =
      "CREATE TYPE c AS (a text); CREATE DOMAIN d AS c; CREATE TYPE outer_c AS (one d, more c[]); "
      "CREATE TYPE mood AS ENUM ('good'); "
      "CREATE TABLE t (id int PRIMARY KEY, v text, nested outer_c[], mood mood); INSERT INTO t VALUES (1, "
      "'a')";
  std::string name, change, write;
  SUBCASE("other columns") {
    name = "spans_columns";
    change = "ALTER TABLE t ADD COLUMN extra text";
    write = "INSERT INTO t (id, extra) VALUES (2, 'extra')";
  }
  SUBCASE("a composite of a column's type has other columns") {
    name = "spans_composite";
    change = "ALTER TYPE c ADD ATTRIBUTE extra text";
    write =
        "INSERT INTO t (id, nested) VALUES (2, ARRAY[ROW(ROW('a', 'extra'), "
        "ARRAY[ROW('b', 'extra')::c])::outer_c])";
  }
  SUBCASE("other labels") {
    name = "spans_labels";
    change = "ALTER TYPE mood ADD VALUE 'bad'";
    write = "INSERT INTO t (id, mood) VALUES (2, 'bad')";
  }
  SUBCASE("another file") {
    name = "spans_file";
    change = "BEGIN; SAVEPOINT a; TRUNCATE t; INSERT INTO t VALUES (3, 'c'); RELEASE a; COMMIT";
    write = "INSERT INTO t VALUES (2, 'b')";
  }
  auto open = std::make_unique<Open>("postgres");
  Stage stage(name, "stop", tables, "keyless: full", [&](Stage& begun) {
    straddle(begun.run(), name, open, change, write);
    wait_slot_or_again(begun.run(), name, *open);
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
              "keyless: full", [&](Stage& begun) {
                auto& run = begun.run();
                for (const std::string table : {"a", "b", "t"}) {
                  straddle(run, "spans_always", open, "ALTER TABLE " + table + " ADD COLUMN extra text",
                           "INSERT INTO " + table + " VALUES (1, 'new')");
                }
                CHECK(run.wait(seconds(180)) == 1);
                CHECK_MESSAGE(has(run.errors(), "changed while the slot was made"), run.errors());
                CHECK_MESSAGE(has(run.errors(), "hold back schema changes"), run.errors());
                CHECK(server(true).value("postgres",
                                         "SELECT count(*) FROM pg_replication_slots WHERE database "
                                         "= 'spans_always'") == "0");
                open->session.exec("COMMIT");
              });
  stage.wait_same(kRows);
  stage.expect_equal();
}

TEST_CASE(
    "a table in another file each time the slot is made: the run goes on, and says what may come of it") {
  std::string name, write;
  SUBCASE("it isn't written to meanwhile") {
    name = "files_unused";
    write = "t";
  }
  SUBCASE("it is, by what spans the end of that") {
    name = "files_used";
    write = "c";
  }
  auto open = std::make_unique<Open>("postgres");
  Stage stage(
      name, "stop",
      "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int "
      "PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)",
      "keyless: full", [&](Stage& begun) {
        auto& run = begun.run();
        for (const std::string table : {"a", "b", "c"}) {
          straddle(run, name, open, "TRUNCATE " + table,
                   "INSERT INTO " + (table == write ? table : "t") + " VALUES (txid_current())");
        }
        wait_slot_or_again(run, name, *open);
        open->session.exec("COMMIT");
        open.reset();  // `check` refuses to begin beside sessions of our own role
        run.wait_output("public.c; going on", seconds(180));
        if (write != "c") {
          return;
        }
        CHECK_MESSAGE(run.wait(seconds(180)) == 8, run.errors());
        CHECK_MESSAGE(has(run.errors(), "truncated, rewritten or created while the slot was made"),
                      run.errors());
        CHECK_MESSAGE(has(run.errors(), "cancel this migration and start anew"), run.errors());
        const auto cancelled = begun.tool("cancel", {"--yes"});
        CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
      });
  stage.source("INSERT INTO t VALUES (1)");
  stage.wait_same(kRows);
  stage.expect_equal();
}
