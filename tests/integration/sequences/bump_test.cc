// `pgcutover sequences bump` where it is hard: under load, twice at a time, cut off, with sequences that
// changed or ran on meanwhile, and what it refuses. No id may ever be handed out on both sides.
#include <atomic>
#include <doctest/doctest.h>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "replication/base/error.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/sequences/verb_pair.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using verb::cluster;
using verb::Pair;
using verb::value;

// What a side handed out, from its tables; none may be on both.
void check_disjoint(const Pair& pair) {
  const std::string ids = "SELECT id FROM t";
  std::set<std::string> seen;
  for (const auto& database : {pair.source(), pair.target()}) {
    const auto rows = cluster().sql(database, ids);
    CHECK(rows.rows() > 0);
    for (int row = 0; row < rows.rows(); ++row) {
      CHECK_MESSAGE(seen.insert(rows.text(row, 0)).second, rows.text(row, 0));
    }
  }
}

// Both sides' newest ranges, which must not meet.
void check_ranges(const Pair& pair) {
  const std::string newest =
      "SELECT last_value || ' ' || reserved_until FROM pgcutover.sequence_ledger WHERE sequence_name = "
      "'t_id_seq' "
      "AND server = '";
  const auto range = [&](const std::string& server) {
    const auto text = value(pair.source(), newest + server + "' ORDER BY set_at DESC LIMIT 1");
    CHECK(text == value(pair.target(), newest + server + "' ORDER BY set_at DESC LIMIT 1"));
    return std::pair(std::stol(text), std::stol(text.substr(text.find(' '))));
  };
  const auto source = range("source");
  const auto target = range("target");
  CHECK(target.first < target.second);
  CHECK(target.second <= source.first);
  CHECK(source.first < source.second);
}

std::unique_ptr<harness::Tool> start_bump(const Pair& pair, const std::string& fault) {
  harness::ToolOptions options;
  options.env = harness::fault_environment(fault);
  return std::make_unique<harness::Tool>(
      std::vector<std::string>{"sequences", "bump", "--yes", "--source", cluster().conninfo(pair.source()),
                               "--target", cluster().conninfo(pair.target()), "--interval", "100ms"},
      options);
}

TEST_CASE("eight clients insert on both sides before, during and after the bump: no id twice, none refused") {
  const Pair pair;
  pair.both(R"(
    CREATE SCHEMA "Other Schema"; CREATE SEQUENCE "Other Schema"."shared Seq" CACHE 20;
    CREATE SEQUENCE down INCREMENT -3;
    CREATE TABLE a (id bigint DEFAULT nextval('"Other Schema"."shared Seq"') PRIMARY KEY, d bigint DEFAULT nextval('down'));
    CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE c (LIKE a INCLUDING ALL);)");
  std::atomic<bool> target_lives{false};
  std::atomic<bool> done{false};
  std::atomic<int> on_source{0};
  std::atomic<int> on_target{0};
  std::atomic<int> refused{0};
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < 8; ++i) {
      clients.emplace_back([&, i] {
        auto source = cluster().connect(pair.source());
        auto target = cluster().connect(pair.target());
        const std::string table(1, static_cast<char>('a' + i % 3));
        const auto deadline = Deadline::in(milliseconds(180'000));
        while (!done && !deadline.expired()) {
          try {
            const bool there = target_lives && i % 2 == 0;
            (there ? target : source).exec("INSERT INTO " + table + " DEFAULT VALUES");
            ++(there ? on_target : on_source);
          } catch (const replication::base::Error&) {
            ++refused;
          }
        }
      });
    }
    const auto deadline = Deadline::in(milliseconds(180'000));
    harness::wait_until(deadline, "the source is written", [&] { return on_source > 100; });
    const auto bump = pair.tool({"bump", "--yes"});
    CHECK_MESSAGE(bump.exit_code == 0, bump.output << bump.errors);
    target_lives = true;
    harness::wait_until(deadline, "both are written", [&] { return on_target > 200 && on_source > 400; });
    // The bump again, under way with both sides live, and one whose ranges are in force.
    CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
    done = true;
  }
  CHECK(refused == 0);
  for (const char* column : {"id", "d"}) {
    std::set<std::string> ids;
    int rows_seen = 0;
    for (const auto& database : {pair.source(), pair.target()}) {
      const auto rows =
          cluster().sql(database, "SELECT " + std::string(column) + " FROM a UNION ALL SELECT " + column +
                                      " FROM b UNION ALL SELECT " + column + " FROM c");
      rows_seen += rows.rows();
      for (int row = 0; row < rows.rows(); ++row) {
        ids.insert(rows.text(row, 0));
      }
    }
    CHECK(rows_seen > 600);
    CHECK(static_cast<int>(ids.size()) == rows_seen);
  }
}

TEST_CASE("a bump that dies between the two sides, or whose server does, is done by calling it again") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY)");
  cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 7)");
  const auto deadline = Deadline::in(milliseconds(180'000));
  SUBCASE("the tool") {
    auto bump = start_bump(pair, "bump.after-source:kill");
    CHECK(bump->wait(deadline) != 0);
  }
  SUBCASE("the server") {
    auto bump = start_bump(pair, "bump.after-source:stop");
    bump->wait_frozen(deadline);
    cluster().kill9();
    cluster().start();
    bump->thaw();
    CHECK(bump->wait(deadline) != 0);
  }
  CHECK(value(pair.source(), "SELECT last_value > 20000 FROM t_id_seq") == "t");
  CHECK(value(pair.target(), "SELECT last_value FROM t_id_seq") == "1");
  cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 50)");  // nobody waits for us
  const auto again = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(again.exit_code == 0, again.errors);
  for (const auto& database : {pair.source(), pair.target()}) {
    cluster().sql(database, "INSERT INTO t SELECT FROM generate_series(1, 50)");
  }
  check_ranges(pair);
  check_disjoint(pair);
  CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
}

