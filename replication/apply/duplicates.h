// Rows that break a deferrable unique, primary key or exclusion constraint.
//
// The server enforces these by internal triggers, which don't fire while changes are applied
// (session_replication_role = replica): four rows with one key can be committed. Correct changes from the
// source never leave such rows behind, so any is a sign of drift. To be asked by verify and before the target
// opens. Reads each such table once (a deferrable exclusion constraint: by its own index); others cost
// nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

struct Duplicate {
  std::string table;  // "schema.name"
  std::string constraint;
  std::string key;        // the values, as a row's text
  std::int64_t rows = 0;  // that have them; 2 for an exclusion constraint's pair
};

// At most `shown_max` for each constraint.
std::vector<Duplicate> find_duplicates(postgres::Connection& connection,
                                       const std::vector<catalog::Table>& tables, base::Deadline deadline,
                                       int shown_max = 5);

}  // namespace replication::apply
