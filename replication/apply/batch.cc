#include "replication/apply/batch.h"

#include <algorithm>
#include <cstring>

namespace replication::apply {

std::span<pgoutput::ColumnValue> ColumnArena::store(Row row) {
  using Value = pgoutput::ColumnValue;
  if (row.empty()) {
    return {};
  }
  auto* place = static_cast<Value*>(memory_.allocate(row.size_bytes(), alignof(Value)));
  std::uninitialized_copy(row.begin(), row.end(), place);
  return {place, row.size()};
}

std::string_view ColumnArena::store(std::string_view bytes) {
  if (bytes.empty()) {
    return {};
  }
  auto* place = static_cast<char*>(memory_.allocate(bytes.size(), 1));
  std::memcpy(place, bytes.data(), bytes.size());
  return {place, bytes.size()};
}

void ColumnArena::clear() {
  memory_.release();
}

void Batch::retain(const std::shared_ptr<const stream::Chunk>& chunk) {
  if (chunks_.empty() || chunks_.back() != chunk) {
    chunks_.push_back(chunk);
  }
}

void Batch::replace_tables(const std::function<const TargetTable*(const TargetTable*)>& replace) {
  for (auto& change : changes) {
    if (change.table != nullptr) {
      change.table = replace(change.table);
    }
  }
  for (auto& truncate : truncates) {
    for (auto& table : truncate.tables) {
      table = replace(table);
    }
  }
}

void Batch::clear() {
  changes.clear();
  transactions.clear();
  truncates.clear();
  arena.clear();
  chunks_.clear();
  bytes = 0;
}

}  // namespace replication::apply
