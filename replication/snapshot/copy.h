// The first copy of the rows, resumable at every moment.
//
// A table is either done (its row in pgcutover.table_copy was committed in the same transaction as its rows,
// together with the snapshot they were read in; for one that is copied in parts: in a transaction after them
// that found all of them) or not begun. Raw COPY buffers are forwarded without parsing,
// binary where every column is safe. Rule of visibility: a table that was read in the slot's own exported
// snapshot needs no filter; one that was copied later, under its own snapshot S, is accompanied by S and by a
// marker written after S: the stream skips, for that table and until that marker, exactly the transactions
// that are visible in S.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/fencing_token.h"

namespace replication::snapshot {

// DDL (idempotent) of this room's tables on the target, in the schema pgcutover, which must exist.
std::string copy_schema_sql();

class Pace;

struct TableProgress {
  std::string table;  // public.orders
  std::int64_t bytes_done = 0, bytes_total = 0;
  std::int64_t rows = 0;
  double seconds = 0;  // since its first row
};

struct CopyProgress {
  std::int64_t tables_done = 0, tables_total = 0;
  // In the unit of the estimate (the source's heap and toast sizes), so that the two meet at the end; what
  // really went over the wire is in CopyState.
  std::int64_t bytes_done = 0, bytes_total = 0;
  // Of these, what was done before this copy began.
  std::int64_t tables_before = 0, bytes_before = 0, rows_before = 0;
  std::int64_t rows_done = 0;          // of tables that are done
  std::vector<TableProgress> running;  // tables under way, the largest first
};

struct CopyOptions {
  postgres::ConnInfo source, target;
  std::string exported_snapshot;  // of the slot; empty = every table takes its own snapshot (resume)
  // A transaction id that the source assigned after the slot existed, decimal, 64 bits, pg_current_xact_id()
  // (12: txid_current()). Only snapshots with xmin >= this may be used beside the slot's own. Required.
  std::string slot_xid;
  int jobs = 2;
  // Tables of more than this are copied in parts by all workers, where the source can do it (from 14 on).
  // 0 = by itself: those that would keep one worker busy while the others have nothing left to do. Negative:
  // never.
  std::int64_t split_above_bytes = 0;
  Pace* pace = nullptr;          // how fast rows may go; none = no limit. Outlives the copy.
  postgres::FencingToken token;  // checked before each table's commit
  // A table's rows are committed (also told for those that were there already). Any worker, several at once.
  std::function<void(const catalog::Table&)> table_in;
  // Called by any worker, serialised.
  std::function<void(const CopyProgress&)> progress;
};

// Copies every table of `tables` that stores rows and isn't done yet. Throws the first error after all
// workers ended; finished tables stay finished. A table rewritten behind the exported snapshot (filenode) is
// read under its own, and so is the rest when the exported snapshot is lost. A lost connection is tried
// again, 5 minutes a table. On return everything copied is durable on the target.
void copy_tables(const CopyOptions& options, const std::vector<catalog::Table>& tables,
                 const base::Stop& stop);

// A table's snapshot that the stream has to filter by, as stored.
struct TableSnapshot {
  std::string schema, name;
  std::string snapshot;  // "xmin:xmax:xip,..." in 64-bit transaction ids
  std::string marker;    // token whose arrival ends the filter
};
// Those whose filter is still needed: the marker wasn't seen yet.
std::vector<TableSnapshot> pending_snapshots(postgres::Connection& target);
// The stream has delivered this marker and everything before it is committed on the target. Idempotent.
void mark_filter_passed(postgres::Connection& target, const std::string& marker);

struct CopyState {
  std::int64_t done = 0, rows = 0, bytes = 0;  // bytes as they went over the wire
};
CopyState copy_state(postgres::Connection& target);

}  // namespace replication::snapshot
