#include "tests/harness/tool.h"

#include <cerrno>

#include "replication/base/error.h"
#include "tests/harness/wait.h"

namespace harness {

using replication::base::Error;

namespace {

ProcessOptions process_options(const std::vector<std::string>& args, const ToolOptions& options,
                               const TempDir& directory) {
  ProcessOptions result;
  result.argv = {options.binary.empty() ? Tool::binary() : options.binary};
  result.argv.insert(result.argv.end(), args.begin(), args.end());
  result.env = options.env;
  result.directory = options.directory;
  result.stdout_path = directory.file("stdout");
  result.stderr_path = directory.file("stderr");
  return result;
}

bool group_exists(pid_t group) {
  return ::kill(-group, 0) == 0;
}

}  // namespace

std::string ToolResult::last_line() const {
  const auto end = output.find_last_not_of("\n");
  if (end == std::string::npos) {
    return {};
  }
  const auto newline = output.find_last_of('\n', end);
  const auto begin = newline == std::string::npos ? 0 : newline + 1;
  return output.substr(begin, end + 1 - begin);
}

std::string Tool::binary() {
  const char* chosen = std::getenv("PGCUTOVER_BIN");
  return chosen != nullptr && *chosen != '\0' ? chosen : PGCUTOVER_BINARY;
}

Tool::Tool(const std::vector<std::string>& args, const ToolOptions& options)
    : directory_("pgcut-tool"), process_(process_options(args, options, directory_)) {}

Tool::~Tool() {
  const auto group = process_.pid();
  try {
    process_.end(SIGKILL, Deadline::in(milliseconds(60'000)));
    wait_until(Deadline::in(milliseconds(60'000)), "the tool's guardian has ended",
               [group] { return !group_exists(group); });
  } catch (const std::exception&) {
    ::kill(-group, SIGKILL);
  }
}

ToolResult Tool::run(const std::vector<std::string>& args, Deadline deadline, const ToolOptions& options) {
  Tool tool(args, options);
  try {
    ToolResult result;
    result.exit_code = tool.wait(deadline);
    result.output = tool.output();
    result.errors = tool.errors();
    return result;
  } catch (const replication::base::TimeoutError& error) {
    throw replication::base::TimeoutError(error.message() + "; it said: " + tool.output() + tool.errors());
  }
}

int Tool::wait(Deadline deadline) {
  return process_.wait(deadline);
}

// State `T` of /proc/PID/stat.
bool Tool::frozen() const {
  const auto stat = read_file("/proc/" + std::to_string(pid()) + "/stat");
  const auto end = stat.rfind(')');
  return end != std::string::npos && end + 2 < stat.size() && stat[end + 2] == 'T';
}

void Tool::freeze() {
  process_.signal(SIGSTOP);
  wait_frozen(Deadline::in(milliseconds(60'000)));
}

void Tool::wait_frozen(Deadline deadline) {
  wait_until(deadline, "the tool is stopped", [this] {
    if (!process_.running()) {
      throw Error("the tool ended with code " + std::to_string(*process_.poll_exit()) +
                  " instead of stopping; it said: " + output() + errors());
    }
    return frozen();
  });
}

void Tool::kill9() {
  process_.signal(SIGKILL);
  process_.wait(Deadline::in(milliseconds(60'000)));
}

void Tool::wait_output(std::string_view text, Deadline deadline) {
  wait_until(deadline, "the tool says \"" + std::string(text) + "\"", [&] {
    const bool ended = !process_.running();
    if (output().find(text) != std::string::npos || errors().find(text) != std::string::npos) {
      return true;
    }
    if (ended) {
      throw Error("the tool ended with code " + std::to_string(*process_.poll_exit()) + " without saying \"" +
                  std::string(text) + "\"; it said: " + output() + errors());
    }
    return false;
  });
}

}  // namespace harness