TEST_CASE("the ledger is on both servers also where their epochs differ, or the bump before died over it") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY)");
  SUBCASE("epochs of another migration on one of them") {
    const auto alone =
        Pair::run({"bump", "--yes", "--interval", "100ms", "--target", cluster().conninfo(pair.target())});
    REQUIRE_MESSAGE(alone.exit_code == 0, alone.errors);
    cluster().sql(pair.target(),
                  "UPDATE pgcutover.controller SET epoch = 7; DELETE FROM pgcutover.sequence_ledger");
    const auto both = pair.tool({"bump", "--yes"});
    CHECK_MESSAGE(both.exit_code == 0, both.errors);
  }
  SUBCASE("died with both sides set") {
    auto bump = start_bump(pair, "bump.after-source:kill@2");
    CHECK(bump->wait(Deadline::in(milliseconds(180'000))) != 0);
    CHECK(value(pair.source(), "SELECT count(*) FROM pgcutover.sequence_ledger") == "1");
    CHECK(value(pair.target(), "SELECT count(*) FROM pgcutover.sequence_ledger") == "1");
    CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
  }
  check_ranges(pair);
}

TEST_CASE("two bumps at the same time are one") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY)");
  cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 7)");
  const auto deadline = Deadline::in(milliseconds(180'000));
  auto first = start_bump(pair, "bump.after-plan:stop");
  first->wait_frozen(deadline);  // its plan is made, nothing is set
  auto second = start_bump(pair, "bump.after-plan:stop");
  harness::wait_until(deadline, "the second one asks for the lock", [&] {
    return value("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + pair.source() +
                                 "' AND query LIKE '%pg_try_advisory_lock%' AND state = 'idle'") == "1";
  });
  first->thaw();
  CHECK(first->wait(deadline) == 0);
  second->wait_frozen(deadline);
  second->thaw();
  CHECK(second->wait(deadline) == 0);
  CHECK(has(second->output(), "nothing to set"));
  for (const auto& database : {pair.source(), pair.target()}) {
    cluster().sql(database, "INSERT INTO t SELECT FROM generate_series(1, 50)");
    CHECK(value(database, "SELECT count(*) FROM pgcutover.sequence_ledger") == "2");
  }
  check_ranges(pair);
  check_disjoint(pair);
}

TEST_CASE("a side that ran past its range between the plan and the setting is an error, never a duplicate") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY)");
  cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 7)");
  const auto deadline = Deadline::in(milliseconds(180'000));
  std::string fault = "bump.after-plan:stop";
  std::string who = pair.source();
  SUBCASE("the source past the other side's range") {}
  SUBCASE("the target past the other side's range") {
    fault = "bump.after-source:stop";
    who = pair.target();
  }
  auto bump = start_bump(pair, fault);
  bump->wait_frozen(deadline);
  cluster().sql(who, "INSERT INTO t SELECT nextval('t_id_seq') FROM generate_series(1, 25000)");
  bump->thaw();
  CHECK(bump->wait(deadline) != 0);
  CHECK_MESSAGE(has(bump->errors(), "sequence public.t_id_seq ran past its headroom"), bump->errors());
  const auto again = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(again.exit_code == 0, again.errors);
  check_ranges(pair);
}

TEST_CASE("ranges that were given to one server at a time and meet are replaced once both are bumped") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY)");
  cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 7)");
  cluster().sql(pair.target(), "INSERT INTO t VALUES (12000); SELECT setval('t_id_seq', 12000)");
  for (const bool source : {true, false}) {
    const auto alone = Pair::run({"bump", "--yes", "--interval", "100ms", source ? "--source" : "--target",
                                  cluster().conninfo(source ? pair.source() : pair.target())});
    REQUIRE_MESSAGE(alone.exit_code == 0, alone.errors);
  }
  const auto both = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(both.exit_code == 0, both.errors);
  CHECK_MESSAGE(has(both.output, "public.t_id_seq: from"), both.output);
  check_ranges(pair);
  for (const auto& database : {pair.source(), pair.target()}) {
    cluster().sql(database, "INSERT INTO t SELECT FROM generate_series(1, 4000)");
  }
  check_disjoint(pair);
  CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
}

