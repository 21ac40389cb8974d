// A batch change by change in the source's order: the mode that can't be wrong, and that names the row.
//
// Used for tables without a usable key, and for a whole batch where a set-based statement failed or touched
// another number of rows than it was given. A change that hits no row is recorded in pgcutover.conflict,
// counted, and apply goes on (or ends, as asked); a statement that fails is an Error with table, key and LSN.
// One thread.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "replication/apply/batch.h"
#include "replication/apply/burst.h"
#include "replication/apply/ledger.h"

namespace replication::apply {

// One change of a row as a statement of its own; expects one row.
void send_change(Burst& burst, const Change& change, std::size_t tag);
// Changes of one table in order; runs of inserts become one statement.
void send_ordered(Burst& burst, const TargetTable& table, std::span<const Change* const> changes);
// What the burst was given so far.
void add_rows_sent(Ledger& ledger, const Burst& burst);

class RowMode {
 public:
  // `stop_at_conflict`: see ApplierOptions.
  RowMode(postgres::Connection& connection, StatementCache& statements, std::string direction,
          bool stop_at_conflict)
      : connection_(connection),
        statements_(statements),
        direction_(std::move(direction)),
        stop_at_conflict_(stop_at_conflict) {}

  // `open` sends what begins the transaction (or part) into the first burst; `check` throws what isn't about
  // a row. Returns what was sent and what met no row.
  Ledger write(const Batch& batch, const std::function<void(Burst&)>& open,
               const std::function<void(const Burst::Report&)>& check);

 private:
  void record_conflict(Burst& burst, const Batch& batch, const Change& change) const;
  [[noreturn]] void fail(const Batch& batch, const Change& change, const std::string& sqlstate,
                         const std::string& message, const std::string& hint = {}) const;

  postgres::Connection& connection_;
  StatementCache& statements_;
  const std::string direction_;
  const bool stop_at_conflict_;
};

}  // namespace replication::apply
