// Rows as one statement parameter: an array of the target table's row type, for unnest($1::"s"."t"[]).
//
// Follows array_recv/array_in and record_recv/record_in (PostgreSQL's arrayfuncs.c, rowtypes.c): in binary a
// row lists the target's column types; dropped columns don't count; columns that aren't written are NULL.
// Binary where the source's values are, text where they are; the source sends one or the other for a table,
// never both. Pure.
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <string>

#include "replication/apply/target_table.h"

namespace replication::apply {

struct EncodedRows {
  std::string bytes;
  bool binary = false;
  std::size_t rows = 0;  // how many of the given ones
};

// Encodes rows until there are `bytes_max` bytes, at least one where there is any: see EncodedRows::rows.
// Throws Error where text and binary values are mixed. A value that was not sent becomes NULL: mask it in the
// statement.
EncodedRows encode_rows(const TargetTable& table, std::span<const Row> rows, RowPart part = RowPart::all,
                        std::size_t bytes_max = std::numeric_limits<std::size_t>::max());

}  // namespace replication::apply
