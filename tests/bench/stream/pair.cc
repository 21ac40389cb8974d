#include "tests/bench/stream/pair.h"

#include <algorithm>
#include <sstream>
#include <unistd.h>

#include "replication/apply/progress.h"
#include "replication/base/error.h"
#include "tests/harness/process.h"
#include "tests/harness/wait.h"

namespace bench {
namespace {

namespace apply = replication::apply;
namespace base = replication::base;

constexpr const char* kTemplate = "bench_start";

harness::ClusterOptions server_options(const std::string& name, const std::string& version) {
  return {.name = name,
          .version = version,
          .conf = {"shared_buffers = 512MB", "max_wal_size = 16GB", "autovacuum = off",
                   "checkpoint_timeout = 1h", "wal_sender_timeout = 0", "wal_receiver_timeout = 0",
                   "max_logical_replication_workers = 8", "max_worker_processes = 16"},
          .fsync = true};
}

// Fields 14 to 17 of /proc/PID/stat: user, system, and of children that were waited for.
double cpu_seconds(pid_t pid, bool with_children) {
  const auto stat = harness::read_file("/proc/" + std::to_string(pid) + "/stat");
  const auto end = stat.rfind(')');
  if (end == std::string::npos) {
    return 0;
  }
  std::istringstream in(stat.substr(end + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; i <= (with_children ? 17 : 15) && in >> field; ++i) {
    ticks += i >= 14 ? std::stod(field) : 0;
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

double process_cpu_seconds(pid_t pid) {
  return cpu_seconds(pid, false);
}

// A child that ends is counted by its postmaster once that has noticed: only a look at which nobody came or
// went is right.
double server_cpu_seconds(harness::Cluster& cluster) {
  for (;;) {
    const auto children = harness::children_of(cluster.pid());
    double seconds = cpu_seconds(cluster.pid(), true);
    for (const auto child : children) {
      seconds += cpu_seconds(child, false);
    }
    if (harness::children_of(cluster.pid()) == children) {
      return seconds;
    }
  }
}

double stolen_cpu_seconds() {
  std::istringstream in(harness::read_file("/proc/stat"));
  std::string field;
  for (int i = 0; i <= 8; ++i) {  // "cpu", user, nice, system, idle, iowait, irq, softirq, steal
    in >> field;
  }
  return in ? std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK)) : 0;
}

std::int64_t process_peak_kib(pid_t pid) {
  const auto status = harness::read_file("/proc/" + std::to_string(pid) + "/status");
  const auto at = status.find("VmHWM:");
  return at == std::string::npos ? -1 : std::stoll(status.substr(at + 6));
}

Pair::Pair(const Options& options)
    : options_(options),
      source_(server_options("source", options.source_version)),
      target_(server_options("target", options.target_version)) {
  source_.sql("postgres", std::string("CREATE DATABASE ") + kDatabase);
  target_.sql("postgres", std::string("CREATE DATABASE ") + kTemplate);
  workload_ = create_tables(source_, options);
  source_.sql(kDatabase, "CREATE TABLE bench_end (id int PRIMARY KEY)");
  auto tables = workload_.tables;
  tables.emplace_back("bench_end");
  source_.sql(kDatabase, "VACUUM (FREEZE, ANALYZE)");
  copy_schema();
  std::string list;
  for (const auto& table : tables) {
    list += (list.empty() ? "" : ", ") + table;
  }
  source_.sql(kDatabase, std::string("CREATE PUBLICATION ") + kPublication + " FOR TABLE " + list);
  source_.sql(kDatabase, "SELECT pg_create_logical_replication_slot('base', 'pgoutput')");
  const auto start = source_.value(
      kDatabase, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'base'");
  target_.sql(kTemplate, apply::progress_schema_sql());
  {
    auto connection = target_.connect(kTemplate);
    apply::init_progress(connection, "forward", base::Lsn::parse(start.value_or("")), 1, true);
  }
  target_.sql(kTemplate, "VACUUM (FREEZE, ANALYZE)");
  if (std::find(options.variants.begin(), options.variants.end(), "pgcopydb") != options.variants.end()) {
    copy_template();
    peer_.emplace(source_, target_, kDatabase);
  }
  run_load(source_, options_);
  source_.sql(kDatabase, "INSERT INTO bench_end VALUES (1)");
  end_lsn_ = source_.value(kDatabase, "SELECT pg_current_wal_insert_lsn()").value_or("");
  source_.sql(kDatabase, "SELECT pg_switch_wal()");
  digest_ = source_.value(kDatabase, workload_.digest).value_or("");
}

void Pair::copy_schema() {
  const harness::TempDir directory("pgcut-dump");
  const auto port = std::to_string(harness::Cluster::kPort);
  const auto command = "pg_dump -h '" + source_.host() + "' -p " + port + " -U postgres -Fc -Z0 " +
                       kDatabase + " | pg_restore --no-publications -h '" + target_.host() + "' -p " + port +
                       " -U postgres -d " + kTemplate;
  harness::ProcessOptions options{.argv = {"bash", "-c", "set -o pipefail; " + command},
                                  .stdout_path = directory.file("out"),
                                  .stderr_path = directory.file("out")};
  if (const char* client = std::getenv("PGCUTOVER_TEST_CLIENT"); client != nullptr) {
    options.env["PATH"] = std::string(client) + ":" + std::getenv("PATH");
  }
  harness::Process process(options);
  if (process.wait(base::Deadline::in(base::milliseconds{1'200'000})) != 0) {
    throw base::Error("the target can't be made: " + harness::last_lines(directory.file("out"), 5));
  }
}

void Pair::copy_template() {
  target_.sql("postgres",
              std::string("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '") +
                  kDatabase + "'");
  target_.sql("postgres", std::string("DROP DATABASE IF EXISTS ") + kDatabase);
  target_.sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " TEMPLATE " + kTemplate +
                              (target_.major() >= 15 ? " STRATEGY file_copy" : ""));
}

void Pair::reset() {
  copy_template();
  drop_slot();
  source_.sql(kDatabase, std::string("SELECT pg_copy_logical_replication_slot('base', '") + kSlot + "')");
  source_.sql("postgres", "CHECKPOINT");
  target_.sql("postgres", "CHECKPOINT");
  target_.sql(kDatabase, workload_.digest);  // its pages are warm, as those of a live target are
}

void Pair::drop_slot() {
  harness::wait_until(base::Deadline::in(base::milliseconds{30'000}), "the run's slot is free", [&] {
    return source_
               .value(
                   kDatabase,
                   std::string("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '") +
                       kSlot + "'")
               .value_or("") == "0";
  });
  source_.sql(kDatabase,
              std::string("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE "
                          "slot_name = '") +
                  kSlot + "'");
}

void Pair::wait_end() {
  auto connection = target_.connect(kDatabase);
  harness::wait_until(base::Deadline::in(base::milliseconds{1'200'000}), "the backlog is applied",
                      [&] { return connection.one_value("SELECT count(*) FROM bench_end") == "1"; });
}

void Pair::check_equal() {
  const auto digest = target_.value(kDatabase, workload_.digest).value_or("");
  if (digest != digest_) {
    throw base::Error("the sides differ: source " + digest_ + ", target " + digest);
  }
}

}  // namespace bench
