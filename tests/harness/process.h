// A child process that is ended and reaped with its object, and by the kernel should we die first (a test
// that ctest kills must not leave servers behind).
//
// Threads: one owner. Children are forked by one long-lived thread of the process, since the kernel's
// parent-death signal fires when the forking *thread* ends.
#pragma once

#include <csignal>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "replication/base/deadline.h"

namespace harness {

struct ProcessOptions {
  std::vector<std::string> argv = {};           // argv[0] is looked up in PATH
  std::map<std::string, std::string> env = {};  // added to our environment; an empty value takes a name away
  std::string directory = {};                   // to run in; empty = ours
  std::string stdout_path = {};                 // appended to; empty = /dev/null
  std::string stderr_path = {};                 // may be the same file
  bool unprivileged = false;                    // under root: as unprivileged_user()
  int end_signal = SIGKILL;                     // sent by the destructor, and by the kernel should we die
};

class Process {
 public:
  // In a process group of its own, so that a terminal's Ctrl-C reaches us alone. Throws Error naming argv[0].
  explicit Process(const ProcessOptions& options);
  ~Process();
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;

  pid_t pid() const { return pid_; }
  bool running() { return pid_ > 0 && !poll_exit(); }
  // 128 + signal where it was killed; nothing while it runs.
  std::optional<int> poll_exit();
  // Throws TimeoutError; the process goes on then.
  int wait(replication::base::Deadline deadline);
  void signal(int number);
  // Sends `number`, waits; SIGKILL at the deadline.
  int end(int number, replication::base::Deadline deadline);

 private:
  void destroy() noexcept;
  pid_t pid_ = -1;
  std::string name_;
  int end_signal_ = SIGKILL;
  std::optional<int> exit_code_;
};

// The children of a process, from /proc.
std::vector<pid_t> children_of(pid_t parent);

// Environment that arms fault points of the tool (replication/base/fault_point.h).
std::map<std::string, std::string> fault_environment(const std::string& fault);

}  // namespace harness
