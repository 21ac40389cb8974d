#include "replication/apply/ledger.h"

#include "replication/base/error.h"

namespace replication::apply {

void TableCounts::add(const TableCounts& other) {
  received += other.received;
  filtered += other.filtered;
  echoed += other.echoed;
  folded += other.folded;
  moved += other.moved;
  rows += other.rows;
  conflicts += other.conflicts;
}

void add(Ledger& ledger, const Ledger& more) {
  for (const auto& [table, counts] : more) {
    ledger[table].add(counts);
  }
}

TableCounts sum(const Ledger& ledger) {
  TableCounts total;
  for (const auto& [table, counts] : ledger) {
    total.add(counts);
  }
  return total;
}

void check_ledger(const Ledger& ledger, base::Lsn commit_lsn) {
  for (const auto& [table, counts] : ledger) {
    if (!counts.adds_up()) {
      throw base::Bug("the changes of " + table + " up to the commit at " + commit_lsn.to_string() +
                      " don't add up: " + std::to_string(counts.received) + " received, of which " +
                      std::to_string(counts.filtered) + " were in its copy and " +
                      std::to_string(counts.echoed) + " were echoes; " + std::to_string(counts.folded) +
                      " folded, " + std::to_string(counts.rows) + " rows sent, " +
                      std::to_string(counts.moved) + " of them for moved keys; nothing of it was committed");
    }
  }
}

}  // namespace replication::apply
