// `pgcutover journal stat|cat|replay`: what a spool holds, without the run it belongs to.
#pragma once

#include "cutover/cli/options.h"
#include "replication/base/stop.h"

namespace cutover::cli {

// Returns the exit code. Reads only, also beside a living run; replay writes to --target.
int journal_verb(const Invocation& invocation, const base::Stop& stop);

}  // namespace cutover::cli
