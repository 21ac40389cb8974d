// One worker's way of copying a table: one transaction on the target holds the rows, the note that they are
// there, the snapshot they came from, and the check that we are still in control. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "replication/snapshot/copy.h"
#include "replication/snapshot/table_source.h"

namespace replication::snapshot {

// COPY statements for a table. Always an explicit column list, without generated columns, because dropped
// columns and the order of columns differ between servers.
std::string copy_out_sql(const catalog::Table& table);
std::string copy_in_sql(const catalog::Table& table, bool freeze);
bool copies_binary(const catalog::Table& table);

struct CopiedTable {
  std::int64_t rows = 0, bytes = 0;
};

class TableCopier {
 public:
  // `moved` is told the bytes of the running attempt.
  TableCopier(const CopyOptions& options, const base::Stop& stop, std::function<void(std::int64_t)> moved)
      : options_(options), stop_(stop), source_(options, stop), moved_(std::move(moved)) {}

  // Tries again after retryable failures, within a budget. Copying a table that is done already returns what
  // was noted then.
  CopiedTable copy(const catalog::Table& table);

 private:
  CopiedTable attempt(const catalog::Table& table);
  std::optional<CopiedTable> prepare(const catalog::Table& table, bool& truncated);
  CopiedTable transfer(const catalog::Table& table, bool freeze);
  void note(const catalog::Table& table, const TableSource::Reading& reading, const CopiedTable& copied);
  void connect_target();

  const CopyOptions& options_;
  const base::Stop& stop_;
  TableSource source_;
  std::optional<postgres::Connection> target_;
  std::function<void(std::int64_t)> moved_;
};

}  // namespace replication::snapshot
