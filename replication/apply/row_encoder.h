// Rows as one statement parameter: an array of the target table's row type, for unnest($1::"s"."t"[]).
//
// Follows array_recv/array_in and record_recv/record_in (PostgreSQL's arrayfuncs.c, rowtypes.c): in binary a
// row lists the target's column types; dropped columns don't count; columns that aren't written are NULL.
// Binary where the source's values are, text where they are; the source sends one or the other for a table,
// never both. Pure.
#pragma once

#include <span>
#include <string>

#include "replication/apply/target_table.h"

namespace replication::apply {

struct EncodedRows {
  std::string bytes;
  bool binary = false;
};

enum class RowPart {
  all,
  key,  // the other columns as NULL
};

// Throws Error where text and binary values are mixed. A value that was not sent becomes NULL: mask it in the
// statement.
EncodedRows encode_rows(const TargetTable& table, std::span<const Row> rows, RowPart part = RowPart::all);

}  // namespace replication::apply
