// A large table copied in parts: ranges of blocks, each by one worker in a transaction of its own.
//
// All parts come from one snapshot, whose owner is a session that locked the table (ACCESS SHARE) before the
// first part and holds it to the end of the last: a rewrite in between, or a row that moved from one range to
// the other between two snapshots, would be lost without an error. Where that session is lost the whole table
// is begun again.
//
// On the target a copy has a generation. Its first transaction takes ACCESS EXCLUSIVE, empties the table and
// sets the generation; each part checks it (and the fencing token) before its commit, so that a predecessor's
// part that comes late changes nothing: one that had rows in the table was waited for, one that had none
// fails its check. The table counts as copied (pgcutover.table_copy) only by a last transaction that finds
// every part of its generation committed. A part's own row (pgcutover.table_part) is the first thing its
// transaction writes: a second attempt after a lost COMMIT waits for the first one there, and then knows.
#pragma once

#include <cstdint>
#include <string>

#include "replication/snapshot/copy.h"
#include "replication/snapshot/copy_stream.h"
#include "replication/snapshot/table_copier.h"

namespace replication::snapshot {

// DDL (idempotent) of pgcutover.table_generation and pgcutover.table_part.
std::string split_schema_sql();

// Whether a table can be split at all: it has columns, and its server reads a range of blocks without reading
// the whole table (TID range scan, from 14 on).
bool can_be_split(const catalog::Table& table, int source_major);

// Copies `table` with options.jobs workers, in ranges of about `part_bytes`. Tries again after retryable
// failures: a part alone where that is enough. Throws the first error after all workers ended.
void copy_split_table(const CopyOptions& options, CopyShared& shared, CopyListener& listener,
                      const catalog::Table& table, std::int64_t part_bytes, const base::Stop& stop);

}  // namespace replication::snapshot
