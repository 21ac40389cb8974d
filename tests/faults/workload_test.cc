// For `make soak`: an application changes everything it has, while sessions, servers and controllers are
// killed at any moment, for as many disturbances as are asked for; with every second seed it does so from
// before the slot is made. In the end both sides have the same rows, no change met another row than its own,
// and the source was never told that something is safe which the target lost.
#include "tests/faults/workload.h"

#include <atomic>
#include <cstdlib>
#include <random>

#include "replication/base/lsn.h"
#include "tests/faults/copy_stage.h"
#include "tests/harness/text.h"

using namespace copy_faults;

namespace {

constexpr int kClients = 3;

std::uint32_t from_environment(const char* name, std::uint32_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<std::uint32_t>(std::stoul(value));
}

// Clients that call tx() until they are stopped.
class Load {
 public:
  Load(Scenario& scenario, std::uint32_t seed) {
    for (int client = 0; client < kClients; ++client) {
      const auto own_seed = std::to_string((seed * kClients + static_cast<std::uint32_t>(client)) % 1000);
      threads_.emplace_back([this, &scenario, own_seed] { work(scenario.source(), own_seed); });
    }
  }
  ~Load() { stop(); }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  void stop() {
    ended_.request();
    threads_.clear();
  }
  int committed() const { return committed_; }

 private:
  void work(const harness::Cluster& server, const std::string& seed) {
    constexpr milliseconds kAgain{50};
    std::optional<replication::postgres::Connection> session;
    while (!ended_.requested()) {
      try {
        if (!session || !session->usable()) {
          session.reset();
          session.emplace(server.connect(kDatabase, "app"));
          session->exec("SELECT setseed(0." + seed + ")");
        }
        session->exec("CALL app.tx()");
        ++committed_;
      } catch (const replication::base::Error& error) {
        // 'undo', two that waited for each other, or the source is away.
        if (error.sqlstate().empty() || !error.connection_usable()) {
          ended_.wait(Deadline::in(kAgain));
        }
      }
    }
  }

  replication::base::Stop ended_;
  std::atomic<int> committed_{0};
  std::vector<std::jthread> threads_;
};

replication::base::Lsn lsn(harness::Cluster& server, const std::string& sql) {
  try {
    return replication::base::Lsn::parse(server.value(kDatabase, sql).value_or("0/0"));
  } catch (const replication::base::Error&) {
    return {};  // a controller that begins ends other sessions on the target
  }
}

void terminate(harness::Cluster& server, const std::string& pids) {
  try {
    server.sql(kDatabase, "SELECT pg_terminate_backend(pid) FROM " + pids);
  } catch (const replication::base::Error&) {  // as above
  }
}

constexpr const char* kApplied = "SELECT applied_lsn FROM pgcutover.progress WHERE direction = 'forward'";

// The target loses what it hadn't written yet. Nothing of it may have been confirmed.
void crash_target(Scenario& scenario, harness::Tool& run) {
  scenario.target().kill9();
  try {
    run.freeze();
  } catch (const replication::base::Error&) {  // it ended, see below where it may
    scenario.target().start();
    return;
  }
  const auto confirmed = lsn(scenario.source(),
                             "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = "
                             "'pgcutover_fault_forward'");
  scenario.target().start();
  const auto applied = lsn(scenario.target(), kApplied);
  CHECK_MESSAGE(applied >= confirmed, applied.to_string() << " applied, confirmed " << confirmed.to_string());
  run.thaw();
}

std::string disturb(Scenario& scenario, Run& run, int kind) {
  switch (kind) {
    case 0:
    case 1:
    case 2:
      terminate(scenario.target(), "pg_stat_activity WHERE application_name LIKE 'pgcutover apply%'");
      return "apply";
    case 3:
    case 4:
      terminate(scenario.source(), "pg_stat_replication");
      return "walsender";
    case 5:
    case 6:
      crash_target(scenario, *run);
      return "target";
    case 7:
      scenario.source().kill9();
      scenario.source().start();
      return "source";
    default:
      run->kill9();
      run = scenario.start_run();
      return "controller";
  }
}

// The slot is made while transactions run. Where the server can't decode what spans the end of that, the run
// says so, and a person does what it says: at first without, then with what else it says, holding back
// TRUNCATE until the slot is there.
Run start_under_load(Scenario& scenario, std::optional<Load>& load, std::uint32_t seed, std::string& story) {
  constexpr int kUnderLoad = 3;
  for (int tries = 1;; ++tries) {
    if (tries > kUnderLoad) {
      load.reset();
    }
    auto run = scenario.start_run();
    if (!load) {
      run->wait_output("step slot done", seconds(180));
      load.emplace(scenario, seed);
    }
    wait_until(seconds(600), "the stream runs, or can't",
               [&] { return !run->running() || scenario.reported_state(*run) == "ready"; });
    const auto told = run->errors();
    if (harness::has(told, "; it is made again")) {
      story += " slot again";
    }
    if (harness::has(told, "; going on")) {
      story += " slot at risk";
    }
    if (run->running()) {
      return run;
    }
    REQUIRE_MESSAGE(run->wait(seconds(1)) == 8, told);
    REQUIRE_MESSAGE(harness::has(told, "truncated, rewritten or created while the slot was made"), told);
    REQUIRE_MESSAGE(tries <= kUnderLoad, told);
    const auto cancelled = scenario.tool({"cancel", "--yes"});
    REQUIRE_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
    story += " copy again";
  }
}

}  // namespace

