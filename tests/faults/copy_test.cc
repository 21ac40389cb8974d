// The way to the gate, disturbed while changes go on: lines that are cut, servers and controllers that die,
// at chosen moments and at any. Whatever happens, it goes on by itself or when it is called again, and both
// sides are equal.
#include <csignal>
#include <cstdlib>
#include <random>

#include "tests/faults/copy_stage.h"

using namespace copy_faults;

namespace {

constexpr milliseconds kOutage{600};

// The line is cut, and nobody gets through for a moment.
void cut(harness::TcpProxy& line) {
  const replication::base::Stop never;
  line.set_refusing(true);
  line.cut();
  never.wait(Deadline::in(kOutage));  // how long the fault lasts
  line.set_refusing(false);
}

std::uint32_t from_environment(const char* name, std::uint32_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<std::uint32_t>(std::stoul(value));
}

std::string table_copy(Scenario& scenario) {
  return scenario.target()
      .value(kDatabase, "SELECT string_agg(t::text, '|' ORDER BY schema, name) FROM pgcutover.table_copy t")
      .value_or("");
}

}  // namespace

TEST_CASE("a line that is cut while tables are copied, indexes built and changes caught up with is mended") {
  Scenario scenario({}, {.proxied = true});
  make_large(scenario);
  // An index whose build waits for a lock that the test holds: the line is cut in its middle.
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE FUNCTION shop.held(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN "
          "IF $1 = 50 THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(4711); END IF; RETURN $1; END $$;"
          "CREATE INDEX large_held ON shop.large (shop.held(id))");
  const std::vector<std::string> options{"--max-rate=2"};
  const std::string fault = "run.after-indexes:stop";
  for (const Side side : {Side::source, Side::target}) {
    INFO("cut to the " << (side == Side::source ? "source" : "target"));
    Churn churn(scenario);
    auto run = scenario.start_run(fault, options);
    const auto go_on = [&](const std::string& until, const std::function<bool()>& condition) {
      return reach(scenario, run, until, condition, options, fault);
    };
    go_on("the large table is copied",
          [&] { return at_work(scenario.target(), "COPY \"shop\".\"large\"%"); });
    auto blocker = scenario.target().connect(kDatabase);
    blocker.exec("SELECT pg_advisory_lock(4711)");
    cut(scenario.line(side));
    const int copied_again =
        go_on("the index is built", [&] { return at_work(scenario.target(), "%CREATE INDEX large_held%"); });
    CHECK((copied_again > 0 || run->errors().find("tried again") != std::string::npos));
    cut(scenario.line(side));
    blocker.exec("SELECT pg_advisory_unlock(4711)");
    go_on("the indexes are there", [&] { return run->frozen(); });
    blocker.exec("BEGIN; LOCK TABLE shop.large IN ACCESS EXCLUSIVE MODE");
    churn.wait_more(10);
    run->thaw();
    go_on("the stream waits for the lock", [&] {
      return scenario.target().value(kDatabase,
                                     "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = "
                                     "'shop.large'::regclass") != "0";
    });
    cut(scenario.line(side));
    blocker.exec("ROLLBACK");
    reach_ready(scenario, run, options);
    expect_same(scenario, churn, "three cuts");
    CHECK(scenario.target().value(kDatabase,
                                  "SELECT count(*) FILTER (WHERE indisvalid) || '/' || count(*) FROM "
                                  "pg_index WHERE indrelid = 'shop.large'::regclass") == "3/3");
    cancel(scenario, *run);
  }
}

