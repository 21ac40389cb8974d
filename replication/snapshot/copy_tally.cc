#include "replication/snapshot/copy_tally.h"

#include <algorithm>
#include <chrono>

namespace replication::snapshot {
namespace {

using catalog::Table;

constexpr base::milliseconds kTellEvery{100};

}  // namespace

CopyTally::CopyTally(const std::function<void(const CopyProgress&)>& tell, const std::vector<Table>& tables)
    : tell_(tell) {
  for (const auto& table : tables) {
    if (table.stores_rows()) {
      ++progress_.tables_total;
      progress_.bytes_total += table.bytes;
    }
  }
}

void CopyTally::done_before(const Table& table, std::int64_t rows) {
  const std::lock_guard lock(mutex_);
  ++progress_.tables_before;
  progress_.bytes_before += table.bytes;
  progress_.rows_before += rows;
  ++progress_.tables_done;
  progress_.rows_done += rows;
  finished_bytes_ += table.bytes;
  publish(false);
}

void CopyTally::finished(const Table& table, std::int64_t rows) {
  const std::lock_guard lock(mutex_);
  running_.erase(&table);
  ++progress_.tables_done;
  progress_.rows_done += rows;
  finished_bytes_ += table.bytes;
  publish(true);
}

void CopyTally::moved(const Table& table, std::int64_t rows, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  auto& so_far = running_[&table];
  if (so_far.rows == 0 && so_far.bytes == 0) {
    began_[&table] = base::Clock::now();
  }
  so_far.rows += rows;
  so_far.bytes += bytes;
  publish(false);
}

void CopyTally::again(const Table& table) {
  const std::lock_guard lock(mutex_);
  running_.erase(&table);
}

// In the plan's unit, by rows: what goes over the wire is a third of the table, or many times as much.
std::int64_t CopyTally::done_of(const Table& table, const CopiedTable& copied) const {
  if (const auto rows = expected_.find(&table); rows != expected_.end()) {
    const double share = static_cast<double>(copied.rows) / rows->second;
    return static_cast<std::int64_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(table.bytes));
  }
  return std::clamp<std::int64_t>(copied.bytes, 0, table.bytes);
}

void CopyTally::publish(bool always) {
  const auto now = base::Clock::now();
  if (!tell_ || (!always && now - told_ < kTellEvery)) {
    return;
  }
  told_ = now;
  progress_.bytes_done = finished_bytes_;
  progress_.running.clear();
  for (const auto& [table, copied] : running_) {
    const auto done = done_of(*table, copied);
    progress_.bytes_done += done;
    const std::chrono::duration<double> since = now - began_[table];
    progress_.running.push_back({table->display(), done, table->bytes, copied.rows, since.count()});
  }
  std::ranges::sort(progress_.running, std::ranges::greater{}, &TableProgress::bytes_total);
  tell_(progress_);
}

}  // namespace replication::snapshot
