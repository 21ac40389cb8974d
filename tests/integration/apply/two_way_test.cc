// Both servers take writes, each on its own rows, and stream to each other: nothing runs in circles, and each
// side knows how far the other one had come.
#include <doctest/doctest.h>
#include <optional>
#include <random>

#include "tests/harness/wait.h"
#include "tests/integration/apply/stage.h"

namespace {

using namespace apply_stage;

constexpr const char* kDatabase = "both_ways";

// One direction: what `from` committed is applied on `to`.
class Way {
 public:
  Way(const std::string& direction, harness::Cluster& from, harness::Cluster& to, bool binary, bool two_way)
      : direction_(direction), from_(from), to_(to), binary_(binary), two_way_(two_way) {
    const auto slot = from.value(
        kDatabase, "SELECT lsn FROM pg_create_logical_replication_slot('" + slot_name() + "', 'pgoutput')");
    auto connection = to.connect(kDatabase);
    apply::init_progress(connection, direction, base::Lsn::parse(slot.value()), 1, true);
  }
  ~Way() {
    applier_.reset();
    from_.sql(kDatabase, "SELECT pg_drop_replication_slot('" + slot_name() + "')");
  }
  Way(const Way&) = delete;
  Way& operator=(const Way&) = delete;

  void start() {
    apply::ApplierOptions options;
    options.server = replication::postgres::ConnInfo::parse(to_.conninfo(kDatabase), "here");
    options.direction = direction_;
    options.token = replication::postgres::FencingToken(1);
    options.two_way = two_way_;
    options.batch_changes_max = 50;  // large transactions in several parts
    applier_.emplace(std::move(options), queue_);
    applier_->start();
  }
  // Everything that is committed by now; returns the changes of rows that were applied for it.
  std::int64_t sync() {
    const auto before = applier_->stats().changes;
    const std::string token = "m" + std::to_string(++markers_);
    from_.sql(kDatabase, "UPDATE pgcutover.marker SET token = '" + token + "' WHERE id = 1");
    auto connection = from_.connect(kDatabase);
    const auto changes =
        connection.exec("SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('" + slot_name() +
                        "', NULL, NULL, 'proto_version', '1', 'publication_names', 'p'" +
                        (binary_ ? ", 'binary', 'true'" : "") + ")");
    auto chunk = std::make_shared<stream::Chunk>();
    for (int row = 0; row < changes.rows(); ++row) {
      chunk->append(bytes(changes.view(row, 0)));
    }
    chunk->drained = true;
    REQUIRE(queue_.push(std::move(chunk), 1, soon()));
    const auto result = applier_->wait_marker(token, soon());
    if (result == apply::WaitResult::failed) {
      std::rethrow_exception(applier_->failure());
    }
    REQUIRE(result == apply::WaitResult::reached);
    return applier_->stats().changes - before;
  }
  apply::ApplyStats stats() const { return applier_->stats(); }

