// One worker's way of copying tables that aren't split: one transaction on the target holds the rows, the
// note that they are there, the snapshot they came from, and the check that we are still in control. One
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replication/snapshot/copy.h"
#include "replication/snapshot/copy_stream.h"
#include "replication/snapshot/table_source.h"

namespace replication::snapshot {

// What the workers tell while they copy. Any worker; an implementation serialises.
struct CopyListener {
  // Rows and bytes since the last call.
  std::function<void(const catalog::Table&, std::int64_t rows, std::int64_t bytes)> moved;
  std::function<void(const catalog::Table&)> again;  // a failed attempt's rows don't count
  std::function<void(const catalog::Table&, const CopiedTable&)> finished;
};

// A table emptied inside the caller's transaction, which then also waits for a predecessor's transaction that
// may still be running. Afterwards the note is certain: there, and the table is done (the caller rolls back);
// or not, and nobody else can write it before us. `truncated`: COPY FREEZE is possible.
struct EmptiedTable {
  bool truncated = false;
  std::optional<CopiedTable> done;
};
EmptiedTable empty_table(postgres::Connection& target, const catalog::Table& table);

// Writes the notes of `tables` in the caller's transaction.
struct Note {
  const catalog::Table* table = nullptr;
  CopiedTable copied;
  bool frozen = false;
};
void write_notes(postgres::Connection& target, const TableSource::Reading& reading,
                 const std::vector<Note>& notes);

// For rows that come in: no triggers, no foreign keys; durable all at once at the copy's end.
postgres::Connection open_copy_target(const CopyOptions& options, const base::Stop& stop);

class TableCopier {
 public:
  TableCopier(const CopyOptions& options, CopyShared& shared, CopyListener& listener, const base::Stop& stop)
      : options_(options),
        shared_(shared),
        listener_(listener),
        stop_(stop),
        memory_(shared.row_memory),
        source_(options, stop) {}

  // One table, or several small ones in one transaction. Tries again after retryable failures, within a
  // budget. A table that is done already isn't touched.
  void copy(const std::vector<const catalog::Table*>& tables);

 private:
  using Tables = std::vector<const catalog::Table*>;
  void attempt_one(const catalog::Table& table);
  Tables attempt_many(Tables tables);  // returns those that want an attempt of their own
  void clear_for(Tables& tables, std::vector<Note>& done);
  CopiedTable transfer(const catalog::Table& table, postgres::Connection& source, bool freeze);
  void connect_target();
  void end_source();
  void abandon_source();
  void give_up(const Tables& tables);

  const CopyOptions& options_;
  CopyShared& shared_;
  CopyListener& listener_;
  const base::Stop& stop_;
  RowMemory::Share memory_;  // outlives the connection that it is for
  TableSource source_;
  std::optional<postgres::Connection> target_;
  const catalog::Table* current_ = nullptr;
};

}  // namespace replication::snapshot