// A table's rows are its own snapshot's: what the stream brings of it is filtered by that one.
TEST_CASE("copied table by table, killed and called again under load, nothing is lost or doubled") {
  Scenario scenario;
  make_large(scenario);
  const std::vector<std::string> options{"--snapshot=per-table", "--split-above=1"};
  for (const char* fault : {"copy.part-before-commit:kill@2", "copy.table-done:kill@4"}) {
    INFO("killed at " << std::string(fault));
    Churn churn(scenario);
    auto run = scenario.start_run(fault, options);
    CHECK_MESSAGE(run->wait(seconds(180)) == 128 + SIGKILL, run->errors());
    churn.wait_more(10);
    run = scenario.start_run({}, options);
    CHECK(reach_ready(scenario, run, options) == 0);
    CHECK(scenario.target().value(kDatabase,
                                  "SELECT count(*) FROM pgcutover.table_copy WHERE snapshot IS NULL") == "0");
    expect_same(scenario, churn, fault);

    // And once more where nothing is left to do.
    scenario.stop_run(*run);
    const auto copied = table_copy(scenario);
    const auto rows = content(scenario.target(), kLarge);
    run = scenario.start_run({}, options);
    CHECK(reach_ready(scenario, run, options) == 0);
    CHECK(table_copy(scenario) == copied);
    CHECK(content(scenario.target(), kLarge) == rows);
    CHECK((scenario.expect_sound(fault) == Side::source));
    cancel(scenario, *run);
  }
}

// Two faults a round, at moments and of kinds that the seed decides: for `make soak`.
TEST_CASE("random faults on the way to the gate: a dead controller, dead servers, lines that are cut" *
          doctest::skip(std::getenv("PGCUTOVER_TEST_SEEDS") == nullptr)) {
  const auto first = from_environment("PGCUTOVER_TEST_SEED", 1);
  const auto rounds = from_environment("PGCUTOVER_TEST_SEEDS", 1);
  Scenario scenario({}, {.proxied = true});
  make_large(scenario);
  for (auto seed = first; seed < first + rounds; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](std::uint32_t limit) { return static_cast<int>(random() % limit); };
    std::vector<std::string> options{"--max-rate=" + std::to_string(4 + below(12))};
    if (below(2) == 0) {
      options.emplace_back("--snapshot=per-table");
    }
    if (below(2) == 0) {
      options.emplace_back("--split-above=1");
    }
    std::string story = "seed " + std::to_string(seed) + ":";
    Churn churn(scenario);
    auto run = scenario.start_run({}, options);
    for (int fault = 0; fault < 2; ++fault) {
      const replication::base::Stop never;
      const milliseconds moment{200 + below(3500)};
      never.wait(Deadline::in(moment));  // any moment is as good as another
      if (!run->running()) {
        run = scenario.start_run({}, options);
      }
      const int kind = below(5);
      story += " " + std::to_string(moment.count()) + " ms ";
      switch (kind) {
        case 0:
          story += "kill -9 of the controller,";
          run->kill9();
          break;
        case 1:
        case 2: {
          story += kind == 1 ? "kill -9 of the source," : "kill -9 of the target,";
          auto& server = kind == 1 ? scenario.source() : scenario.target();
          server.kill9();
          server.start();
          break;
        }
        default:
          story += kind == 3 ? "cut to the source," : "cut to the target,";
          cut(scenario.line(kind == 3 ? Side::source : Side::target));
      }
    }
    INFO(story);
    const int again = reach_ready(scenario, run, options);
    MESSAGE(story << " called again " << again << " times");
    // The run may have been ready before the last fault: a comparison that is cut off by it says so.
    constexpr int kDiffers = 7;
    harness::wait_until(Deadline::in(milliseconds(180'000)), "a comparison gets through", [&] {
      const int code = scenario.tool({"verify"}).exit_code;
      return code == 0 || code == kDiffers;
    });
    expect_same(scenario, churn, story);
    CHECK((scenario.expect_sound(story, scenario::Refusals::before) == Side::source));
    cancel(scenario, *run);
    scenario.source().sql(kDatabase, "TRUNCATE shop.large");
    scenario.source().sql(kDatabase,
                          "INSERT INTO shop.large (id, v) SELECT i, (SELECT string_agg(md5(i::text || g), "
                          "'') FROM generate_series(1, 16) g) FROM generate_series(1, " +
                              std::to_string(kRows) + ") i");
  }
}
