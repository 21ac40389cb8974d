#include "replication/snapshot/copy_plan.h"

#include <algorithm>
#include <doctest/doctest.h>

using replication::catalog::Table;
using replication::snapshot::CopyPlan;
using replication::snapshot::plan_copy;

namespace {

constexpr std::int64_t kGigabyte = std::int64_t{1} << 30;

std::vector<Table> tables_of(const std::vector<std::int64_t>& sizes) {
  std::vector<Table> tables;
  for (const auto bytes : sizes) {
    Table table;
    table.name = "t" + std::to_string(tables.size());
    table.bytes = bytes;
    table.columns.emplace_back();
    tables.push_back(std::move(table));
  }
  return tables;
}

CopyPlan::Tables pointers(const std::vector<Table>& tables) {
  CopyPlan::Tables all;
  for (const auto& table : tables) {
    all.push_back(&table);
  }
  return all;
}

}  // namespace

TEST_CASE("two jobs copy tables whole, more split the one that would be the last") {
  const auto tables = tables_of({kGigabyte, 20 * kGigabyte, 2 * kGigabyte});
  CHECK(plan_copy(pointers(tables), 2, 0, 15).split.empty());
  const auto plan = plan_copy(pointers(tables), 4, 0, 15);
  REQUIRE(plan.split.size() == 1);
  CHECK(plan.split[0]->name == "t1");
  CHECK(plan.part_bytes * 4 * 8 == 20 * kGigabyte);
  REQUIRE(plan.items.size() == 2);
  CHECK(plan.items[0][0]->name == "t2");
  CHECK(plan_copy(pointers(tables), 4, 0, 13).split.empty());
  CHECK(plan_copy(pointers(tables), 4, -1, 15).split.empty());
  CHECK(plan_copy(pointers(tables), 2, kGigabyte, 15).split.size() == 2);
  CHECK(plan_copy(pointers(tables), 1, kGigabyte, 15).split.empty());
}

TEST_CASE("small tables share transactions, never too many, and every worker gets some") {
  const auto tables = tables_of(std::vector<std::int64_t>(1001, 8192));
  const auto plan = plan_copy(pointers(tables), 2, 0, 15);
  std::size_t count = 0;
  for (const auto& item : plan.items) {
    CHECK(item.size() <= 50);
    count += item.size();
  }
  CHECK(count == tables.size());
  CHECK(plan.items.size() < 30);
  const auto few = tables_of(std::vector<std::int64_t>(8, 0));
  CHECK(plan_copy(pointers(few), 4, 0, 15).items.size() >= 4);
}
