#include "replication/apply/compaction.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;

// What the batch has done to the row of one key so far.
struct KeyState {
  enum class Now : std::uint8_t { untouched, inserted, updated, gone };
  std::string_view key;
  std::size_t hash = 0;
  Now now = Now::untouched;
  bool delete_first = false;  // the row that was there before the batch goes
  bool by_move = false;       // delete_first: because its key became another one
  Row old_row;                // of delete_first
  Row image;                  // of inserted, updated
};

// A flat hash table: one for each table and segment, on the batch's hot path.
class KeyMap {
 public:
  KeyState& find_or_add(std::string_view key, bool copy_key, ColumnArena& arena) {
    if ((states_.size() + 1) * 2 > slots_.size()) {
      grow();
    }
    const std::size_t hash = std::hash<std::string_view>{}(key);
    for (std::size_t slot = hash & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
      if (slots_[slot] == 0) {
        auto& state = states_.emplace_back();
        state.key = copy_key ? arena.store(key) : key;
        state.hash = hash;
        slots_[slot] = static_cast<std::uint32_t>(states_.size());
        return state;
      }
      if (auto& state = states_[slots_[slot] - 1]; state.hash == hash && state.key == key) {
        return state;
      }
    }
  }
  std::vector<KeyState>& states() { return states_; }

 private:
  void grow() {
    slots_.assign(std::max<std::size_t>(64, slots_.size() * 2), 0);
    for (std::size_t i = 0; i < states_.size(); ++i) {
      std::size_t slot = states_[i].hash & (slots_.size() - 1);
      while (slots_[slot] != 0) {
        slot = (slot + 1) & (slots_.size() - 1);
      }
      slots_[slot] = static_cast<std::uint32_t>(i + 1);
    }
  }
  std::vector<KeyState> states_;
  std::vector<std::uint32_t> slots_;  // index + 1 into states_
};

bool has_unsent(Row row) {
  return std::any_of(row.begin(), row.end(),
                     [](const auto& v) { return v.kind == ColumnKind::unchanged_toast; });
}

// `newer` with its unsent values taken from `older`.
Row merged(Row older, Row newer, ColumnArena& arena) {
  if (!has_unsent(newer)) {
    return newer;
  }
  const auto image = arena.store(newer);
  for (std::size_t i = 0; i < image.size(); ++i) {
    if (image[i].kind == ColumnKind::unchanged_toast) {
      image[i] = older[i];
    }
  }
  return image;
}

// The changes of one keyed table within a segment. Each call returns false where the model doesn't hold.
class TableCompaction {
 public:
  TableCompaction(const TargetTable& table, ColumnArena& arena)
      : table_(table), arena_(arena), own_columns_(table.has_own_columns()) {}

  bool add(const Change& change) {
    switch (change.kind) {
      case Change::Kind::insert:
        return insert(change.new_row);
      case Change::Kind::update:
        return change.moves_key ? move(change) : update(change.new_row);
      case Change::Kind::remove:
        return remove(change.old_row, false, nullptr);
      case Change::Kind::truncate:
        break;
    }
    return false;
  }
  NetChanges finish();

 private:
  KeyState& state_of(Row row) {
    return keys_.find_or_add(key_bytes(table_, row, scratch_), table_.key.size() > 1, arena_);
  }
  bool insert(Row row) {
    auto& state = state_of(row);
    if (state.now == KeyState::Now::inserted || state.now == KeyState::Now::updated) {
      return false;
    }
    state.now = KeyState::Now::inserted;
    state.image = row;
    return true;
  }
  bool update(Row row) {
    auto& state = state_of(row);
    if (state.now == KeyState::Now::gone) {
      return false;
    }
    if (state.now == KeyState::Now::untouched) {
      state.now = KeyState::Now::updated;
      state.image = row;
    } else {
      state.image = merged(state.image, row, arena_);
      ++folded_;
    }
    return true;
  }
  // `by_move`: the old half of an update that moves a key, which counts with its new half. `last` gets the
  // image that the batch knew of the row.
  bool remove(Row old_row, bool by_move, Row* last) {
    auto& state = state_of(old_row);
    if (state.now == KeyState::Now::gone) {
      return false;
    }
    if (last != nullptr) {
      *last = state.image;
    }
    if (state.now != KeyState::Now::untouched) {
      ++folded_;  // what made it as it was
    }
    if (state.now != KeyState::Now::inserted) {
      state.delete_first = true;
      state.by_move = by_move;
      state.old_row = old_row;
    } else if (!by_move) {
      ++folded_;  // this change as well
    }
    state.now = KeyState::Now::gone;
    state.image = {};
    return true;
  }
  bool move(const Change& change) {
    // What only the target has of a row can't be inserted again with it: such a row gets its new key in
    // place.
    if (own_columns_ && state_of(change.old_row).now != KeyState::Now::inserted) {
      return false;
    }
    Row last;
    if (!remove(change.old_row, true, &last)) {
      return false;
    }
    const Row row = last.empty() ? change.new_row : merged(last, change.new_row, arena_);
    return !has_unsent(row) && insert(row);
  }

