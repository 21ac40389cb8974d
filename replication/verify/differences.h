// Which rows of a table differ: found by hash buckets of the key, so that memory doesn't depend on the
// table's size.
//
// One scan a side groups all rows into at most 65,536 buckets by the low bits of their key's hash; buckets
// whose number of rows or sum of hashes differ hold the differing rows. Those of a few small buckets are
// fetched in a second scan as pairs of hashes; a bucket that is still too large is divided by further bits
// first.
#pragma once

#include <functional>
#include <string>

#include "replication/verify/side.h"
#include "replication/verify/table_sql.h"

namespace replication::verify {

struct DifferenceLimits {
  int keys_max = 10;                        // rows to name
  int bucket_bits_max = 16;                 // hash bits a scan divides by
  std::int64_t bucket_rows = 512;           // rows a bucket should hold
  std::int64_t fetched_rows_max = 200'000;  // rows of all fetched buckets, a side
};

// The server that made the row with this value in this column; empty where nobody knows.
using MadeBy = std::function<std::string(const std::string& column, const std::string& value)>;

// "(id) = (5) missing on the target, id made by the source; (id) = (7) different; and more". `rows` is the
// larger side's number of rows.
std::string describe_differences(Side& source, Side& target, const TableSql& sql, std::int64_t rows,
                                 const DifferenceLimits& limits, const MadeBy& made_by = {});

}  // namespace replication::verify
