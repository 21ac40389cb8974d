// Tables copied in parts.
#include <algorithm>
#include <atomic>
#include <doctest/doctest.h>
#include <thread>

#include "replication/base/error.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/pace.h"
#include "tests/harness/wait.h"
#include "tests/integration/snapshot/pair.h"

namespace {

using namespace snapshot_test;

constexpr int kRows = 60'000;
constexpr std::int64_t kSplit = std::int64_t{1} << 20;

// About 9 MB in 1 MB parts.
void make_big(const Pair& pair) {
  pair.source.sql(
      "shop",
      "CREATE TABLE app.big (id int PRIMARY KEY, v text, n int) WITH (fillfactor = 70);"
      "INSERT INTO app.big SELECT i, md5(i::text) || repeat('x', 60), 0 FROM generate_series(1, " +
          std::to_string(kRows) +
          ") i; CREATE TABLE app.small (i int); INSERT INTO app.small VALUES (1);"
          "ANALYZE app.big");
}

// Slow enough that a test can act in the middle.
constexpr std::int64_t kSlow = 4'000'000;

snapshot::CopyOptions split_options(const Pair& pair) {
  auto options = pair.copy_options();
  options.split_above_bytes = kSplit;
  options.jobs = 3;
  return options;
}

std::int64_t parts_begun(const Pair& pair) {
  return std::stoll(*pair.target.value("shop", "SELECT count(*) FROM pgcutover.table_part"));
}

TEST_CASE("a table copied in parts is the same, under the exported snapshot, and only once") {
  Pair pair;
  make_big(pair);
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  auto options = split_options(pair);
  options.exported_snapshot = held.name;
  snapshot::Pace pace(kSlow);
  options.pace = &pace;  // else it is over before anybody looks
  snapshot::CopyProgress last;
  options.progress = [&](const snapshot::CopyProgress& progress) {
    CHECK(progress.bytes_done >= last.bytes_done);
    last = progress;
  };
  std::atomic<int> told{0};
  options.table_in = [&](const catalog::Table&) { ++told; };
  const auto catalog = pair.catalog();
  const auto before = Pair::content(pair.source, "app.big");
  pair.source.sql("shop", "UPDATE app.big SET n = 1 WHERE id % 3 = 0; DELETE FROM app.big WHERE id % 7 = 0");
  copy_tables(options, catalog.tables, pair.stop);
  if (pair.source.major() >= 14) {
    harness::wait_until(harness::Deadline::in(harness::milliseconds(180'000)),
                        "the target has counted more than one part", [&] {
                          return pair.target.value(
                                     "shop",
                                     "SELECT n_tup_ins > 1 FROM pg_stat_all_tables WHERE relid = "
                                     "'pgcutover.table_part'::regclass") == "t";
                        });
  } else {
    CHECK(parts_begun(pair) == 0);  // no TID range scan: whole
  }
  CHECK(told == 2);
  CHECK(last.bytes_done == last.bytes_total);
  CHECK(Pair::content(pair.target, "app.big") == before);
  auto target = pair.target.connect("shop");
  CHECK(snapshot::pending_snapshots(target).empty());
  CHECK(snapshot::copy_state(target).rows == kRows + 1);
  CHECK(parts_begun(pair) == 0);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pgcutover.table_generation") == "0");

  pair.target.sql("shop", "DELETE FROM app.big WHERE id < 100");
  options.progress = nullptr;
  copy_tables(options, catalog.tables, pair.stop);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.big WHERE id < 100") == "0");
}

// Every update goes to another page, often to another range; the copy has to be one moment's image anyhow:
// the sum over all rows is the same in each transaction.
TEST_CASE("parts of a table whose rows move between them come from one moment") {
  Pair pair;
  make_big(pair);
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  for (const bool exported : {true, false}) {
    INFO("under the exported snapshot: " << exported);
    pair.target.sql("shop", "TRUNCATE pgcutover.table_copy");
    auto options = split_options(pair);
    if (exported) {
      options.exported_snapshot = held.name;
    }
    std::atomic<std::int64_t> moves{0};
    std::jthread mover([&](const std::stop_token& stop) {
      auto session = pair.source.connect("shop");
      while (!stop.stop_requested()) {
        session.exec(
            "WITH chosen AS (SELECT id, CASE WHEN row_number() OVER () % 2 = 0 THEN 1 ELSE -1 END AS way "
            "FROM "
            "(SELECT id FROM app.big ORDER BY random() LIMIT 500) r) "
            "UPDATE app.big b SET n = n + way FROM chosen WHERE chosen.id = b.id");
        ++moves;
      }
    });
    harness::wait_until(base::Deadline::in(base::milliseconds(180'000)), "rows move",
                        [&] { return moves > 3; });
    copy_tables(options, pair.catalog().tables, pair.stop);
    mover.request_stop();
    mover.join();
    CHECK(pair.target.value("shop",
                            "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || sum(n) FROM app.big") ==
          std::to_string(kRows) + " " + std::to_string(kRows) + " 0");
    auto target = pair.target.connect("shop");
    CHECK(snapshot::pending_snapshots(target).size() == (exported ? 0U : 2U));
  }
}

TEST_CASE("a rewrite can't come between two parts: it waits for the copy, or the table is read anew") {
  Pair pair;
  make_big(pair);
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  auto options = split_options(pair);
  options.exported_snapshot = held.name;
  snapshot::Pace pace(kSlow);
  options.pace = &pace;
  pair.source.sql("shop", "DELETE FROM app.big WHERE id % 2 = 0");
  std::jthread rewriter;
  std::atomic<bool> began{false};
  options.progress = [&](const snapshot::CopyProgress& progress) {
    if (progress.bytes_done > progress.bytes_total / 4 && !began.exchange(true)) {
      rewriter = std::jthread([&] { pair.source.sql("shop", "VACUUM FULL app.big"); });
      harness::wait_until(
          base::Deadline::in(base::milliseconds(180'000)), "VACUUM FULL waits for the copy's lock", [&] {
            return pair.source.value(
                       "shop",
                       "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT "
                       "granted") != "0";
          });
    }
  };
  copy_tables(options, pair.catalog().tables, pair.stop);
  CHECK(began);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.big") == std::to_string(kRows));

  // And one before the copy, behind the exported snapshot.
  rewriter.join();
  pair.target.sql("shop", "TRUNCATE pgcutover.table_copy");
  options.progress = nullptr;
  copy_tables(options, pair.catalog().tables, pair.stop);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.big") == std::to_string(kRows / 2));
  auto target = pair.target.connect("shop");
  REQUIRE(snapshot::pending_snapshots(target).size() == 1);
  CHECK(snapshot::pending_snapshots(target)[0].name == "big");
}

TEST_CASE("lost connections in the middle of the parts are tried again, and no row is doubled") {
  Pair pair;
  make_big(pair);
  pair.restore_schema();
  const HeldSnapshot held(pair.source);
  auto options = split_options(pair);
  snapshot::Pace pace(3'000'000);
  options.pace = &pace;  // else it is over too soon
  options.exported_snapshot = held.name;
  int kills = 0;
  std::int64_t at = 0;
  options.progress = [&](const snapshot::CopyProgress& progress) {
    if (kills < 4 && progress.bytes_done > at) {
      at = progress.bytes_done + progress.bytes_total / 8;
      auto& cluster = ++kills % 2 == 1 ? pair.source : pair.target;
      // The last time everybody, the owner of the snapshot included.
      cluster.sql("shop", std::string("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                                      "application_name = 'pgcutover copy'") +
                              (kills < 3 ? " AND state = 'active' LIMIT 1" : ""));
    }
  };
  copy_tables(options, pair.catalog().tables, pair.stop);
  CHECK(kills == 4);
  pair.check_same("app.big", kRows);
  pair.check_same("app.small", 1);
}

TEST_CASE("what a copy left half done is emptied by the next one, and its late parts change nothing") {
  Pair pair;
  if (pair.source.major() < 14) {
    return;  // no parts there
  }
  make_big(pair);
  pair.restore_schema();
  auto options = split_options(pair);
  snapshot::Pace pace(kSlow);
  options.pace = &pace;
  options.progress = [&](const snapshot::CopyProgress& progress) {
    if (progress.bytes_done > progress.bytes_total / 2) {
      throw base::Error("enough");
    }
  };
  CHECK_THROWS_AS(copy_tables(options, pair.catalog().tables, pair.stop), base::Error);
  auto target = pair.target.connect("shop");
  CHECK(snapshot::copy_state(target).done == 0);
  const auto stale = pair.target.value("shop", "SELECT generation FROM pgcutover.table_generation").value();

  // A part of the first copy that is still under way on the server.
  auto late = pair.target.connect("shop");
  late.exec("BEGIN");
  late.exec("INSERT INTO pgcutover.table_part VALUES ('app', 'big', $1, 1000)", postgres::Params{stale});
  options.progress = nullptr;
  copy_tables(options, pair.catalog().tables, pair.stop);
  CHECK(late.exec("SELECT FROM pgcutover.table_generation WHERE generation = $1 FOR SHARE",
                  postgres::Params{stale})
            .rows() == 0);
  late.exec("ROLLBACK");
  pair.check_same("app.big", kRows);
}

TEST_CASE("a controller that lost its token commits no part") {
  Pair pair;
  make_big(pair);
  pair.restore_schema();
  auto options = split_options(pair);
  snapshot::Pace pace(kSlow);
  options.pace = &pace;
  bool taken = false;
  options.progress = [&](const snapshot::CopyProgress&) {
    if (!taken) {
      taken = true;
      pair.target.sql("shop", "UPDATE pgcutover.controller SET epoch = epoch + 1");
    }
  };
  options.token = postgres::FencingToken(
      std::stoll(pair.target.value("shop", "SELECT epoch FROM pgcutover.controller").value_or("0")));
  CHECK_THROWS_AS(copy_tables(options, pair.catalog().tables, pair.stop), base::StateError);
  CHECK(taken);
  auto target = pair.target.connect("shop");
  CHECK(snapshot::copy_state(target).done == 0);
  CHECK(pair.target.value("shop", "SELECT count(rows) FROM pgcutover.table_part") == "0");
}

TEST_CASE("a rate holds the copy back, and can be changed while it runs") {
  Pair pair;
  make_big(pair);
  pair.restore_schema();
  auto options = split_options(pair);
  snapshot::Pace pace(1);
  options.pace = &pace;
  std::atomic<bool> done{false};
  std::jthread copier([&] {
    copy_tables(options, pair.catalog().tables, pair.stop);
    done = true;
  });
  harness::wait_until(base::Deadline::in(base::milliseconds(180'000)), "parts have begun", [&] {
    return pair.source.value("shop", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%'") != "0";
  });
  CHECK_FALSE(done);
  pace.set_rate(0);
  copier.join();
  CHECK(done);
  pair.check_same("app.big", kRows);
}

}  // namespace
