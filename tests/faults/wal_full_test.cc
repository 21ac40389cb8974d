// The volume of the target's WAL is full, while tables are copied and while changes are streamed: that server
// dies and doesn't come back before there is room. The run ends and says what is needed, or waits; the source
// goes on in any case, and with room so does the rest.
#include "tests/faults/copy_stage.h"
#include "tests/harness/small_disk.h"
#include "tests/harness/text.h"

using namespace copy_faults;
using harness::has;

namespace {

// More than two segments of WAL.
constexpr int kMuchRows = 20'000;
constexpr const char* kMuch =
    "INSERT INTO shop.much SELECT i, (SELECT string_agg(md5(i::text || g), '') FROM generate_series(1, 60) "
    "g) "
    "FROM generate_series((SELECT count(*) FROM shop.much) + 1, (SELECT count(*) FROM shop.much) + 20000) i";

void wait_dead(Scenario& scenario, std::size_t log_from) {
  wait_until(seconds(180), "the target's WAL has no room", [&] {
    return has(std::string_view(scenario.target().log()).substr(log_from), "No space left on device");
  });
}

void make_room(Scenario& scenario, harness::SmallDisk& disk) {
  disk.resize(500);
  scenario.target().restart(harness::Cluster::Stop::immediate);
}

// What it reported before the target died is still to be read there, and the stream may begin once more where
// the target lost commits: a row that is written from here on has to arrive.
void reach_back(Scenario& scenario, Run& run, int id) {
  const auto row = std::to_string(id);
  scenario.source().connect(kDatabase, "app").exec("INSERT INTO shop.much VALUES (" + row + ", 'back')");
  reach(scenario, run, "the stream is back",
        [&] {
          return scenario.reported_state(*run) == "ready" &&
                 scenario.target().value(kDatabase, "SELECT count(*) FROM shop.much WHERE id = " + row) ==
                     "1";
        },
        {});
}

// It may have ended by itself: then with the remedy, and never as a bug.
void expect_polite(Scenario& scenario, harness::Tool& run) {
  if (!run.running()) {
    const auto said = run.errors();
    CHECK_MESSAGE(run.wait(seconds(1)) == 1, said);
    CHECK_MESSAGE(has(said, "No space left on device"), said);
    CHECK_MESSAGE(has(said, "HINT: make room on the target's disk, then run the same command again"), said);
  }
  CHECK(scenario.fence_state(Side::source) == "open");
  scenario.bank().wait_acknowledged(20, seconds(180));
}

}  // namespace

TEST_CASE("a full WAL volume of the target stops a copy and a stream, not the source; with room they go on") {
  harness::SmallDisk disk(500);
  if (!disk.mounted()) {
    MESSAGE("left out: mounting a small disk takes root");
    return;
  }
  Scenario scenario({}, {.target_wal = disk.path()});
  scenario.target().configure({"min_wal_size = 32MB"});  // fewer recycled segments
  make_large(scenario);
  scenario.source().connect(kDatabase, "app").exec("CREATE TABLE shop.much (id int PRIMARY KEY, v text)");
  scenario.source().connect(kDatabase, "app").exec(kMuch);
  Churn churn(scenario);
  disk.resize(disk.used_megabytes() + 1);
  auto run = scenario.start_run();
  INFO("run said: " << run->errors());
  wait_dead(scenario, 0);
  expect_polite(scenario, *run);
  make_room(scenario, disk);
  reach_back(scenario, run, -1);
  expect_same(scenario, churn, "a full WAL volume while tables are copied");

  Churn more(scenario);
  const auto log = scenario.target().log().size();
  disk.resize(disk.used_megabytes() + 1);
  constexpr int kTimes = 2;
  for (int i = 0; i < kTimes; ++i) {  // recycled segments are room too
    scenario.source().connect(kDatabase, "app").exec(kMuch);
  }
  wait_dead(scenario, log);
  expect_polite(scenario, *run);
  make_room(scenario, disk);
  reach_back(scenario, run, -2);
  expect_same(scenario, more, "a full WAL volume while changes are streamed");
  const auto there = content(scenario.source(), "shop.much");
  CHECK(std::stoi(there) == kMuchRows * (1 + kTimes) + 2);  // and those of reach_back()
  CHECK(content(scenario.target(), "shop.much") == there);
  CHECK((scenario.expect_sound("full WAL volumes") == Side::source));
  scenario.stop_run(*run);
}
