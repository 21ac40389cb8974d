// Are both sides equal? Whole tables, compared in two snapshots of one and the same LSN.
//
// On each side and for each table: number of rows and an order-independent sum of 64-bit hashes over the
// rows' text images with all settings pinned (so that the same row has the same text on every version).
// Multiset-exact up to hash collisions: duplicates and swaps are found. A table that can't be compared is
// never "equal". Where the two snapshots come from is the caller's business (a paused apply and a slot's
// exported snapshot on a live system; a drained moment; two idle servers). Large objects and sequences are
// not tables and not compared here.
//
// Threads: `jobs` threads with two sessions each, one a side, all ended when compare() returns. The two sides
// of a table are read at the same time. Memory: bounded whatever the size of the tables (see differences.h).
// Errors: a statement that fails makes its table not_compared; a lost connection or a snapshot that is gone
// is an Error, a stop request Stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/conninfo.h"

namespace replication::verify {

enum class Verdict { equal, different, not_compared };

struct TableResult {
  std::string table;  // display name
  Verdict verdict = Verdict::not_compared;
  std::int64_t source_rows = 0, target_rows = 0;
  // Why not compared; for differences, up to `keys_max` differing rows by key. Before it the columns that are
  // left out.
  std::string detail;
};

struct CompareOptions {
  postgres::ConnInfo source, target;
  std::string source_snapshot, target_snapshot;  // exported ones; empty = a snapshot of the session's own
  catalog::ColumnFilter left_out;                // columns that either side may have and that aren't compared
  int jobs = 2;
  int keys_max = 10;                                                    // differing keys to list per table
  std::function<void(std::int64_t done, std::int64_t total)> progress;  // tables; serialised
  // Which server made the row with this value in a column of its key; empty where nobody knows. Called by
  // all jobs.
  std::function<std::string(const catalog::Table& table, const std::string& column, const std::string& value)>
      made_by;
};

struct Comparison {
  std::vector<TableResult> tables;  // in the order given
  bool equal() const;               // every table equal, and there was at least one
};

// `tables` as the source's catalog shows them; leaves of partitioned tables are compared under their own
// names, partitioned tables themselves hold no rows and are left out. Generated columns are not compared.
Comparison compare(const CompareOptions& options, const std::vector<catalog::Table>& tables,
                   const base::Stop& stop);

}  // namespace replication::verify
