// The composite type in which a table's rows travel to the target.
//
// It is the table's own, which costs nothing, unless that can't take every row: a column's domain may forbid
// NULL, and columns that aren't sent are NULL; or the column is wider than what the stream has. Then it is a
// type of our own, pgcutover.row_<digest of its columns>, made once on the side that is written and gone with
// the schema pgcutover at the end.
#pragma once

#include "replication/apply/target_table.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

// Sets row_type, array_type and row_type_name where a column is sent as another type.
void choose_row_type(postgres::Connection& connection, TargetTable& table);

}  // namespace replication::apply
