#include "replication/apply/collector.h"

#include <doctest/doctest.h>

#include "tests/unit/apply/fixtures.h"

using namespace replication::apply;
namespace pgoutput = replication::pgoutput;

TEST_CASE("what a wide row of NULLs takes in memory counts, not what it took on the wire") {
  constexpr std::uint16_t kColumns = 1'000;
  std::vector<std::string> names;
  pgoutput::Relation relation;
  relation.relation = 16400;
  relation.schema = "s";
  relation.name = "t";
  for (std::uint16_t i = 0; i < kColumns; ++i) {
    names.push_back("c" + std::to_string(i));
  }
  for (const auto& name : names) {
    relation.columns.push_back({name == "c0", name, 25, -1});
  }
  const auto table = apply_fixtures::table(names, 1);
  Collector collector({}, false,
                      [&](const pgoutput::CachedRelation&) -> const TargetTable& { return table; });
  Batch batch;
  Tally tally;
  const std::string nulls(kColumns, 'n');
  const pgoutput::Tuple row(kColumns, nulls);
  collector.take(pgoutput::Begin{{100}, 0, 7}, {1}, batch, tally);
  collector.take(relation, {1}, batch, tally);
  collector.take(pgoutput::Insert{16400, row}, {1}, batch, tally);
  const auto one_image = nulls.size() + kColumns * sizeof(pgoutput::ColumnValue);
  CHECK(batch.bytes >= one_image);
  CHECK(batch.bytes < 2 * one_image);
  // An update with its old row has two images.
  batch.bytes = 0;
  collector.take(pgoutput::Update{16400, pgoutput::OldRow::full, row, row}, {1}, batch, tally);
  CHECK(batch.bytes >= 2 * one_image);
  CHECK(tally.ledger().at("s.t").received == 2);
}
