// pgcutover_demo: `make demo`. Exit code 0 where every proof held, 1 where one didn't or a verb failed (the
// last line says which), 2 for a wrong option, 130 after an interrupt; the servers are gone in every case.
#include <csignal>
#include <cstdio>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "tests/demo/acts.h"
#include "tests/demo/options.h"

namespace {

namespace base = replication::base;

base::Stop& interrupted() {
  static base::Stop stop;
  return stop;
}

int play(int argc, char** argv) {
  bool help = false;
  const auto options = demo::parse_options(argc, argv, help);
  if (help) {
    std::printf("%s", demo::usage().c_str());
    return 0;
  }
  demo::Play play(options, interrupted());
  const bool proved = play.run();
  std::printf("%s\n", proved ? "demo: every proof held" : "demo: FAILED");
  return proved ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  interrupted();  // made before a signal can ask for it
  const auto stop = [](int) { interrupted().request(); };
  std::signal(SIGINT, stop);
  std::signal(SIGTERM, stop);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return play(argc, argv);
  } catch (const base::Error& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "demo: FAILED: %s\n", error.describe().c_str());
    if (error.exit_code() == base::ExitCode::usage) {
      std::fprintf(stderr, "\n%s", demo::usage().c_str());
    }
    const auto code = error.exit_code();
    return code == base::ExitCode::usage || code == base::ExitCode::interrupted ? static_cast<int>(code) : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "demo: FAILED: %s\n", error.what());
    return 1;
  }
}
