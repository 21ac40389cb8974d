#include "replication/snapshot/copy_plan.h"

#include <algorithm>

#include "replication/snapshot/split_table.h"

namespace replication::snapshot {
namespace {

using catalog::Table;

// A table that is copied whole is written frozen (COPY FREEZE), one in parts has to be vacuumed afterwards.
// So whole tables are the rule; a small number of jobs never pays for the second pass.
constexpr std::int64_t kSplitAutoMin = std::int64_t{1} << 30;
constexpr int kSplitAutoJobsMin = 3;
constexpr std::int64_t kPartMin = std::int64_t{1} << 20, kPartMax = std::int64_t{4} << 30;
constexpr int kPartsPerJob = 8;  // the last part to end shall be a small share

// Small tables: what a transaction costs is more than their rows.
constexpr std::int64_t kSmallTable = std::int64_t{256} << 10;
constexpr std::size_t kBatchTables = 50;  // locks, on both servers
constexpr std::int64_t kBatchBytes = std::int64_t{4} << 20;

std::int64_t total_bytes(const CopyPlan::Tables& tables) {
  std::int64_t total = 0;
  for (const auto* table : tables) {
    total += table->bytes;
  }
  return total;
}

bool worth_splitting(const Table& table, std::int64_t total, int jobs, std::int64_t split_above_bytes) {
  if (jobs < 2 || split_above_bytes < 0) {
    return false;
  }
  if (split_above_bytes > 0) {
    return table.bytes > split_above_bytes;
  }
  return jobs >= kSplitAutoJobsMin && table.bytes > kSplitAutoMin && table.bytes > total / jobs;
}

}  // namespace

CopyPlan plan_copy(CopyPlan::Tables tables, int jobs, std::int64_t split_above_bytes, int source_major) {
  std::stable_sort(tables.begin(), tables.end(),
                   [](const Table* a, const Table* b) { return a->bytes > b->bytes; });
  CopyPlan plan;
  const auto total = total_bytes(tables);
  std::int64_t batch_bytes = 0;
  bool open = false;
  // With few tables every worker should get some: a batch is at most a worker's share.
  const auto share =
      std::max<std::size_t>(1, tables.size() / static_cast<std::size_t>(std::max(jobs, 1)) / 2);
  for (const auto* table : tables) {
    if (can_be_split(*table, source_major) && worth_splitting(*table, total, jobs, split_above_bytes)) {
      plan.split.push_back(table);
    } else if (table->bytes > kSmallTable) {
      plan.items.push_back({table});
    } else {
      if (!open || plan.items.back().size() >= std::min(kBatchTables, share) ||
          batch_bytes + table->bytes > kBatchBytes) {
        plan.items.emplace_back();
        batch_bytes = 0;
        open = true;
      }
      plan.items.back().push_back(table);
      batch_bytes += table->bytes;
    }
  }
  const auto largest = plan.split.empty() ? 0 : plan.split.front()->bytes;
  plan.part_bytes = std::clamp(largest / (std::max(jobs, 1) * kPartsPerJob), kPartMin, kPartMax);
  return plan;
}

}  // namespace replication::snapshot
