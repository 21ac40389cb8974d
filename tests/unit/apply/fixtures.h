// Tables and rows for apply's unit tests, without a server.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/apply/target_table.h"
#include "replication/postgres/quote.h"

namespace apply_fixtures {

using replication::apply::Matching;
using replication::apply::TargetTable;
using replication::pgoutput::ColumnKind;
using replication::pgoutput::ColumnValue;

// Columns of one type, source and target in the same order; the first `keys` are the key.
inline TargetTable table(const std::vector<std::string>& columns, std::size_t keys,
                         Matching matching = Matching::key) {
  TargetTable made;
  made.id = 1;
  made.oid = 16400;
  made.row_type = 16402;
  made.array_type = 16401;
  made.schema = "s";
  made.name = "t";
  made.qualified = replication::postgres::quote_qualified("s", "t");
  made.display = "s.t";
  made.matching = matching;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    made.columns.push_back({columns[i], 25, -1, "text", '\0', false, static_cast<int>(i)});
    if (i < keys) {
      made.key.push_back({i, i, "OPERATOR(\"pg_catalog\".=)"});
    }
  }
  return made;
}

// Keeps the values that row images point to.
class Rows {
 public:
  // "\1u" stands for a value that was not sent.
  static constexpr std::string_view kUnsent = "\1u";
  std::vector<ColumnValue>& add(const std::vector<std::optional<std::string>>& values,
                                ColumnKind kind = ColumnKind::text) {
    auto& row = rows_.emplace_back();
    for (const auto& value : values) {
      if (!value) {
        row.push_back({ColumnKind::null, {}});
      } else if (*value == kUnsent) {
        row.push_back({ColumnKind::unchanged_toast, {}});
      } else {
        row.push_back({kind, texts_.emplace_back(*value)});
      }
    }
    return row;
  }

 private:
  std::deque<std::vector<ColumnValue>> rows_;
  std::deque<std::string> texts_;
};

}  // namespace apply_fixtures
