#include "tests/bench/stream/variants.h"

#include <algorithm>
#include <chrono>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "tests/harness/process.h"

namespace bench {
namespace {

namespace base = replication::base;

constexpr base::milliseconds kRunMax{1'200'000};

// Time and CPU between two moments.
class Meter {
 public:
  explicit Meter(Pair& pair)
      : pair_(pair),
        source_(server_cpu_seconds(pair.source())),
        target_(server_cpu_seconds(pair.target())),
        stolen_(stolen_cpu_seconds()),
        begin_(base::Clock::now()) {}
  Sample read() const {
    Sample sample;
    sample.seconds = std::chrono::duration<double>(base::Clock::now() - begin_).count();
    sample.source_cpu = server_cpu_seconds(pair_.source()) - source_;
    sample.target_cpu = server_cpu_seconds(pair_.target()) - target_;
    sample.stolen = stolen_cpu_seconds() - stolen_;
    return sample;
  }

 private:
  Pair& pair_;
  double source_, target_, stolen_;
  base::Clock::time_point begin_;
};

Sample run_pgcutover(Pair& pair) {
  const harness::TempDir directory("pgcut-play");
  const Meter meter(pair);
  auto process = start_play(pair, directory.file("log"));
  try {
    pair.wait_end();
  } catch (const base::Error&) {
    throw base::Error("pgcutover's run failed: " + harness::last_lines(directory.file("log"), 5));
  }
  auto sample = meter.read();
  sample.tool_cpu = process_cpu_seconds(process.pid());
  sample.tool_peak_kib = process_peak_kib(process.pid());
  process.end(SIGTERM, base::Deadline::in(base::milliseconds{10'000}));
  return sample;
}

Sample run_native(Pair& pair, const std::string& streaming) {
  create_subscription(pair, streaming);
  const Meter meter(pair);
  pair.target().sql(kDatabase, "ALTER SUBSCRIPTION bench ENABLE");
  pair.wait_end();
  const auto sample = meter.read();
  drop_subscription(pair);
  return sample;
}

// Its failures are results too: they are told, and the next run goes on.
Sample run_peer(Pair& pair) {
  if (!pair.peer()) {
    throw base::Error("pgcopydb is to be named in --variants");
  }
  pair.peer()->reset();
  const Meter meter(pair);
  const bool ended = pair.peer()->follow(pair.end_lsn());
  auto sample = meter.read();
  pair.peer()->drop_slot();
  if (!ended) {
    sample.remark = "didn't finish";
    return sample;
  }
  try {
    pair.check_equal();
  } catch (const base::Error&) {
    sample.remark = "the sides differ";
  }
  return sample;
}

Sample run_floor(Pair& pair) {
  const harness::TempDir directory("pgcut-floor");
  const Meter meter(pair);
  std::string program = pair.source().bin_directory() + "/pg_recvlogical";
  if (!std::filesystem::exists(program)) {
    program = "pg_recvlogical";
  }
  harness::Process process(
      {.argv = {program, "-d", pair.source().conninfo(kDatabase), "--slot", kSlot, "--start", "-f",
                "/dev/null", "-E", pair.end_lsn(), "-o", "proto_version=1", "-o",
                std::string("publication_names=") + kPublication, "-o", "binary=true"},
       .stderr_path = directory.file("log")});
  if (process.wait(base::Deadline::in(kRunMax)) != 0) {
    throw base::Error("pg_recvlogical failed: " + harness::last_lines(directory.file("log"), 5));
  }
  return meter.read();
}

}  // namespace

harness::Process start_play(Pair& pair, const std::string& log) {
  return harness::Process({.argv = {"/proc/self/exe", "play", pair.source().conninfo(kDatabase),
                                    pair.target().conninfo(kDatabase), kSlot, kPublication},
                           .stdout_path = log,
                           .stderr_path = log});
}

void create_subscription(Pair& pair, const std::string& streaming) {
  pair.target().sql(
      kDatabase, "CREATE SUBSCRIPTION bench CONNECTION " +
                     replication::postgres::quote_literal(pair.source().conninfo(kDatabase)) +
                     " PUBLICATION " + kPublication +
                     " WITH (create_slot = false, enabled = false, copy_data = false, slot_name = '" + kSlot +
                     "', binary = true, streaming = " + streaming + ")");
}

void drop_subscription(Pair& pair) {
  pair.target().sql(kDatabase, "ALTER SUBSCRIPTION bench DISABLE");
  pair.target().sql(kDatabase, "ALTER SUBSCRIPTION bench SET (slot_name = NONE)");
  pair.target().sql(kDatabase, "DROP SUBSCRIPTION bench");
}

std::vector<std::string> all_variants(Pair& pair) {
  std::vector<std::string> variants{"pgcutover", "native-off", "native-on"};
  if (pair.source().major() >= 16 && pair.target().major() >= 16) {
    variants.emplace_back("native-parallel");
  }
  variants.emplace_back("floor");
  return variants;
}

Sample run_variant(Pair& pair, const std::string& variant) {
  pair.reset();
  if (variant == "floor") {
    return run_floor(pair);
  }
  if (variant == "pgcopydb") {
    return run_peer(pair);
  }
  const auto sample = variant == "pgcutover" ? run_pgcutover(pair) : run_native(pair, variant.substr(7));
  pair.check_equal();
  return sample;
}

}  // namespace bench
