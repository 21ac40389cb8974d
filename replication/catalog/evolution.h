// How a table became what it is: what its rows got without any row change in the stream, when a column was
// added or the table was rewritten.
//
// A table's file (relfilenode) is new after every rewrite and TRUNCATE. While it stays the same, a column
// that was added gave old rows its stored "missing value", or NULL where there is none; across a rewrite
// nothing tells. Catalogs as they are now, not as they were at a position of the stream.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::catalog {

struct TableFile {
  std::string schema, name;
  base::Oid oid = 0, filenode = 0;
  int columns = 0;  // that the table ever had: attnum of the last one
};
// Of every table that stores rows, ours and the system's excepted.
std::vector<TableFile> table_files(postgres::Connection& connection);
// Another text when table_files() would tell something else: a fifth of its time, and one row.
std::string table_files_digest(postgres::Connection& connection);

// Whether a column's definition was written by a transaction that had not ended at `xid` (an xmin of a
// snapshot, decimal): together with a new file the mark of ALTER TABLE, which VACUUM FULL, CLUSTER and
// TRUNCATE don't leave (VACUUM FULL does on columns with a missing value, which it clears).
bool columns_written_since(postgres::Connection& connection, base::Oid table, std::string_view xid);
// The xmin of a snapshot of now, decimal.
std::string snapshot_xmin(postgres::Connection& connection);

struct ColumnOrigin {
  base::Oid type = 0;
  int typmod = -1;
  int number = 0;          // attnum
  std::string definition;  // type and collation
  base::Oid filenode = 0;  // of the table, in the same look
  int dropped_after = 0;   // columns with a higher number than `since` of column_origin() that are gone
  bool has_missing = false;
  std::string missing;  // what old rows have, as text; only where has_missing
  std::optional<std::string> default_expression;
  bool not_null = false;
  // Why this column can't be made elsewhere by its name, type and default alone; empty = it can.
  std::string special;
};
// `since`: an attnum. Nothing where there is no such column.
std::optional<ColumnOrigin> column_origin(postgres::Connection& connection, std::string_view schema,
                                          std::string_view table, std::string_view column, int since);

struct EnumType {
  std::string schema, name;
  std::vector<std::string> labels;  // in their order
};
std::vector<EnumType> enum_types(postgres::Connection& connection);
// Statements that make `here` have `there`'s labels in their order; nothing where that takes more than adding
// some.
std::optional<std::vector<std::string>> enum_additions(const EnumType& here, const EnumType& there);

// Whether every value of the first type is one of the second, with the same text, and the stream's form of it
// may be cast on the way (typmods as in pg_attribute).
bool widens(base::Oid from, int from_typmod, base::Oid to, int to_typmod);

}  // namespace replication::catalog
