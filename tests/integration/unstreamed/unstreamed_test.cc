// What no stream carries: unlogged tables, large objects and materialized views that change after they were
// brought up to date and before the fence.
#include <doctest/doctest.h>
#include <functional>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

// Each expects one value of all that the stream doesn't carry.
constexpr const char* kObjects = R"(
  CREATE SCHEMA "un Logged";
  CREATE UNLOGGED TABLE "un Logged".parent (id int PRIMARY KEY, note text);
  CREATE UNLOGGED TABLE "un Logged".child (id bigint GENERATED ALWAYS AS IDENTITY, parent int REFERENCES "un Logged".parent,
    twice int GENERATED ALWAYS AS (parent * 2) STORED);
  CREATE TABLE part (id int, PRIMARY KEY (id)) PARTITION BY LIST (id);
  CREATE UNLOGGED TABLE part_unlogged PARTITION OF part FOR VALUES IN (1, 2);
  CREATE TABLE part_logged PARTITION OF part DEFAULT;
  INSERT INTO "un Logged".parent SELECT i, repeat('ä', i) FROM generate_series(1, 3000) i;
  INSERT INTO "un Logged".child (parent) SELECT i FROM generate_series(1, 3000) i;
  INSERT INTO part VALUES (1), (3);
  SELECT lo_from_bytea(7001, 'first'), lo_from_bytea(7002, 'gone soon');
  CREATE MATERIALIZED VIEW made AS SELECT max(id) AS at FROM shop.bank_transfer;
  CREATE UNIQUE INDEX ON made (at);
  CREATE MATERIALIZED VIEW later AS SELECT sum(at) FROM made WITH NO DATA;
)";
constexpr const char* kState = R"(
  SELECT (SELECT count(*) || md5(string_agg(p::text, ',' ORDER BY id)) FROM "un Logged".parent p) || ' ' ||
         (SELECT count(*) || md5(string_agg(c::text, ',' ORDER BY id)) FROM "un Logged".child c) || ' ' ||
         (SELECT string_agg(id::text, ',' ORDER BY id) FROM part) || ' ' ||
         (SELECT string_agg(oid || ' ' || convert_from(lo_get(oid), 'UTF8'), ',' ORDER BY oid)
            FROM pg_largeobject_metadata WHERE oid BETWEEN 7000 AND 7009)
)";

std::string state(harness::Cluster& server) {
  return server.value(kDatabase, kState).value_or("nothing");
}

constexpr const char* kTable = R"(UPDATE "un Logged".parent SET note = 'late' || id)";
constexpr const char* kLeaf =
    "UPDATE part SET id = 3 - id WHERE id < 3; INSERT INTO part SELECT max(id) + 1 FROM part";
constexpr const char* kObject =
    "SELECT lo_put(7001, 0, 'F'); SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 7002; "
    "SELECT lo_from_bytea(7003, 'new')";
constexpr const char* kView = "REFRESH MATERIALIZED VIEW CONCURRENTLY made";
constexpr const char* kFirstRows = "REFRESH MATERIALIZED VIEW later";

