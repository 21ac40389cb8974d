// Unlogged sequences (PostgreSQL 15 and later): a crash of the server sets them back to their start. No id
// may come back by what the tool does.
#include <algorithm>
#include <doctest/doctest.h>
#include <string>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/sequences/verb_pair.h"
#include "tests/scenario/scenario.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using verb::cluster;
using verb::Pair;
using verb::value;

constexpr int kUnlogged = 15;

bool available(const harness::Cluster& server) {
  if (server.major() < kUnlogged) {
    MESSAGE("PostgreSQL ", server.major(), " has no unlogged sequences");
    return false;
  }
  return true;
}

TEST_CASE("bump refuses an unlogged sequence, and accepted goes beyond what a crash made it forget") {
  if (!available(cluster())) {
    return;
  }
  const Pair pair;
  pair.both(
      "CREATE UNLOGGED SEQUENCE s; CREATE UNLOGGED SEQUENCE free; CREATE TABLE t (id bigint PRIMARY KEY "
      "DEFAULT "
      "nextval('s')); CREATE UNLOGGED TABLE gone (id serial); INSERT INTO t SELECT FROM generate_series(1, "
      "700); SELECT "
      "nextval('free')");
  CHECK(has(pair.tool({"list"}).output, "public.s is UNLOGGED: a crash of the server sets it back"));
  const auto refused = pair.tool({"bump", "--yes"});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(has(refused.output, "ALTER SEQUENCE \"public\".\"s\" SET LOGGED on both sides"),
                refused.output);
  CHECK_FALSE(has(refused.output, "gone_id_seq is UNLOGGED"));  // its rows go with it
  const auto bump = [&] {
    const auto result = pair.tool({"bump", "--yes", "--accept", "sequence-unlogged"});
    CHECK_MESSAGE(result.exit_code == 0, result.errors);
  };
  bump();
  const std::string take = "SELECT max(v) FROM (SELECT nextval('free') AS v FROM generate_series(1, 6000)) x";
  const long source = std::stol(value(pair.source(), take));
  const long target = std::stol(value(pair.target(), take));
  cluster().restart(harness::Cluster::Stop::immediate);
  CHECK(value(pair.source(), "SELECT last_value FROM free") == "1");
  CHECK(value(pair.source(), "SELECT last_value FROM s") == "1");
  bump();
  // No index knows what `free` handed out, but the ledger knows what it may have.
  for (const auto& database : {pair.source(), pair.target()}) {
    CHECK(std::stol(value(database, "SELECT nextval('free')")) > std::max(source, target));
    cluster().sql(database, "INSERT INTO t DEFAULT VALUES");
  }
  CHECK(value(pair.target(), "SELECT max(id) FROM t") != value(pair.source(), "SELECT max(id) FROM t"));
}

TEST_CASE("a switch refuses an unlogged sequence; accepted, crashes of either side bring no id back") {
  Scenario scenario;
  if (!available(scenario.source()) || !available(scenario.target())) {
    return;
  }
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE UNLOGGED SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s')); INSERT "
          "INTO t "
          "SELECT FROM generate_series(1, 700)");
  const auto insert = [&](harness::Cluster& server) {
    server.sql(kDatabase, "INSERT INTO t DEFAULT VALUES");
  };
  const auto checked = scenario.tool({"check"});
  CHECK_MESSAGE(has(checked.output, "sequence-unlogged"), checked.output);
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  const auto refused = scenario.tool({"switch"});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(has(refused.errors, "sequence public.s is UNLOGGED"), refused.errors);
  scenario.stop_run(*run);

  // The source forgets what it handed out; then the target what the hand-over gave it, before it was opened.
  scenario.source().restart(harness::Cluster::Stop::immediate);
  run = scenario.start_run("switch.after-commit:stop");
  scenario.wait_state(*run, "ready");
  const auto deadline = Deadline::in(milliseconds(180'000));
  harness::Tool asked({"switch", "--accept", "sequence-unlogged:public.s", "--verify-gate", "none",
                       "--max-pause", "45s", "--max-lag", "45s", "--source",
                       scenario.source().conninfo(kDatabase, "mover"), "--target",
                       scenario.target().conninfo(kDatabase, "mover"), "--name", "fault"});
  run->wait_frozen(deadline);
  CHECK(scenario.target().value(kDatabase, "SELECT last_value FROM s") == "10700");
  scenario.target().restart(harness::Cluster::Stop::immediate);
  CHECK(scenario.target().value(kDatabase, "SELECT last_value FROM s") == "1");
  run->kill9();
  run = scenario.start_run();
  scenario.wait_state(*run, "switched");
  insert(scenario.target());
  CHECK(scenario.target().value(kDatabase, "SELECT max(id) FROM t") == "10701");

  // It forgets them again, in the rollback window: the way back is beyond all it may have made.
  scenario.target().restart(harness::Cluster::Stop::immediate);
  harness::wait_until(deadline, "the alarm",
                      [&] { return has(scenario.tool({"status"}).output, "public.s on target: "); });
  const auto back = scenario.tool({"rollback", "--accept", "sequence-unlogged:public.s"});
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  insert(scenario.source());
  CHECK(std::stol(scenario.source().value(kDatabase, "SELECT max(id) FROM t").value_or("0")) > 20'700);
  scenario.stop_run(*run);
}

}  // namespace
