// The program under test as a process: its output goes to files, so that it never waits for us.
//
// Threads: one owner.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/deadline.h"
#include "tests/harness/process.h"
#include "tests/harness/temp_dir.h"

namespace harness {

struct ToolOptions {
  std::map<std::string, std::string> env = {};  // see fault_environment()
  std::string binary = {};     // empty: PGCUTOVER_BIN of the environment, else the one of this build
  std::string directory = {};  // to run in
};

struct ToolResult {
  int exit_code = -1;
  std::string output;  // stdout
  std::string errors;  // stderr
  // The last line of stdout that isn't empty.
  std::string last_line() const;
};

class Tool {
 public:
  using Deadline = replication::base::Deadline;

  explicit Tool(const std::vector<std::string>& args, const ToolOptions& options = {});
  // Ends it by SIGKILL, and a guardian of its process group that doesn't end by itself within 5 s.
  ~Tool();
  Tool(const Tool&) = delete;
  Tool& operator=(const Tool&) = delete;

  // Starts it and waits. Throws TimeoutError (after SIGKILL) with what it had said.
  static ToolResult run(const std::vector<std::string>& args, Deadline deadline,
                        const ToolOptions& options = {});

  int wait(Deadline deadline);
  bool running() { return process_.running(); }
  pid_t pid() const { return process_.pid(); }
  void terminate() { process_.signal(SIGTERM); }
  void interrupt() { process_.signal(SIGINT); }
  void freeze();  // SIGSTOP; returns once it is stopped
  bool frozen() const;
  void thaw() { process_.signal(SIGCONT); }
  void kill9();  // SIGKILL; returns once it is gone (its guardian may still be at work)
  // Waits until it stopped itself (a fault point of kind `stop`).
  void wait_frozen(Deadline deadline);

  std::string output() const { return read_file(directory_.path() / "stdout"); }
  std::string errors() const { return read_file(directory_.path() / "stderr"); }
  // Waits until `text` was printed on stdout or stderr. Throws Error where it ended without.
  void wait_output(std::string_view text, Deadline deadline);

  static std::string binary();

 private:
  TempDir directory_;
  Process process_;
};

}  // namespace harness
