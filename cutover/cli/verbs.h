// The verbs: what each does between the parsed command line and the exit code. Results go to stdout, progress
// and logs to stderr.
#pragma once

#include "cutover/cli/options.h"
#include "replication/base/stop.h"

namespace cutover::cli {

// Returns the process's exit code; throws base::Error for main to print.
int execute(const Invocation& invocation, const base::Stop& stop);

}  // namespace cutover::cli
