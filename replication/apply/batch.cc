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

void Batch::move_last_transaction(Batch& rest) {
  rest.transactions = {transactions.back()};
  transactions.pop_back();
  const auto first = std::partition_point(changes.begin(), changes.end(), [&](const Change& change) {
    return change.transaction < transactions.size();
  });
  const auto moved = [&rest](Row row) {
    rest.bytes += row.size_bytes();
    for (const auto& value : row) {
      rest.bytes += value.bytes.size();
    }
    return rest.arena.store(row);
  };
  for (auto change = first; change != changes.end(); ++change) {
    auto copy = *change;
    copy.transaction = 0;
    if (change->kind == Change::Kind::truncate) {
      copy.truncate = static_cast<std::uint32_t>(rest.truncates.size());
      rest.truncates.push_back(std::move(truncates[change->truncate]));
    } else {
      copy.new_row = moved(change->new_row);
      copy.old_row = change->old_row.data() == change->new_row.data() ? copy.new_row : moved(change->old_row);
    }
    rest.changes.push_back(copy);
  }
  truncates.resize(truncates.size() - rest.truncates.size());
  changes.erase(first, changes.end());
  bytes -= std::min(bytes, rest.bytes);
  rest.chunks_ = chunks_;
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
