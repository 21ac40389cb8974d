// What became of the source's changes, table by table: each was written as a row of its own, folded into
// another change of the same row, met no row, or was left out for a reason. Pure.
//
// The numbers come from three places that know nothing of each other: the collector counts what it takes from
// the stream, compaction what it folds, the burst what it sends. So check_ledger() finds a change that was
// lost or doubled on the way between them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "replication/base/lsn.h"

namespace replication::apply {

struct TableCounts {
  // By the collector.
  std::int64_t received = 0;
  std::int64_t filtered = 0;  // the table's copy had it
  std::int64_t echoed = 0;    // two-way: written by the other direction
  // By compaction, zero where the batch is applied change by change.
  std::int64_t folded = 0;  // into another change of the batch
  std::int64_t moved = 0;   // deletes of a row's old key, whose change counts with the new one
  // By the burst. A truncated table is a row.
  std::int64_t rows = 0;
  std::int64_t conflicts = 0;  // of `rows`: met no row, recorded

  std::int64_t applied() const { return rows - moved - conflicts; }
  // received = filtered + echoed + folded + conflicts + applied
  bool adds_up() const { return received == filtered + echoed + folded + rows - moved; }
  void add(const TableCounts& other);
};

// By the table's name for people.
using Ledger = std::map<std::string, TableCounts>;

void add(Ledger& ledger, const Ledger& more);
TableCounts sum(const Ledger& ledger);

// Throws Bug with table and numbers where a table's changes up to the commit at `commit_lsn` don't add up.
void check_ledger(const Ledger& ledger, base::Lsn commit_lsn);

}  // namespace replication::apply