 private:
  std::string slot_name() const { return "way_" + direction_; }
  const std::string direction_;
  harness::Cluster& from_;
  harness::Cluster& to_;
  const bool binary_, two_way_;
  stream::ChunkQueue queue_{10'000, std::size_t{1} << 30};
  std::optional<apply::Applier> applier_;
  int markers_ = 0;
};

void prepare(harness::Cluster& server) {
  server.sql("postgres", std::string("DROP DATABASE IF EXISTS ") + kDatabase);
  server.sql("postgres", std::string("CREATE DATABASE ") + kDatabase);
  server.sql(kDatabase, apply::progress_schema_sql());
  server.sql(kDatabase,
             "CREATE TABLE pgcutover.marker (id int PRIMARY KEY, token text, written_us bigint);"
             "INSERT INTO pgcutover.marker VALUES (1, '', 0);"
             "CREATE TABLE t (id int PRIMARY KEY, side text, n int NOT NULL DEFAULT 0);"
             "CREATE TABLE log (what text);"
             "CREATE PUBLICATION p FOR TABLE t, log, pgcutover.marker, pgcutover.progress");
}

std::string content(harness::Cluster& server) {
  return server
      .value(kDatabase,
             "SELECT (SELECT count(*) || ' ' || md5(string_agg(t::text, '|' ORDER BY id)) FROM t) || ' ' || "
             "(SELECT count(*) || ' ' || md5(string_agg(what, '|' ORDER BY what)) FROM log)")
      .value();
}

}  // namespace

TEST_CASE("two sides that write their own rows stream to each other, and nothing runs in circles") {
  for (const bool binary : {false, true}) {
    if (binary && (source_server().major() < 14 || target_server().major() < 14)) {
      continue;
    }
    CAPTURE(binary);
    prepare(source_server());
    prepare(target_server());
    Way forward("forward", source_server(), target_server(), binary, true);
    Way reverse("reverse", target_server(), source_server(), binary, true);
    forward.start();
    reverse.start();
    std::mt19937 random(7);
    std::int64_t written_here = 0, written_there = 0;
    for (int round = 0; round < 6; ++round) {
      // The last round's transaction is larger than a batch.
      const int rows = round == 5 ? 400 : 10 + static_cast<int>(random() % 20);
      const auto write = [&](harness::Cluster& server, const std::string& side, int first) {
        const auto begin = std::to_string(first + round * 1'000);
        server.sql(kDatabase, "INSERT INTO t SELECT i, '" + side + "' FROM generate_series(" + begin + ", " +
                                  begin + " + " + std::to_string(rows - 1) + ") i");
        server.sql(kDatabase, "UPDATE t SET n = n + 1 WHERE side = '" + side + "'");
        server.sql(kDatabase, "DELETE FROM t WHERE side = '" + side + "' AND id % 7 = 0");
        server.sql(kDatabase, "INSERT INTO log SELECT '" + side + " ' || count(*) FROM t");
      };
      write(source_server(), "source", 0);
      write(target_server(), "target", 100'000);
      written_here += forward.sync();
      written_there += reverse.sync();
    }
    REQUIRE(forward.sync() == 0);
    REQUIRE(reverse.sync() == 0);
    CHECK(content(source_server()) == content(target_server()));
    CHECK(written_here > 500);
    CHECK(written_there > 500);
    CHECK(forward.stats().conflicts + reverse.stats().conflicts == 0);
    // Each side's transactions came back to it once and were left out.
    CHECK(reverse.stats().echoes >= 6);
    CHECK(forward.stats().echoes >= 6);
    // What the target had of the source when it made its last transaction, in the source's own positions.
    source_server().sql(kDatabase, "INSERT INTO log VALUES ('last')");
    const auto before =
        base::Lsn::parse(source_server().value(kDatabase, "SELECT pg_current_wal_lsn()").value());
    CHECK(reverse.stats().seen_lsn < before);
    CHECK(forward.sync() == 1);
    CHECK(reverse.sync() == 0);
    CHECK(reverse.stats().seen_lsn >= before);
  }
}

TEST_CASE("without the tag the stream refuses the progress table, and never replays an echo") {
  prepare(source_server());
  prepare(target_server());
  Way forward("forward", source_server(), target_server(), false, false);
  forward.start();
  source_server().sql(kDatabase, "INSERT INTO t VALUES (1, 'source')");
  source_server().sql(kDatabase, "INSERT INTO pgcutover.progress VALUES ('reverse', 1, '0/1')");
  CHECK_THROWS_WITH_AS(forward.sync(), doctest::Contains("pgcutover.progress is in the publication"),
                       base::Error);
}

TEST_CASE("somebody else who writes the progress table in the middle of a transaction is refused") {
  prepare(source_server());
  prepare(target_server());
  Way forward("forward", source_server(), target_server(), false, true);
  forward.start();
  source_server().sql(kDatabase,
                      "BEGIN; INSERT INTO t VALUES (1, 'source');"
                      "INSERT INTO pgcutover.progress VALUES ('reverse', 1, '0/1'); COMMIT");
  CHECK_THROWS_WITH_AS(forward.sync(), doctest::Contains("is changed within transaction"), base::Error);
}
