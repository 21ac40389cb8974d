// The target's disk is full in the middle of the copy, or of an index build: the run ends and says what is
// needed, the server goes on, and the next run takes up what is left.
#include "tests/faults/copy_stage.h"
#include "tests/harness/small_disk.h"
#include "tests/harness/text.h"

using namespace copy_faults;
using harness::has;

namespace {

constexpr const char* kRemedy = "HINT: make room on the target's disk, then run the same command again";

void expect_full(Scenario& scenario, harness::Tool& run, std::string_view doing) {
  CHECK(run.wait(seconds(180)) == 1);
  const auto said = run.errors();
  CHECK_MESSAGE(has(said, doing), said);
  CHECK_MESSAGE(has(said, "No space left on device"), said);
  CHECK_MESSAGE(has(said, kRemedy), said);
  CHECK_MESSAGE(!has(said, "tried again"), said);
  CHECK(has(scenario.tool({"status"}).output, "go to the source"));
}

}  // namespace

TEST_CASE("a full disk of the target ends the copy and the index build by name; with room they go on") {
  harness::SmallDisk disk(100);
  if (!disk.mounted()) {
    MESSAGE("left out: mounting a small disk takes root");
    return;
  }
  Scenario scenario({}, {.target_tablespace = disk.path()});
  scenario.target().sql("postgres", "CHECKPOINT");  // until then its files have holes
  const auto empty = disk.used_megabytes();         // another amount in each version
  disk.resize(empty + 4);
  make_large(scenario);
  // Its index is larger than the room there is beside the rows.
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE INDEX large_v ON shop.large (v);"
          "CREATE INDEX large_nv ON shop.large (n, v); CREATE INDEX large_vn ON shop.large (v, n)");
  Churn churn(scenario);
  auto run = scenario.start_run();
  expect_full(scenario, *run, "error: copying shop.");  // whichever table of those under way met it
  CHECK(scenario.target().value(kDatabase,
                                "SELECT count(*) FROM pgcutover.table_copy WHERE name = 'large'") == "0");
  disk.resize(empty + 12);
  run = scenario.start_run();
  expect_full(scenario, *run, "error: restoring CREATE INDEX large_");
  CHECK(scenario.target().value(kDatabase,
                                "SELECT count(*) FROM pgcutover.table_copy WHERE name = 'large'") == "1");
  disk.resize(200);
  run = scenario.start_run();
  CHECK(reach_ready(scenario, run, {}) == 0);
  expect_same(scenario, churn, "a full disk");
  CHECK((scenario.expect_sound("a full disk") == Side::source));
  scenario.stop_run(*run);
}