TEST_CASE("transactions by chance arrive once and in order, whatever is killed meanwhile") {
  const auto first = from_environment("PGCUTOVER_TEST_SEED", 1);
  const auto rounds = from_environment("PGCUTOVER_TEST_SEEDS", 1);
  const auto disturbances = from_environment("PGCUTOVER_TEST_DISTURBANCES", 30);
  for (auto seed = first; seed < first + rounds; ++seed) {
    std::mt19937 random(seed);
    std::string story = "seed " + std::to_string(seed) + ":";
    Scenario scenario;
    scenario.source().sql(kDatabase, "GRANT CREATE ON DATABASE shop TO app");
    scenario.source().connect(kDatabase, "app").exec(workload::kSql);
    std::optional<Load> load;
    Run run;
    if (seed % 2 == 1) {
      load.emplace(scenario, seed);
      run = start_under_load(scenario, load, seed, story);
    } else {
      run = scenario.start_run();
      scenario.wait_state(*run, "ready");
      load.emplace(scenario, seed);
    }
    const int before = load->committed();
    bool begins = false;  // a controller that hasn't come to its stream yet may end with a server that dies
    for (std::uint32_t i = 0; i < disturbances; ++i) {
      const milliseconds moment{50 + static_cast<int>(random() % 1500)};
      replication::base::Stop::never().wait(Deadline::in(moment));  // any moment is as good as another
      begins = begins && scenario.reported_state(*run) != "ready";
      if (!run->running()) {
        INFO(story);
        REQUIRE_MESSAGE(begins, run->errors());
        run = scenario.start_run();
      }
      const auto what = disturb(scenario, run, static_cast<int>(random() % 9));
      story += " " + what;
      begins = begins || what == "controller";
    }
    if (begins) {
      reach_ready(scenario, run, {});
    }
    INFO(story);
    wait_until(seconds(180), "transactions were committed", [&] { return load->committed() > before + 20; });
    load->stop();
    const auto end = lsn(scenario.source(), "SELECT pg_current_wal_insert_lsn()");
    wait_until(seconds(600), "everything was applied", [&] {
      REQUIRE_MESSAGE(run->running(), run->errors());
      return lsn(scenario.target(), kApplied) >= end;
    });
    for (const std::string table : workload::kTables) {
      CHECK_MESSAGE(content(scenario.target(), "app." + table) == content(scenario.source(), "app." + table),
                    table);
    }
    MESSAGE(story << " " << load->committed() << " transactions");
    CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM pgcutover.conflict") == "0");
    CHECK((scenario.expect_sound(story, scenario::Refusals::before) == Side::source));
    scenario.expect_equal(story);
    scenario.stop_run(*run);
  }
}