TEST_CASE("a sequence that was turned round has no range any more") {
  const Pair pair;
  pair.both("CREATE SEQUENCE turned; SELECT nextval('turned')");
  REQUIRE(pair.tool({"bump", "--yes"}).exit_code == 0);
  pair.both("ALTER SEQUENCE turned INCREMENT -1 MINVALUE -9000000");
  const auto result = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(result.exit_code == 0, result.errors);
  CHECK_MESSAGE(has(result.output, "public.turned: from"), result.output);
  CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
}

TEST_CASE("a range holds what the sessions keep in their caches, though the headroom was fixed below it") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY); ALTER SEQUENCE t_id_seq CACHE 20000");
  cluster().sql(pair.source(), "INSERT INTO t DEFAULT VALUES");
  std::vector<std::string> bump{"bump", "--yes"};
  SUBCASE("computed, before any session is there") {}
  SUBCASE("fixed") {
    bump.insert(bump.end(), {"--sequence-headroom", "10"});
  }
  const auto result = pair.tool(bump);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  check_ranges(pair);
  for (int session = 0; session < 3; ++session) {
    for (const auto& database : {pair.source(), pair.target()}) {
      cluster().sql(database, "INSERT INTO t SELECT FROM generate_series(1, 15000)");
    }
  }
  check_disjoint(pair);
}