// A hand-over that is stopped between the refresh and the fence, while `change` is made on the closing side.
harness::ToolResult hand_over(Scenario& scenario, harness::Tool& run, const std::string& verb,
                              const std::string& choice, const std::function<void()>& change) {
  const auto deadline = Deadline::in(milliseconds(180'000));
  harness::Tool asked({verb, "--unstreamed", choice, "--verify-gate", "none", "--max-pause", "45s",
                       "--max-lag", "45s", "--source", scenario.source().conninfo(kDatabase, "mover"),
                       "--target", scenario.target().conninfo(kDatabase, "mover"), "--name", "fault"});
  run.wait_frozen(deadline);
  change();
  run.thaw();
  const int code = asked.wait(deadline);
  return {.exit_code = code, .output = asked.output(), .errors = asked.errors()};
}

std::string stops(int count) {
  std::string faults;
  for (int i = 1; i <= count; ++i) {
    faults += (i == 1 ? "" : ",") + std::string("switch.before-hold:stop@") + std::to_string(i);
  }
  return faults;
}

}  // namespace

TEST_CASE(
    "what no stream carries and changes in the last moment is refused by name, or copied in the pause") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kObjects);
  const auto checked = scenario.tool({"check"});
  CHECK_MESSAGE(checked.exit_code == 0, checked.output);
  CHECK(has(checked.output, "unlogged-tables"));
  const std::vector<std::pair<std::string, std::string>> kinds{
      {kTable, "unlogged table un Logged.parent"},
      {kLeaf, "unlogged table public.part_unlogged"},
      {kObject, "3 large objects (7001, 7002, 7003)"},
      {kView, "materialized view \"public\".\"made\""},
      {kFirstRows, "materialized view \"public\".\"later\""}};
  auto run = scenario.start_run(stops(4));
  scenario.wait_state(*run, "ready");
  CHECK(state(scenario.target()) == state(scenario.source()));
  CHECK(has(scenario.tool({"verify"}).output, "3 unlogged tables"));

  const auto change = [&](const std::string& wanted) {
    return hand_over(scenario, *run, "switch", "refuse", [&] {
      for (const auto& [sql, name] : kinds) {
        if (wanted.empty() || sql == wanted) {
          scenario.source().sql(kDatabase, sql);
        }
      }
    });
  };
  for (const std::string only : {kLeaf, ""}) {
    CAPTURE(only);
    const auto refused = change(only);
    CHECK(refused.exit_code == 6);
    for (const auto& [sql, name] : kinds) {
      CHECK_MESSAGE(has(refused.errors, name) == (only.empty() || sql == only), refused.errors);
    }
    CHECK((scenario.expect_sound("a refused switch") == Side::source));
  }
  CHECK(scenario.target().value(kDatabase, "SELECT relispopulated FROM pg_class WHERE relname = 'later'") ==
        "f");

  // All of it at once, inside the pause; and the same on the way back.
  const auto all = [](harness::Cluster& server) {
    server.sql(
        kDatabase,
        R"(UPDATE "un Logged".parent SET note = note || 'r'; TRUNCATE "un Logged".child; DELETE FROM part)");
    server.sql(kDatabase, "SELECT lo_put(7001, 0, md5(random()::text)::bytea); INSERT INTO part VALUES (1)");
    server.sql(kDatabase, "INSERT INTO \"un Logged\".child (parent) VALUES (5)");
    server.sql(kDatabase, "REFRESH MATERIALIZED VIEW made");
    server.sql(kDatabase, "REFRESH MATERIALIZED VIEW later");
  };
  const auto fresh = [](harness::Cluster& opened, harness::Cluster& closed) {
    const std::string sql = "SELECT (SELECT at FROM made) >= ";
    return opened.value(kDatabase, sql + closed.value(kDatabase, "SELECT at FROM made").value()) == "t" &&
           opened.value(kDatabase, "SELECT relispopulated FROM pg_class WHERE relname = 'later'") == "t";
  };
  const auto switched = hand_over(scenario, *run, "switch", "copy", [&] { all(scenario.source()); });
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK((scenario.expect_sound("switch") == Side::target));
  CHECK(state(scenario.target()) == state(scenario.source()));
  CHECK(fresh(scenario.target(), scenario.source()));
  const auto back = hand_over(scenario, *run, "rollback", "copy", [&] { all(scenario.target()); });
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  CHECK((scenario.expect_sound("rollback") == Side::source));
  CHECK(state(scenario.target()) == state(scenario.source()));
  CHECK(fresh(scenario.source(), scenario.target()));
  scenario.stop_run(*run);
}

