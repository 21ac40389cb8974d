// From a batch's changes in the source's order to as few set-based steps as give the same final rows. Pure.
//
// For a key the changes become at most one delete and one insert or update: insert, update -> insert; update,
// update
// -> update; insert, delete -> nothing; update, delete -> delete; delete, insert -> both. An update that
// moves a key is a delete of the old and an insert of the new one. A value that wasn't sent (unchanged TOAST)
// is taken from an earlier image of the row in the batch, else its column is left alone. A TRUNCATE and
// another shape of a table are barriers. Keys are compared by their stored bytes: values that are equal but
// not identical (citext, 1.0 and 1.00) can't be in a unique index together, and deletes run first, so they
// need no care.
//
// Where the changes contradict that model (an insert over a row that exists, an update of one that doesn't, a
// moved key whose unsent value isn't in the batch) the batch must be applied change by change: `compactable`
// is false.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "replication/apply/batch.h"

namespace replication::apply {

struct UpdateGroup {
  Mask unchanged;  // of the target's columns; empty = all are set
  std::vector<Row> rows;
};

// Run in this order: deletes free what updates and inserts may need.
struct NetChanges {
  const TargetTable* table = nullptr;
  std::vector<Row> deletes;
  std::vector<UpdateGroup> updates;
  std::vector<Row> inserts;
  // See TableCounts; counted where it happens, not by what is left.
  std::int64_t folded = 0, moved = 0;

  std::size_t rows() const;
};

// Changes of one table without a usable key, in the source's order.
struct OrderedChanges {
  const TargetTable* table = nullptr;
  std::vector<const Change*> changes;
};

// Everything between two barriers, then the barrier's TRUNCATE.
struct Segment {
  std::vector<NetChanges> net;
  std::vector<OrderedChanges> ordered;
  const TruncateTables* truncate = nullptr;
};

struct Compacted {
  bool compactable = true;
  std::vector<Segment> segments;
  std::size_t net_rows = 0;  // rows (and truncated tables) that the segments touch
};

// Views into `batch` and its arena, where merged images are stored.
Compacted compact(Batch& batch);

// Which target columns an image leaves alone; empty where it has every value.
Mask unchanged_columns(const TargetTable& table, Row row);

}  // namespace replication::apply