TEST_CASE(
    "a sequence that is dropped between the plan and its setting stops the bump, and not the next one") {
  const Pair pair;
  pair.both("CREATE SEQUENCE goes; CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES");
  const auto deadline = Deadline::in(milliseconds(180'000));
  auto bump = start_bump(pair, "bump.after-plan:stop");
  bump->wait_frozen(deadline);
  cluster().sql(pair.source(), "DROP SEQUENCE goes");
  bump->thaw();
  CHECK(bump->wait(deadline) != 0);
  CHECK_MESSAGE(has(bump->errors(), "\"public.goes\" does not exist"), bump->errors());
  CHECK_MESSAGE(has(bump->errors(), "pgcutover sequences bump` again"), bump->errors());
  const auto again = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(again.exit_code == 0, again.errors);
  check_ranges(pair);
}

TEST_CASE("a sequence without rights is named before anything is changed, and can be left out by name") {
  const Pair pair;
  cluster().sql("postgres",
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bumper') THEN CREATE "
                "ROLE bumper LOGIN; END IF; END $$");
  pair.both(
      "CREATE SEQUENCE fine; CREATE SEQUENCE shut; CREATE SEQUENCE dark; "
      "GRANT SELECT, UPDATE, USAGE ON fine TO bumper; GRANT SELECT ON shut, dark TO bumper; "
      "GRANT UPDATE ON dark TO bumper");
  for (const auto& database : {pair.source(), pair.target()}) {
    cluster().sql("postgres", "GRANT CREATE ON DATABASE " + database + " TO bumper");
  }
  const auto bump = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"bump", "--yes", "--interval", "100ms", "--source",
                               cluster().conninfo(pair.source(), "bumper"), "--target",
                               cluster().conninfo(pair.target(), "bumper")});
    return Pair::run(more);
  };
  cluster().sql(pair.target(), "REVOKE SELECT ON dark FROM bumper");
  const auto unreadable = bump({});
  CHECK(unreadable.exit_code != 0);
  CHECK_MESSAGE(has(unreadable.errors, "no right to read the sequence(s) public.dark"), unreadable.errors);
  CHECK(has(unreadable.errors, "GRANT SELECT, UPDATE ON ALL SEQUENCES"));
  cluster().sql(pair.target(), "GRANT SELECT ON dark TO bumper");
  const auto refused = bump({});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(has(refused.output, "sequence-privilege: our role may not set the sequence public.shut"),
                refused.output);
  CHECK(value(pair.source(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgcutover'") == "0");
  const auto accepted = bump({"--accept", "sequence-privilege"});
  CHECK_MESSAGE(accepted.exit_code == 0, accepted.output << accepted.errors);
  CHECK(value(pair.source(),
              "SELECT (SELECT last_value > 1 FROM fine) AND (SELECT last_value > 1 FROM dark) AND "
              "(SELECT last_value = 1 FROM shut)") == "t");
}

TEST_CASE("a sequence at its limit on one side only is refused, and says which side it is") {
  const Pair pair;
  pair.both("CREATE TABLE t (id smallserial)");
  cluster().sql(pair.target(), "SELECT setval('t_id_seq', 32767)");
  const auto result = pair.tool({"bump", "--yes"});
  CHECK(result.exit_code == 3);
  CHECK_MESSAGE(has(result.output, "since the side that opens is at 32767 already"), result.output);
  CHECK(value(pair.source(), "SELECT last_value FROM t_id_seq") == "1");
}

TEST_CASE("watch warns, and with --yes issues a new pair of ranges once 80 % of one are used") {
  const Pair pair;
  pair.both("CREATE TABLE t (id serial PRIMARY KEY); SELECT nextval('t_id_seq')");
  REQUIRE(pair.tool({"bump", "--yes", "--sequence-headroom", "1000"}).exit_code == 0);
  const auto start = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"sequences", "watch", "--source", cluster().conninfo(pair.source()), "--target",
                 cluster().conninfo(pair.target()), "--interval", "100ms", "--sequence-headroom", "1000"});
    return std::make_unique<harness::Tool>(more);
  };
  const auto deadline = Deadline::in(milliseconds(180'000));
  cluster().sql(pair.target(), "INSERT INTO t SELECT FROM generate_series(1, 850)");
  const std::string rows = "SELECT count(*) FROM pgcutover.sequence_ledger";
  auto quiet = start({});
  quiet->wait_output("sequence-range", deadline);
  quiet->wait_output("`watch --yes` does it by itself", deadline);
  quiet->terminate();
  CHECK(quiet->wait(deadline) == 0);
  CHECK(value(pair.target(), rows) == "2");
  auto watch = start({"--yes"});
  watch->wait_output("public.t_id_seq: from", deadline);
  harness::wait_until(deadline, "the whole ledger",
                      [&] { return value(pair.target(), rows) == "4" && value(pair.source(), rows) == "4"; });
  // It doesn't keep others out.
  CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
  // It outlives a server that crashes, and issues the next pair as well, also where the last one was used up
  // between two looks.
  cluster().restart(harness::Cluster::Stop::immediate);
  watch->wait_output("looking again", deadline);
  cluster().sql(pair.target(), "SELECT nextval('t_id_seq') FROM generate_series(1, 1100)");
  harness::wait_until(deadline, "the next pair",
                      [&] { return value(pair.target(), rows) == "6" && value(pair.source(), rows) == "6"; });
  watch->terminate();
  CHECK(watch->wait(deadline) == 0);
  cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 700)");
  cluster().sql(pair.target(), "INSERT INTO t SELECT FROM generate_series(1, 700)");
  check_ranges(pair);
  check_disjoint(pair);
}

}  // namespace
