#include "tests/bench/stream/lag.h"

#include <optional>

#include "replication/base/error.h"
#include "tests/bench/stream/variants.h"
#include "tests/harness/process.h"
#include "tests/harness/wait.h"

namespace bench {
namespace {

namespace base = replication::base;

// Runs on the target: notes when each heartbeat became visible, until the one with id -1 is.
constexpr const char* kWatch =
    "DO $$ DECLARE last bigint := 0; newest bigint; BEGIN LOOP SELECT max(id) INTO newest FROM heartbeat; "
    "IF newest > last THEN INSERT INTO seen SELECT g, clock_timestamp() FROM generate_series(last + 1, "
    "newest) g; "
    "last := newest; END IF; EXIT WHEN EXISTS (SELECT FROM heartbeat WHERE id = -1); PERFORM "
    "pg_sleep(0.0005); "
    "COMMIT; END LOOP; END $$";

harness::Process psql(harness::Cluster& cluster, const std::string& sql) {
  return harness::Process({.argv = {"psql", "-Xq", "-d", cluster.conninfo(kDatabase), "-c", sql}});
}

}  // namespace

LagSample run_lag(Pair& pair, const Options& options, const std::string& variant) {
  const harness::TempDir directory("pgcut-lag");
  pair.source().sql(kDatabase, "TRUNCATE heartbeat RESTART IDENTITY");
  pair.reset();
  std::optional<harness::Process> tool;
  if (variant == "pgcutover") {
    tool = start_play(pair, directory.file("log"));
  } else {
    create_subscription(pair, variant.substr(7));
    pair.target().sql(kDatabase, "ALTER SUBSCRIPTION bench ENABLE");
  }
  // What earlier rounds left behind goes first, their ends and beginnings too.
  static int runs = 0;
  const auto first = std::to_string(-1000 - ++runs);
  pair.source().sql(kDatabase, "INSERT INTO heartbeat (id) VALUES (" + first + ")");
  harness::wait_until(base::Deadline::in(base::milliseconds{120'000}), "the stream has caught up", [&] {
    return pair.target()
               .value(kDatabase, "SELECT count(*) FROM heartbeat WHERE id = " + first)
               .value_or("") == "1";
  });
  pair.target().sql(kDatabase, "CREATE UNLOGGED TABLE seen (id bigint, at timestamptz)");
  harness::write_file(directory.file("beat.sql"), "INSERT INTO heartbeat DEFAULT VALUES;\n");
  auto watch = psql(pair.target(), kWatch);
  const double target_before = server_cpu_seconds(pair.target());
  const double tool_before = tool ? process_cpu_seconds(tool->pid()) : 0;
  const auto begin = base::Clock::now();
  const auto seconds = std::to_string(options.seconds);
  const auto port = std::to_string(harness::Cluster::kPort);
  const auto bench = [&](std::vector<std::string> words) {
    words.insert(words.begin(),
                 {"pgbench", "-n", "-T", seconds, "-h", pair.source().host(), "-p", port, "-U", "postgres"});
    words.emplace_back(kDatabase);
    return harness::Process({.argv = words});
  };
  auto load = bench({"-M", "prepared", "-c", "4", "-j", "1", "-R", std::to_string(options.rate)});
  auto beats = bench({"-c", "1", "-R", "20", "-f", directory.file("beat.sql")});
  const auto limit = base::Deadline::in(base::milliseconds{(options.seconds + 60) * 1000});
  if (beats.wait(limit) != 0 || load.wait(limit) != 0) {
    throw base::Error("the load failed");
  }
  pair.source().sql(kDatabase, "INSERT INTO heartbeat (id) VALUES (-1)");
  if (watch.wait(limit) != 0) {
    throw base::Error("the watch on the target failed");
  }
  const double elapsed = std::chrono::duration<double>(base::Clock::now() - begin).count();
  LagSample sample;
  sample.target_cpu = server_cpu_seconds(pair.target()) - target_before;
  if (tool) {
    sample.tool_cpu_percent = 100 * (process_cpu_seconds(tool->pid()) - tool_before) / elapsed;
    tool->end(SIGTERM, base::Deadline::in(base::milliseconds{10'000}));
  } else {
    drop_subscription(pair);
  }
  const auto lags = pair.target().sql(
      kDatabase,
      "SELECT count(*), 1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY d), "
      "1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY d), 1000 * max(d) FROM "
      "(SELECT extract(epoch FROM s.at - h.ts)::float8 AS d FROM seen s JOIN heartbeat h USING (id)) x");
  sample.seen = static_cast<int>(lags.integer(0, 0));
  sample.p50_ms = std::stod(lags.text_or(0, 1, "0"));
  sample.p99_ms = std::stod(lags.text_or(0, 2, "0"));
  sample.max_ms = std::stod(lags.text_or(0, 3, "0"));
  sample.sent =
      std::stoi(pair.source().value(kDatabase, "SELECT count(*) FROM heartbeat WHERE id > 0").value_or("0"));
  return sample;
}

}  // namespace bench
