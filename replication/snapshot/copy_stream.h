// The rows of one COPY on their way from one server to the other: raw buffers, never parsed.
//
// One thread each; what is shared (pace, turn of the large rows) is safe from any.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/snapshot/pace.h"

namespace replication::snapshot {

// COPY statements for a table. Always an explicit column list, without generated columns, because dropped
// columns and the order of columns differ between servers.
std::string copy_out_sql(const catalog::Table& table);
std::string copy_in_sql(const catalog::Table& table, bool freeze);
bool copies_binary(const catalog::Table& table);

// Blocks [first, end) of a table; the last range is open-ended.
struct BlockRange {
  std::int64_t first = 0;
  std::optional<std::int64_t> end;
};
// Only for tables with columns, on sources from 14 on (TID range scan).
std::string copy_range_out_sql(const catalog::Table& table, const BlockRange& range);

struct CopiedTable {
  std::int64_t rows = 0, bytes = 0;
};

// What the senders of a copy share.
struct CopyShared {
  Pace* pace = nullptr;  // none = as fast as it goes
  LargeRows large_rows;
};

class CopyStream {
 public:
  using Moved = std::function<void(std::int64_t rows, std::int64_t bytes)>;  // since the last call

  CopyStream(CopyShared& shared, Moved moved, const base::Stop& stop)
      : shared_(shared), moved_(std::move(moved)), stop_(stop) {}
  ~CopyStream();  // gives the turn of the large rows back
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;

  // Runs both statements against each other. Throws where not every row that was sent was stored. Both
  // transactions are the caller's.
  CopiedTable run(postgres::Connection& source, std::string_view out_sql, postgres::Connection& target,
                  std::string_view in_sql, bool binary);
  // libpq's buffers keep the size of the largest row for the connection's life: close it after such a one.
  bool saw_large_row() const { return large_; }

 private:
  CopyShared& shared_;
  Moved moved_;
  const base::Stop& stop_;
  bool large_ = false;
};

}  // namespace replication::snapshot