TEST_CASE("deferred, it is left behind and named; without data, unlogged tables arrive empty") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kObjects);
  auto run = scenario.start_run("", {"--unlogged", "no-data"});
  scenario.wait_state(*run, "ready");
  CHECK(has(scenario.tool({"report", "--format", "json"}).output, "made empty as asked"));
  const auto rows = "SELECT count(*) FROM \"un Logged\".child";
  CHECK(scenario.target().value(kDatabase, rows) == "0");
  CHECK(scenario.source().value(kDatabase, rows) == "3000");
  CHECK(scenario.target().value(kDatabase,
                                "SELECT count(*) FROM pg_indexes WHERE schemaname = 'un Logged'") == "1");
  CHECK(scenario.tool({"cancel", "--yes"}).exit_code == 0);
  run->wait(Deadline::in(milliseconds(180'000)));

  run = scenario.start_run(stops(1));
  scenario.wait_state(*run, "ready");
  const auto before = state(scenario.target());
  CHECK(before == state(scenario.source()));
  const auto switched = hand_over(scenario, *run, "switch", "defer", [&] {
    for (const auto* sql : {kTable, kObject, kView}) {
      scenario.source().sql(kDatabase, sql);
    }
  });
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors);
  for (const auto* name : {"unlogged table un Logged.parent", "3 large objects (7001, 7002, 7003)",
                           "materialized view \"public\".\"made\""}) {
    CHECK_MESSAGE(has(switched.output, name), switched.output);
    CHECK(has(scenario.tool({"report", "--format", "json"}).output, "left behind on the source, as asked: "));
  }
  CHECK((scenario.expect_sound("switch") == Side::target));
  CHECK(state(scenario.target()) == before);
  // The view is up to date all the same: made again from what is there.
  CHECK(scenario.target().value(
            kDatabase, "SELECT at >= " + scenario.source().value(kDatabase, "SELECT at FROM made").value() +
                           " FROM made") == "t");
  CHECK(scenario.tool({"rollback", "--unstreamed", "refuse"}).exit_code == 0);
  CHECK(state(scenario.source()) == before);
  scenario.stop_run(*run);
}

TEST_CASE(
    "what was left behind is named and finished where the controller dies behind the point of no return") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE UNLOGGED TABLE noted (id int); CREATE TABLE base (id int PRIMARY KEY); "
          "CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM base");
  auto run = scenario.start_run("switch.before-hold:stop@1,switch.after-commit:kill");
  scenario.wait_state(*run, "ready");
  const auto cut_off = hand_over(scenario, *run, "switch", "defer", [&] {
    scenario.source().sql(kDatabase, "INSERT INTO noted VALUES (1); INSERT INTO base VALUES (1)");
    scenario.source().sql(kDatabase, "REFRESH MATERIALIZED VIEW counted");
  });
  CHECK(cut_off.exit_code != 0);
  run->wait(Deadline::in(milliseconds(180'000)));
  run = scenario.start_run();
  scenario.wait_state(*run, "switched");
  CHECK((scenario.expect_sound("a kill") == Side::target));
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM noted") == "0");
  CHECK(scenario.target().value(kDatabase, "SELECT n FROM counted") == "1");
  const auto report = scenario.tool({"report", "--format", "json"}).output;
  CHECK(has(report, "left behind on the source, as asked: unlogged table public.noted"));
  const auto status = scenario.tool({"status", "--json"}).output;
  const auto entry = status.find("target takes writes; cut off and finished later");
  REQUIRE_MESSAGE(entry != std::string::npos, status);
  CHECK(has(status.substr(entry), "materialized view \\\"public\\\".\\\"counted\\\""));
  CHECK(status.find("cut off and finished later", entry + 40) == std::string::npos);  // recorded once
  scenario.stop_run(*run);
}

TEST_CASE(
    "a materialized view that can't be refreshed stops no run, refuses a switch by name, and is tried "
    "again") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE TABLE ratio (id int PRIMARY KEY, by int); INSERT INTO ratio VALUES (1, 1); "
          "CREATE MATERIALIZED VIEW \"Shares\" AS SELECT id, 10 / by AS share FROM ratio; "
          "CREATE MATERIALIZED VIEW of_shares AS SELECT count(*) FROM \"Shares\"; "
          "CREATE MATERIALIZED VIEW sound AS SELECT 1 AS one; "
          "UPDATE ratio SET by = 0");
  const std::string why =
      "materialized view \"public\".\"Shares\" is not refreshed on the target: division by zero";
  const auto populated = [&] {
    return scenario.target()
        .value(kDatabase,
               "SELECT string_agg(relname || ' ' || relispopulated, ', ' ORDER BY relname) FROM pg_class "
               "WHERE relkind = 'm' AND relname <> 'sales'")
        .value();
  };
  const auto shown = [&](const std::string& text) {
    return [&scenario, text] { return has(scenario.tool({"status"}).output, text); };
  };
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  CHECK(has(run->errors(), why));
  CHECK(populated() == "Shares false, of_shares false, sound true");
  harness::wait_until(Deadline::in(milliseconds(60'000)), "the status names it", shown(why));

  const auto refused = scenario.tool({"switch", "--verify-gate", "none"});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(has(refused.errors, "not begun: " + why), refused.errors);
  CHECK_MESSAGE(has(refused.errors, "--unstreamed defer"), refused.errors);
  CHECK((scenario.expect_sound("a refused switch") == Side::source));

  const auto deferred = scenario.tool({"switch", "--verify-gate", "none", "--unstreamed", "defer"});
  REQUIRE_MESSAGE(deferred.exit_code == 0, deferred.errors);
  CHECK_MESSAGE(has(deferred.output, why), deferred.output);
  CHECK((scenario.expect_sound("switch") == Side::target));
  CHECK(populated() == "Shares false, of_shares false, sound true");
  harness::wait_until(Deadline::in(milliseconds(60'000)), "the status names it still", shown(why));

  scenario.target().sql(kDatabase, "UPDATE ratio SET by = 5");
  scenario.stop_run(*run);
  run = scenario.start_run();
  harness::wait_until(Deadline::in(milliseconds(60'000)), "the next run has refreshed them",
                      [&] { return populated() == "Shares true, of_shares true, sound true"; });
  harness::wait_until(Deadline::in(milliseconds(60'000)), "the status names none",
                      [&] { return !has(scenario.tool({"status"}).output, "matview-stale"); });
  CHECK(scenario.tool({"rollback"}).exit_code == 0);
  CHECK((scenario.expect_sound("rollback") == Side::source));
  scenario.stop_run(*run);
}
