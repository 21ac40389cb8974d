// Sequences that are dropped, renamed or exchanged between the gates of a switch and its pause: the switch is
// undone by name, and the source goes on.
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;

TEST_CASE("a sequence that changes between the gates and the pause undoes the switch, on either side") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE SEQUENCE loose; SELECT nextval('loose'); CREATE SEQUENCE one; CREATE SEQUENCE two; "
          "CREATE TABLE fed (id bigint PRIMARY KEY DEFAULT nextval('one')); "
          "INSERT INTO fed SELECT FROM generate_series(1, 30)");
  struct Change {
    bool on_source;
    std::string sql, said, back;
  };
  const std::vector<Change> changes{
      {true, "DROP SEQUENCE loose", "sequence public.loose on the source was dropped while the switch began",
       "CREATE SEQUENCE loose; ALTER SEQUENCE loose OWNER TO app"},
      {true, "ALTER SEQUENCE loose RENAME TO other",
       "sequence public.other is missing on the side that opens", "ALTER SEQUENCE other RENAME TO loose"},
      {false, "ALTER SEQUENCE loose RENAME TO other",
       "sequence public.loose is missing on the side that opens", "ALTER SEQUENCE other RENAME TO loose"},
      {true, "ALTER TABLE fed ALTER id SET DEFAULT nextval('two')",
       "column public.fed.id is fed by public.two on the side that closes",
       "ALTER TABLE fed ALTER id SET DEFAULT nextval('one')"},
  };
  const auto deadline = Deadline::in(milliseconds(180'000));
  std::string faults;
  for (std::size_t i = 1; i <= changes.size(); ++i) {
    faults += (i == 1 ? "" : ",") + std::string("switch.before-hold:stop@") + std::to_string(i);
  }
  auto run = scenario.start_run(faults);
  scenario.wait_state(*run, "ready");
  for (const auto& change : changes) {
    CAPTURE(change.sql);
    harness::Tool asked({"switch", "--verify-gate", "none", "--max-pause", "45s", "--max-lag", "45s",
                         "--source", scenario.source().conninfo(kDatabase, "mover"), "--target",
                         scenario.target().conninfo(kDatabase, "mover"), "--name", "fault"});
    run->wait_frozen(deadline);
    auto& server = change.on_source ? scenario.source() : scenario.target();
    server.sql(kDatabase, change.sql);
    run->thaw();
    CHECK(asked.wait(deadline) == 6);
    CHECK_MESSAGE(has(asked.errors(), change.said), asked.errors());
    CHECK((scenario.expect_sound(change.sql) == scenario::Side::source));
    server.sql(kDatabase, change.back);
  }
  // As it was again: it goes through, and each value is right.
  const auto switched = scenario.tool({"switch"});
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK(scenario.target().value(kDatabase, "SELECT nextval('one') > 10000") == "t");
  scenario.target().connect(kDatabase, "app").exec("INSERT INTO fed DEFAULT VALUES");
  scenario.stop_run(*run);
}

}  // namespace
