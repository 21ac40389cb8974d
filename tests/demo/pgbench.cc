#include "tests/demo/pgbench.h"

#include <cstdlib>

#include "replication/base/error.h"
#include "replication/base/subprocess.h"

namespace demo {

namespace base = replication::base;
namespace postgres = replication::postgres;

namespace {

harness::ProcessOptions process_options(const postgres::ConnInfo& info, int clients, double rate,
                                        const harness::TempDir& directory) {
  // A failed transaction is a finding, never repeated (--max-tries=1 is the default before and after 15).
  return {.argv = {"pgbench", "--no-vacuum", "--client", std::to_string(clients), "--jobs", "1", "--rate",
                   std::to_string(rate), "--time", "86400", "--builtin", "tpcb-like", "--failures-detailed",
                   "--max-tries", "1"},
          .env = info.environment(),
          .stdout_path = directory.file("output"),
          .stderr_path = directory.file("output")};
}

std::int64_t number_after(const std::string& text, const std::string& words) {
  const auto at = text.find(words);
  return at == std::string::npos ? -1 : std::strtoll(text.c_str() + at + words.size(), nullptr, 10);
}

}  // namespace

void Pgbench::initialise(const postgres::ConnInfo& info, int scale, const base::Stop& stop) {
  const auto result =
      base::run_command({.argv = {"pgbench", "--initialize", "--quiet", "--scale", std::to_string(scale)},
                         .env = info.environment(),
                         .stdin_text = {}},
                        base::Deadline::in(base::milliseconds(600'000)), stop);
  if (result.exit_code != 0) {
    throw base::Error("pgbench --initialize ended with code " + std::to_string(result.exit_code) + ": " +
                      result.errors);
  }
}

Pgbench::Pgbench(const postgres::ConnInfo& info, int clients, double rate)
    : directory_("pgcut-bench"), process_(process_options(info, clients, rate, directory_)) {}

PgbenchResult Pgbench::stop(base::Deadline deadline) {
  // The alarm is how --time ends a run: every client finishes its transaction and the summary is printed.
  // SIGINT would end it in the middle of things.
  process_.signal(SIGALRM);
  const int code = process_.wait(deadline);
  auto result = parse_pgbench(output());
  result.exit_code = code;
  return result;
}

PgbenchResult parse_pgbench(const std::string& output) {
  PgbenchResult result;
  result.processed = number_after(output, "number of transactions actually processed: ");
  result.failed = number_after(output, "number of failed transactions: ");
  result.output = output;
  return result;
}

}  // namespace demo
