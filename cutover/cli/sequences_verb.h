// `pgcutover sequences list|plan|bump|watch`: id headroom on one server or two, with or without a migration.
#pragma once

#include "cutover/cli/options.h"
#include "replication/base/stop.h"

namespace cutover::cli {

// Returns the exit code: 0 done, 3 findings block and nothing was changed. Throws UsageError (2) for `bump`
// without
// --yes, StateError (5) where a migration sets the sequences itself.
int sequences_verb(const Invocation& invocation, const base::Stop& stop);

}  // namespace cutover::cli
