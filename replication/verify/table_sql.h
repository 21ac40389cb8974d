// The SQL of a comparison, the same text for both sides. Pure.
//
// Rows are compared by their text image ROW(columns)::text: it needs no operator class (json, xml and point
// have none) and is the same on 12 to 18 under our pinned settings. Columns are named, in the source's order:
// attribute numbers differ between the sides. The hash is that of the text with the database's own collation,
// which is always deterministic; a column's collation might not be, so keys too are hashed as ROW(...)::text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "replication/catalog/catalog.h"

namespace replication::verify {

// Rows whose key hash has `value` in the bits of `mask`.
struct Bucket {
  std::int64_t mask = 0, value = 0;
};

class TableSql {
 public:
  explicit TableSql(const catalog::Table& table);

  std::string lock() const;
  // One row: number of rows, sum of their hashes.
  std::string digest() const;
  // Of the rows in `within`: (bucket value under `mask`, rows, sum of hashes), by bucket value.
  std::string buckets(Bucket within, std::int64_t mask) const;
  // Of the rows whose hash under `mask` is one of `values`: (key hash, row hash, rows, beginning of the key's
  // text).
  std::string rows(std::int64_t mask, const std::vector<std::int64_t>& values) const;

  // "(id)", or "row" where there is no key: then the row's whole text takes the key's place.
  const std::string& key_label() const { return key_label_; }
  // The columns of that text.
  const std::vector<std::string>& key_columns() const { return key_columns_; }

 private:
  std::string hashed_rows() const;
  std::string table_, key_, row_, key_label_;
  std::vector<std::string> key_columns_;
};

// The fields of a row's text image, e.g. of a key: (5,"a ""b""") has 5 and a "b". A field that was cut off
// with the text is left out; NULL is empty.
std::vector<std::string> fields_of(std::string_view row_text);

// Columns that hold data of their own, by name.
std::vector<std::string> compared_columns(const catalog::Table& table);
// Generated ones whose values lie in the rows. Each side computed its own, by functions that may be other
// ones there, or depend on settings.
std::vector<std::string> computed_columns(const catalog::Table& table);

}  // namespace replication::verify
