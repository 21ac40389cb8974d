// The rows of one COPY on their way from one server to the other: raw buffers, never parsed.
//
// One thread each; what is shared (pace, memory of large rows) is safe from any.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/snapshot/pace.h"
#include "replication/snapshot/row_memory.h"

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
  RowMemory row_memory;
};

class CopyStream {
 public:
  using Moved = std::function<void(std::int64_t rows, std::int64_t bytes)>;  // since the last call

  // `memory` is that of the source connection.
  CopyStream(CopyShared& shared, RowMemory::Share& memory, Moved moved, const base::Stop& stop)
      : shared_(shared), memory_(memory), moved_(std::move(moved)), stop_(stop) {}

  // Runs both statements against each other. Throws where not every row that was sent was stored. Both
  // transactions are the caller's. Where memory.large() afterwards: close the source connection, then give
  // the memory back.
  CopiedTable run(postgres::Connection& source, std::string_view out_sql, postgres::Connection& target,
                  std::string_view in_sql);

 private:
  CopyShared& shared_;
  RowMemory::Share& memory_;
  Moved moved_;
  const base::Stop& stop_;
};

}  // namespace replication::snapshot
