// What the progress of a copy says on its way, for tables whose bytes on the wire are far from their size.
#include <algorithm>
#include <doctest/doctest.h>
#include <map>

#include "replication/snapshot/pace.h"
#include "replication/snapshot/row_estimate.h"
#include "tests/integration/snapshot/pair.h"

using namespace snapshot_test;

namespace {

struct Seen {
  int looks = 0;
  double worst = 0;  // the largest distance between the share that was told and that of the rows
};

std::int64_t count(const Pair& pair, const std::string& table) {
  return std::stoll(*pair.source.value("shop", "SELECT count(*) FROM ONLY " + table));
}

}  // namespace

TEST_CASE("the progress of a table goes with its rows, whatever their bytes on the wire are") {
  const Pair pair;
  // On the wire 20 times the table's size; a third of it; as much as it.
  pair.source.sql("shop", R"(
    CREATE TABLE app.documents (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = false);
    INSERT INTO app.documents SELECT i, repeat(string_agg(md5((i * 1000 + j)::text), ''), 30)
      FROM generate_series(1, 40) i, generate_series(1, 100) j GROUP BY i;
    CREATE TABLE app.parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM (0) TO (200001)
      WITH (autovacuum_enabled = false);
    CREATE TABLE app.parted_2 PARTITION OF app.parted DEFAULT WITH (autovacuum_enabled = false);
    INSERT INTO app.parted SELECT i FROM generate_series(1, 350000) i;
    CREATE TABLE app.split (id int, pad text, v text) WITH (autovacuum_enabled = false);
    ALTER TABLE app.split ALTER v SET STORAGE EXTERNAL, ALTER pad SET STORAGE PLAIN;
    INSERT INTO app.split SELECT i, repeat('x', 3000), repeat('y', 20000) FROM generate_series(1, 200) i;
  )");
  SUBCASE("never analyzed") {}
  SUBCASE("analyzed, and doubled since") {
    pair.source.sql("shop", "ANALYZE");
    pair.source.sql("shop",
                    "INSERT INTO app.documents SELECT id + 40, v FROM app.documents;"
                    "INSERT INTO app.parted SELECT i FROM generate_series(350001, 450000) i");
  }
  pair.restore_schema();
  auto options = pair.copy_options();
  options.jobs = 3;
  options.split_above_bytes = std::int64_t{4} << 20;
  snapshot::Pace pace(2'500'000);  // else it is over before anybody looks
  options.pace = &pace;
  const auto catalog = pair.catalog();
  REQUIRE(catalog.find("app", "split")->bytes > options.split_above_bytes);
  std::map<std::string, std::int64_t> rows;
  for (const char* table : {"app.documents", "app.parted_1", "app.parted_2", "app.split"}) {
    rows[table] = count(pair, table);
  }
  std::map<std::string, Seen> seen;
  snapshot::CopyProgress last;
  int parts = 0;
  options.progress = [&](const snapshot::CopyProgress& progress) {
    CHECK(progress.bytes_done >= last.bytes_done);
    last = progress;
    for (const auto& table : progress.running) {
      auto& one = seen[table.table];
      const auto told = static_cast<double>(table.bytes_done) / static_cast<double>(table.bytes_total);
      const auto real = static_cast<double>(table.rows) / static_cast<double>(rows[table.table]);
      ++one.looks;
      one.worst = std::max(one.worst, std::abs(told - real));
    }
    parts =
        std::max(parts, std::stoi(*pair.target.value("shop", "SELECT count(*) FROM pgcutover.table_part")));
  };
  std::vector<const catalog::Table*> tables;
  for (const auto& [table, count] : rows) {
    tables.push_back(catalog.find("app", table.substr(4)));
  }
  auto source = pair.source.connect("shop");
  for (const auto& [table, estimate] : snapshot::estimate_rows(source, tables)) {
    INFO(table->display());
    CHECK(estimate == doctest::Approx(static_cast<double>(rows[table->display()])).epsilon(0.1));
  }
  copy_tables(options, catalog.tables, pair.stop);
  for (const auto& [table, count] : rows) {
    INFO(table);
    const auto& one = seen[table];
    MESSAGE(table << ": " << one.looks << " looks, at most " << one.worst << " off");
    CHECK(one.looks > 0);
    CHECK(one.worst < 0.1);
  }
  if (pair.source.major() >= 14) {  // before, tables are copied whole
    CHECK(parts > 2);
  }
  CHECK(last.bytes_done == last.bytes_total);
}
