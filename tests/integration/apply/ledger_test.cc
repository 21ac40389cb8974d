// The ledger of the changes: each table's numbers, and what stops a batch that lost or gained one on the way.
#include "replication/apply/collector.h"
#include "replication/apply/target_tables.h"
#include "replication/apply/writer.h"
#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

TEST_CASE("each table's changes are counted by what became of them") {
  Stage stage("counted");
  stage.both(
      "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int);"
      "CREATE TABLE k (id int, v int); ALTER TABLE k REPLICA IDENTITY FULL");
  stage.publish();
  stage.source("INSERT INTO b VALUES (1, 1)");
  const auto snapshot = stage.source_value("SELECT txid_current_snapshot()");
  stage.target("INSERT INTO b VALUES (1, 1)");  // the copy under that snapshot
  auto options = stage.options();
  options.filters = {{"public", "b", snapshot, "m1"}};
  stage.start(options);
  stage.source(
      "BEGIN; INSERT INTO a SELECT g, g FROM generate_series(1, 10) g; UPDATE a SET v = v + 1; COMMIT");
  stage.source("BEGIN; UPDATE a SET id = 100 WHERE id = 1; DELETE FROM a WHERE id = 2; COMMIT");
  stage.source("INSERT INTO k VALUES (1, 1), (1, 1)");
  REQUIRE(stage.sync() == WaitResult::reached);
  auto tables = stage.applier->tables();
  CHECK(tables.size() == 3);
  auto& a = tables["public.a"];
  CHECK(a.received == 22);
  CHECK(a.applied() + a.folded == 22);
  // Ten updates, an insert whose row moved on at once, another with the delete of its row.
  CHECK(a.folded == 13);
  CHECK(tables["public.b"].received == 1);
  CHECK(tables["public.b"].filtered == 1);
  CHECK(tables["public.k"].applied() == 2);
  // A batch that is repeated change by change folds nothing.
  stage.target("DELETE FROM a WHERE id = 3");
  stage.source("BEGIN; UPDATE a SET v = 0; UPDATE a SET v = 1; TRUNCATE b; COMMIT");
  REQUIRE(stage.sync() == WaitResult::reached);
  tables = stage.applier->tables();
  CHECK(tables["public.a"].received == 22 + 18);
  CHECK(tables["public.a"].conflicts == 2);
  CHECK(tables["public.a"].folded == 13);
  CHECK(tables["public.b"].applied() == 1);
  const auto total = apply::sum(tables);
  const auto stats = stage.applier->stats();
  CHECK(stats.changes == total.received);
  CHECK(stats.applied == total.applied());
  CHECK(stats.compacted == total.folded);
}

TEST_CASE("a batch that lost a change between the stream and the target is not committed") {
  Stage stage("unbalanced");
  stage.both("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int)");
  stage.publish();
  stage.source(
      "BEGIN; INSERT INTO a VALUES (1, 1), (2, 2); INSERT INTO b SELECT g, g FROM generate_series(1, 300) g; "
      "COMMIT");
  for (const bool large : {false, true}) {
    INFO("COMMIT has a round trip of its own: " << large);
    auto connection = target_server().connect("unbalanced");
    apply::TargetTables tables;
    apply::Collector collector({}, false, [&](const auto& relation) -> const apply::TargetTable& {
      return tables.get(relation,
                        [&](const auto& wanted) { return apply::load_target_table(connection, wanted); });
    });
    const auto start = apply::read_progress(connection, "forward")->applied_lsn;
    apply::Batch batch;
    apply::Tally tally;
    stage.pump(false);
    auto chunk = stage.queue.pop(soon()).value();
    batch.retain(chunk);
    for (std::size_t i = 0; i < chunk->messages(); ++i) {
      collector.take(replication::pgoutput::decode(chunk->message(i)), start, batch, tally);
    }
    REQUIRE(batch.changes.size() == 302);
    if (large) {
      batch.changes.erase(batch.changes.begin());  // of a
    } else {
      batch.changes.resize(10);  // of b
    }
    const auto end = batch.transactions.back().end_lsn;
    apply::Writer writer("forward", 1, false);
    writer.attach(connection);
    std::string refused;
    try {
      writer.write(batch, start, end, 1, 1, [&](const apply::WriteCounts& counts) {
        auto ledger = tally.ledger();
        apply::add(ledger, counts.tables);
        apply::check_ledger(ledger, end);
      });
    } catch (const base::Bug& bug) {
      refused = bug.message();
    }
    CHECK(refused.find(large ? "public.a" : "public.b") != std::string::npos);
    CHECK(refused.find(large ? "2 received" : "300 received") != std::string::npos);
    CHECK(refused.find(large ? "1 rows sent" : "8 rows sent") != std::string::npos);
    writer.rollback();
    CHECK(stage.target_value("SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)") == "0");
    CHECK(base::Lsn::parse(stage.target_value("SELECT applied_lsn FROM pgcutover.progress")) == start);
  }
}
