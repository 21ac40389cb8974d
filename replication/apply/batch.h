// A batch: the row changes of some whole source transactions (or of a part of one large transaction), in the
// source's order, as views into the received bytes, which it keeps alive. Pure: no server. Belongs to one
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <vector>

#include "replication/apply/target_table.h"
#include "replication/stream/chunk.h"

namespace replication::apply {

struct Change {
  enum class Kind : std::uint8_t { insert, update, remove, truncate };
  Kind kind = Kind::insert;
  // Update: the row is found by old_row and gets another key. Where false, old_row has the same key as
  // new_row.
  bool moves_key = false;
  std::uint32_t transaction = 0;       // index in Batch::transactions
  std::uint32_t truncate = 0;          // index in Batch::truncates, where truncate
  const TargetTable* table = nullptr;  // null where truncate
  Row old_row;                         // update and remove: its key columns at least
  Row new_row;                         // insert and update
};

struct SourceTransaction {
  base::Lsn commit_lsn;  // where its commit record starts
  base::Lsn end_lsn;     // where it ends; not valid before its Commit was seen
  base::Xid xid = 0;
};

struct TruncateTables {
  std::vector<const TargetTable*> tables;
  bool restart_identity = false;
  std::vector<std::string> statements = {};  // what does it on the target: see truncation.h
};

// A row image's storage: blocks that never move, freed together.
class ColumnArena {
 public:
  std::span<pgoutput::ColumnValue> store(Row row);
  std::string_view store(std::string_view bytes);
  void clear();

 private:
  std::pmr::monotonic_buffer_resource memory_{std::size_t{64} << 10};
};

class Batch {
 public:
  // Keeps a chunk's bytes alive until clear(). The same chunk again changes nothing.
  void retain(const std::shared_ptr<const stream::Chunk>& chunk);
  void clear();
  // `replace` gives the table to use instead of each.
  void replace_tables(const std::function<const TargetTable*(const TargetTable*)>& replace);
  bool empty() const { return changes.empty() && transactions.empty(); }
  // Moves the last transaction with its changes to `rest`, which is empty.
  void move_last_transaction(Batch& rest);

  std::vector<Change> changes;
  std::vector<SourceTransaction> transactions;
  std::vector<TruncateTables> truncates;
  ColumnArena arena;
  std::size_t bytes = 0;  // of the row images: their values, and the views of them

 private:
  std::vector<std::shared_ptr<const stream::Chunk>> chunks_;
};

}  // namespace replication::apply
