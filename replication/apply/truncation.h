// How the target's tables are emptied where a TRUNCATE emptied the source's.
//
// The server refuses to TRUNCATE a table that another one references unless that one is in the same
// statement, whatever session_replication_role says. The stream lists the tables with rows that were
// truncated: neither partitioned tables (only their partitions, while the foreign key is the root's) nor what
// isn't streamed (an unlogged table), which a CASCADE may have emptied as well.
#pragma once

#include <string>
#include <vector>

#include "replication/apply/batch.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

// The statements that do it, in their order: one TRUNCATE, together with the partitioned tables all of whose
// partitions are listed where a foreign key asks for them; DELETE, which checks no foreign key here, where it
// asks for other tables. Reads the target's catalog.
std::vector<std::string> emptying_sql(postgres::Connection& connection, const TruncateTables& truncate);

}  // namespace replication::apply
