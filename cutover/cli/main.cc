// pgcutover moves a live PostgreSQL database to another server. The process's main: signals, logging, exit
// code.
#include <exception>
#include <iostream>
#include <signal.h>
#include <unistd.h>

#include "cutover/cli/options.h"
#include "cutover/cli/verbs.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/base/redaction.h"
#include "replication/base/stop.h"

namespace {

namespace base = replication::base;

base::Stop* stop_of_process = nullptr;

// The first signal asks for a clean stop (inside a pause: undo); the second doesn't wait for it. A hand-over
// that is under way then is settled by the guardian.
extern "C" void on_signal(int) {
  if (stop_of_process->requested()) {
    _exit(static_cast<int>(base::ExitCode::interrupted));
  }
  stop_of_process->request();
}

void listen_for_signals(base::Stop& stop) {
  stop_of_process = &stop;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);  // a lost peer is an error code of write, not the end
}

int fail(const base::Error& error) {
  std::cerr << "pgcutover: error: " << base::redact(error.describe()) << "\n";
  return static_cast<int>(error.exit_code());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    static base::Stop stop;
    listen_for_signals(stop);
    const auto invocation = cutover::cli::parse(argc, argv);
    base::log::configure(invocation.log_level, invocation.log_format);
    for (const auto& warning : invocation.warnings) {
      base::log::warn(warning);
    }
    return cutover::cli::execute(invocation, stop);
  } catch (const base::Error& error) {
    return fail(error);
  } catch (const std::exception& error) {
    return fail(base::Bug(std::string("unexpected: ") + error.what()));
  }
}