  const TargetTable& table_;
  ColumnArena& arena_;
  const bool own_columns_;
  KeyMap keys_;
  std::string scratch_;
  std::int64_t folded_ = 0;
};

NetChanges TableCompaction::finish() {
  auto& states = keys_.states();
  // By key: pages of heap and index are then visited once. (length, bytes) is numeric order for integers.
  std::sort(states.begin(), states.end(), [](const KeyState& a, const KeyState& b) {
    return a.key.size() != b.key.size() ? a.key.size() < b.key.size() : a.key < b.key;
  });
  NetChanges net;
  net.table = &table_;
  net.folded = folded_;
  std::map<Mask, std::vector<Row>> updates;
  for (const auto& state : states) {
    if (state.delete_first) {
      net.deletes.push_back(state.old_row);
      net.moved += state.by_move ? 1 : 0;
    }
    if (state.now == KeyState::Now::inserted) {
      net.inserts.push_back(state.image);
    } else if (state.now == KeyState::Now::updated) {
      updates[unchanged_columns(table_, state.image)].push_back(state.image);
    }
  }
  for (auto& [mask, rows] : updates) {
    net.updates.push_back({mask, std::move(rows)});
  }
  return net;
}

// Collects one segment after the other.
class Compaction {
 public:
  explicit Compaction(Batch& batch) : batch_(batch) {}

  Compacted run() {
    for (const auto& change : batch_.changes) {
      if (change.kind == Change::Kind::truncate) {
        const auto& truncate = batch_.truncates[change.truncate];
        close_segment(&truncate);
        result_.net_rows += truncate.tables.size();
      } else {
        add(change);
      }
    }
    close_segment(nullptr);
    return std::move(result_);
  }

 private:
  void add(const Change& change) {
    const TargetTable& table = *change.table;
    const auto shape = shapes_.emplace(table.oid, &table).first;
    if (shape->second != &table) {  // DDL in between: what was collected under the other shape goes first
      close_segment(nullptr);
      shapes_.emplace(table.oid, &table);
    }
    if (table.matching != Matching::key) {
      auto& list = ordered_[&table];
      if (list.empty()) {
        ordered_sequence_.push_back(&table);
      }
      list.push_back(&change);
      return;
    }
    auto found = keyed_.find(&table);
    if (found == keyed_.end()) {
      found = keyed_.emplace(&table, TableCompaction(table, batch_.arena)).first;
      keyed_sequence_.push_back(&table);
    }
    result_.compactable = found->second.add(change) && result_.compactable;
  }

  void close_segment(const TruncateTables* truncate) {
    Segment segment;
    segment.truncate = truncate;
    for (const auto* table : keyed_sequence_) {
      auto net = keyed_.at(table).finish();
      result_.net_rows += net.rows();
      segment.net.push_back(std::move(net));
    }
    for (const auto* table : ordered_sequence_) {
      auto& changes = ordered_[table];
      result_.net_rows += changes.size();
      segment.ordered.push_back({table, std::move(changes)});
    }
    if (truncate != nullptr || !segment.net.empty() || !segment.ordered.empty()) {
      result_.segments.push_back(std::move(segment));
    }
    keyed_.clear();
    ordered_.clear();
    keyed_sequence_.clear();
    ordered_sequence_.clear();
    shapes_.clear();
  }

  Batch& batch_;
  Compacted result_;
  std::unordered_map<const TargetTable*, TableCompaction> keyed_;
  std::unordered_map<const TargetTable*, std::vector<const Change*>> ordered_;
  std::vector<const TargetTable*> keyed_sequence_, ordered_sequence_;
  std::unordered_map<base::Oid, const TargetTable*> shapes_;
};

}  // namespace

std::size_t NetChanges::rows() const {
  std::size_t count = deletes.size() + inserts.size();
  for (const auto& group : updates) {
    count += group.rows.size();
  }
  return count;
}

Mask unchanged_columns(const TargetTable& table, Row row) {
  if (!has_unsent(row)) {
    return {};
  }
  Mask mask(table.columns.size(), false);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const int source = table.columns[i].source;
    mask[i] = source >= 0 && row[static_cast<std::size_t>(source)].kind == ColumnKind::unchanged_toast;
  }
  return mask;
}

Compacted compact(Batch& batch) {
  return Compaction(batch).run();
}

}  // namespace replication::apply
