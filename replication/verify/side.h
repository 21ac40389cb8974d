// One side of a comparison: a session whose transaction reads table after table in one snapshot.
//
// Threads: one at a time (a Connection's rule). Errors: those of Connection.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/verify/table_sql.h"

namespace replication::verify {

struct Digest {
  std::int64_t rows = 0;
  std::string sum;
  bool operator==(const Digest&) const = default;
};

class Side {
 public:
  // Opens the session and its snapshot: the exported one named, or one of its own where `snapshot` is empty.
  // Columns that `left_out`, which outlives this, leaves out may be there or not.
  Side(const postgres::ConnInfo& info, const std::string& server, const std::string& snapshot,
       const catalog::ColumnFilter& left_out, const base::Stop& stop);

  // Readies `table` for reading: locks it against changes of its definition, and makes sure that the snapshot
  // sees all its rows and that it has the columns that are compared. Returns why it can't be compared, if it
  // can't.
  std::optional<std::string> begin_table(const catalog::Table& table, const TableSql& sql);
  // Gives its lock back, also after a statement failed.
  void end_table();

  Digest digest(const TableSql& sql);
  postgres::Result query(const std::string& sql);

 private:
  std::optional<std::string> column_mismatch(const catalog::Table& table, base::Oid oid);
  postgres::Connection connection_;
  const catalog::ColumnFilter& left_out_;
};

}  // namespace replication::verify
