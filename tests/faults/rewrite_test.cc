// Tables that are rewritten on the source between the slot's snapshot and their copy, under load: such a
// snapshot shows them empty, without an error.
#include "tests/faults/copy_stage.h"
#include "tests/harness/text.h"

using namespace copy_faults;
using harness::has;

TEST_CASE(
    "VACUUM FULL and another type in the middle of the copy: noticed, copied again, and told to people") {
  Scenario scenario;
  make_large(scenario);
  auto app = scenario.source().connect(kDatabase, "app");
  app.exec(
      "CREATE TABLE shop.retyped (id int PRIMARY KEY, n int, v text);"
      "INSERT INTO shop.retyped SELECT i, i, repeat(md5(i::text), 10) FROM generate_series(1, 2000) i");
  Churn churn(scenario);
  const std::vector<std::string> options{"--jobs=1"};
  auto run = scenario.start_run("copy.table-begin:stop", options);
  run->wait_frozen(seconds(180));
  app.exec("VACUUM FULL shop.large");
  // Of the same length in binary: the target would take one for the other.
  app.exec("ALTER TABLE shop.retyped ALTER n TYPE real");
  app.exec("UPDATE shop.retyped SET n = n + 0.5 WHERE id % 2 = 0");
  churn.wait_more(10);
  run->thaw();

  // What the target's column can't take isn't copied: the run ends and says what differs.
  CHECK(run->wait(seconds(180)) == 1);
  CHECK_MESSAGE(has(run->errors(), "shop.large was rewritten after the slot's snapshot"), run->errors());
  CHECK_MESSAGE(has(run->errors(), "column n of shop.retyped is real now, and was integer when the copy"),
                run->errors());
  run = scenario.start_run({}, options);
  CHECK(run->wait(seconds(180)) == 1);  // nothing was mended
  CHECK_MESSAGE(has(run->errors(), "shop.retyped has other columns on the target: n integer instead of real"),
                run->errors());
  scenario.target().sql(kDatabase, "ALTER TABLE shop.retyped ALTER n TYPE real");
  run = scenario.start_run({}, options);
  CHECK(reach_ready(scenario, run, options) == 0);
  expect_same(scenario, churn, "rewrites in the copy");
  CHECK(content(scenario.target(), "shop.retyped") == content(scenario.source(), "shop.retyped"));
  scenario.stop_run(*run);
}
