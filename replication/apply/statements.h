// The SQL text of apply's statements: pure functions of a table. Every name is qualified and quoted;
// operators are named with their schema, since search_path is pg_catalog only (a citext key would be compared
// as text otherwise).
//
// Parameters are arrays of the table's row type (row_encoder.h). ONLY, wherever the target isn't partitioned
// itself: a child's rows come under the child's own name. Key, generated and identity ALWAYS columns are
// never SET.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "replication/apply/target_table.h"

namespace replication::apply {

// How a set's rows are given. A set of one row, given by its values, takes the target a third less work: it
// is found without a function scan and a join.
enum class Given {
  rows,    // $1 = array
  values,  // one row: a parameter for each column that value_columns() gives
};
// Indexes of the columns that are sent: of all, or of the key alone.
std::vector<std::size_t> value_columns(const TargetTable& table, RowPart part);

// Sets; of a delete the key alone is sent.
std::string insert_sql(const TargetTable& table, Given given = Given::rows);
std::string delete_sql(const TargetTable& table, Given given = Given::rows);
// Leaves `unchanged` columns alone. A row whose identity ALWAYS column differs isn't touched, which shows in
// the count.
std::string update_sql(const TargetTable& table, const Mask& unchanged, Given given = Given::rows);

// One row: $1 = array of the old row, $2 = array of the new one. Found by key, first of key or whole row, as
// the table's matching says; sets the key too.
std::string update_one_sql(const TargetTable& table, const Mask& unchanged);
// One row, deleted and inserted again with its unsent values and those that only the target has: identity
// ALWAYS columns can't be SET. $1, $2 likewise.
std::string replace_one_sql(const TargetTable& table, const Mask& unchanged);
// One row: $1 = array of the old row.
std::string delete_one_sql(const TargetTable& table);

// The same statement, which fails where it touches another number of rows than `rows`, an expression: its
// other parameters are the same. Returns one row.
std::string guarded_sql(const std::string& sql, std::string_view rows);

// `whole`: quoted names of partitioned tables that are emptied too.
std::string truncate_sql(std::span<const TargetTable* const> tables, std::span<const std::string> whole,
                         bool restart_identity);
std::string delete_all_sql(const TargetTable& table);

// Records a change that hit no row: $1 = array of old rows, $2 = of new ones (either may be empty), $3
// direction, $4 kind, $5 key, $6 LSN, $7 xid. The server turns the images into JSON text.
std::string conflict_sql(const TargetTable& table);

}  // namespace replication::apply
