// The changes that met no row on the other side, as people see them.
#pragma once

#include <string_view>
#include <vector>

#include "cutover/state/status.h"
#include "replication/postgres/connection.h"

namespace cutover::steps {

// Those recorded on this side after `settled_up_to`, the newest first, at most `count_max`, each with the
// server whose sequence its row's id is from. Empty where the stream's tables aren't there yet.
std::vector<state::ConflictRecord> read_conflicts(replication::postgres::Connection& connection,
                                                  std::string_view settled_up_to, int count_max);

}  // namespace cutover::steps
