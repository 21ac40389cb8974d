// Runs another program (pg_dump, pg_restore, a hook of the plan) and waits for it against a deadline.
// posix_spawn, no shell; the environment is passed explicitly, which is where secrets go, never argv.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/base/stop.h"

namespace replication::base {

struct Command {
  std::vector<std::string> argv;           // argv[0] is looked up in PATH
  std::map<std::string, std::string> env;  // added to our own environment
  std::string stdin_text;
};

struct CommandResult {
  int exit_code = -1;  // 128 + signal where it was killed
  std::string output;  // stdout, at most 1 MiB (the rest is read and dropped)
  std::string errors;  // stderr, likewise
};

// Throws Error where it can't be started, TimeoutError and Stopped after ending it (SIGTERM, then SIGKILL
// after 2 s).
CommandResult run_command(const Command& command, Deadline deadline, const Stop& stop);

}  // namespace replication::base
