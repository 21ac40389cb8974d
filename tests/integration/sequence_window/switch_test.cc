// Ids through a switch and a rollback: eight clients that go to whichever side lets them in, and what the
// controller makes of the ranges meanwhile.
#include <doctest/doctest.h>
#include <set>
#include <vector>

#include "sequences/attribution.h"
#include "tests/harness/wait.h"
#include "tests/integration/sequence_window/clients.h"
#include "tests/scenario/scenario.h"

namespace {

using ids::Clients;
using ids::kTables;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;

std::string status_of(Scenario& scenario) {
  return scenario.tool({"status"}).output;
}

TEST_CASE(
    "eight clients insert through a switch and a rollback: no id twice, none refused, each one attributed") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(kTables);
  Clients clients(scenario.source(), scenario.target());
  clients.wait_more(50);
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  clients.wait_more(50);
  // The rate that was observed while it streamed is what the headroom is made of.
  harness::wait_until(Deadline::in(milliseconds(180'000)), "a rate is stored", [&] {
    return scenario.source().value(
               kDatabase,
               "SELECT count(*) FROM pgcutover.sequence_sample WHERE sequence_schema = 'ids' AND "
               "rate > 0") != "0";
  });
  const auto switched = scenario.tool({"switch"});
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors);
  clients.wait_more(100);
  const auto back = scenario.tool({"rollback"});
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  clients.wait_more(100);
  clients.stop();
  CHECK(clients.duplicates == 0);
  CHECK(clients.twice == 0);
  CHECK(scenario.source().value(
            kDatabase,
            "SELECT (SELECT count(*) FROM ids.one) + (SELECT count(*) FROM ids.two) + (SELECT "
            "count(*) FROM ids.three) >= " +
                std::to_string(clients.kept)) == "t");
  scenario.expect_equal("rollback");

  // Every id in the tables has exactly one side that may have made it.
  auto session = scenario.source().connect(kDatabase);
  const auto ledger = sequences::read_ledger(session);
  std::set<std::string> sides;
  const auto rows =
      session.exec("SELECT s FROM ids.one UNION ALL SELECT s FROM ids.two UNION ALL SELECT s FROM ids.three");
  REQUIRE(rows.rows() > 250);
  for (int row = 0; row < rows.rows(); ++row) {
    const auto side = sequences::attribute(ledger, "ids", "Shared", rows.integer(row, 0));
    CHECK_MESSAGE(!side.empty(), rows.integer(row, 0));
    sides.insert(side);
  }
  CHECK(sides == std::set<std::string>{"source", "target"});
  CHECK(scenario.tool({"report", "--format", "json"}).output.find("ids.one_id_seq") != std::string::npos);
  // At once, though the switch and the rollback may have come between two looks.
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the status shows the ranges", [&] {
    return status_of(scenario).find("ids.one_id_seq on source: behind ") != std::string::npos;
  });
  CHECK_MESSAGE(run->errors().find("could not be looked at") == std::string::npos, run->errors());
  scenario.stop_run(*run);
}

TEST_CASE("a used range gets a successor, and a closed side that moves is an alarm") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec("CREATE TABLE watched (id serial PRIMARY KEY); INSERT INTO watched DEFAULT VALUES");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  REQUIRE(scenario.tool({"switch"}).exit_code == 0);
  const std::string range =
      "SELECT last_value || ' ' || reserved_until FROM pgcutover.sequence_ledger WHERE sequence_name = "
      "'watched_id_seq' "
      "AND server = 'target' ORDER BY set_at DESC LIMIT 1";
  CHECK(scenario.target().value(kDatabase, range) == "10001 20001");
  CHECK(scenario.source().value(kDatabase, range) == "10001 20001");  // the ledger is on both servers
  CHECK(scenario.source().value(kDatabase, "SELECT last_value FROM watched_id_seq") == "20001");
  scenario.target().sql(kDatabase, "SELECT setval('watched_id_seq', 19000)");
  const auto deadline = Deadline::in(milliseconds(180'000));
  const auto closed = [&] {
    return std::stol(
        scenario.source().value(kDatabase, "SELECT last_value FROM watched_id_seq").value_or("0"));
  };
  harness::wait_until(deadline, "new ranges", [&] { return closed() >= 29'000; });
  CHECK(closed() == 29'000);  // the jump isn't taken for use
  harness::wait_until(deadline, "the ledger tells", [&] {
    return scenario.source().value(kDatabase, range) == "10001 " + std::to_string(closed());
  });
  scenario.source().sql(
      kDatabase,
      "SELECT setval('watched_id_seq', last_value + 40000) FROM watched_id_seq");  // as a superuser
  harness::wait_until(deadline, "the alarm", [&] {
    return status_of(scenario).find("ids outside of the range: public.watched_id_seq on source") !=
           std::string::npos;
  });
  REQUIRE(scenario.tool({"rollback"}).exit_code == 0);
  scenario.expect_sound("rollback");
  // What somebody set on the closed side counts: the next id is beyond it.
  CHECK(std::stol(scenario.source().value(kDatabase, "SELECT nextval('watched_id_seq')").value_or("0")) >
        40'000);
  scenario.stop_run(*run);
}

TEST_CASE("a switch is refused before the pause where the ranges don't fit") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec("CREATE TABLE small (id smallserial PRIMARY KEY); SELECT setval('small_id_seq', 32766)");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  const auto refused = scenario.tool({"switch"});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(refused.errors.find("has 1 values left before its limit 32767") != std::string::npos,
                refused.errors);
  CHECK((scenario.expect_sound("refusal") == scenario::Side::source));
  scenario.stop_run(*run);
}

TEST_CASE("verify, status and report say which side made the id of a row that differs or met no row") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(R"(
    CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY, at date, v int DEFAULT 0, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
    CREATE TABLE made_1 PARTITION OF made FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
    CREATE TABLE named (name text PRIMARY KEY);
    INSERT INTO made (at) SELECT '2026-01-01' FROM generate_series(1, 3); INSERT INTO named VALUES ('a');)");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  REQUIRE(scenario.tool({"switch"}).exit_code == 0);
  scenario.target().sql(kDatabase, "INSERT INTO made (at) VALUES ('2026-01-02'), ('2026-01-02')");
  const auto deadline = Deadline::in(milliseconds(180'000));
  harness::wait_until(deadline, "the rows are on the closed side",
                      [&] { return scenario.source().value(kDatabase, "SELECT count(*) FROM made") == "5"; });
  const auto first =
      scenario.target().value(kDatabase, "SELECT min(id) FROM made WHERE at = '2026-01-02'").value_or("");
  // As a superuser, behind the tool's back: one row of each side goes, a row without an id too.
  scenario.source().sql(kDatabase, "DELETE FROM made WHERE id IN (2, " + first +
                                       "); UPDATE made SET v = 9 WHERE id = 3; DELETE FROM named");
  const auto differs = scenario.tool({"verify"});
  CHECK(differs.exit_code == 7);
  const std::vector<std::string> said{"(2026-01-01,2) only on the target, id made by the source",
                                      "(2026-01-01,3) different, id made by the source",
                                      "(2026-01-02," + first + ") only on the target, id made by the target"};
  for (const auto& text : said) {
    CHECK_MESSAGE(differs.output.find(text) != std::string::npos, text << " in " << differs.output);
  }
  CHECK_MESSAGE(differs.output.find("(name) = (a) only on the target\n") != std::string::npos,
                differs.output);
  // The stream back meets no row.
  scenario.target().sql(kDatabase, "UPDATE made SET v = 1 WHERE id IN (2, " + first + ")");
  harness::wait_until(deadline, "two conflicts", [&] {
    return scenario.source().value(kDatabase, "SELECT count(*) FROM pgcutover.conflict") == "2";
  });
  const auto status = status_of(scenario);
  CHECK_MESSAGE(status.find("update_missing, reverse at ") != std::string::npos, status);
  for (const char* side : {"source", "target"}) {
    CHECK_MESSAGE(status.find("id made by the " + std::string(side)) != std::string::npos, status);
  }
  CHECK(scenario.tool({"status", "--json"}).output.find("\"madeBy\":\"target\"") != std::string::npos);
  const auto report = scenario.tool({"report", "--format", "json"}).output;
  CHECK(report.find("\"madeBy\":\"source\"") != std::string::npos);
  CHECK(report.find("id made by the target") != std::string::npos);  // in the last comparison's detail
  CHECK(scenario.tool({"report"}).output.find("id made by</th>") != std::string::npos);
  scenario.stop_run(*run);
}

TEST_CASE("what was bumped before the migration stays in force, and its ledger is the migration's") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec("CREATE TABLE early (id serial PRIMARY KEY); INSERT INTO early DEFAULT VALUES");
  const auto bump = [&] {
    return harness::Tool::run({"sequences", "bump", "--yes", "--interval", "100ms", "--source",
                               scenario.source().conninfo(kDatabase, "mover")},
                              Deadline::in(milliseconds(180'000)));
  };
  const auto first = bump();
  REQUIRE_MESSAGE(first.exit_code == 0, first.errors);
  const std::string ledger =
      "SELECT string_agg(server || ' ' || side || ' ' || last_value || ' ' || coalesce(reserved_until::text, "
      "'-'), ', ' "
      "ORDER BY last_value) FROM pgcutover.sequence_ledger WHERE sequence_name = 'early_id_seq'";
  CHECK(scenario.source().value(kDatabase, ledger) == "source closes 20001 30001");
  CHECK(bump().output.find("early_id_seq") == std::string::npos);
  CHECK(scenario.source().value(kDatabase, ledger) == "source closes 20001 30001");
  scenario.source()
      .connect(kDatabase, "app")
      .exec("INSERT INTO early DEFAULT VALUES");  // 20003: one was the proof

  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  const auto refused = bump();
  CHECK(refused.exit_code == 5);
  CHECK(refused.errors.find("a migration is under way") != std::string::npos);
  REQUIRE(scenario.tool({"switch"}).exit_code == 0);
  CHECK(scenario.target().value(kDatabase, "SELECT last_value FROM early_id_seq") == "30003");
  // The first range, and the pair of the switch, on both servers.
  harness::wait_until(Deadline::in(milliseconds(180'000)), "both have the ledger", [&] {
    const auto text = scenario.target().value(kDatabase, ledger);
    return text == "source closes 20001 30001, target opens 30003 40003, source closes 40003 -" &&
           text == scenario.source().value(kDatabase, ledger);
  });
  scenario.target().connect(kDatabase, "app").exec("INSERT INTO early DEFAULT VALUES");
  auto session = scenario.target().connect(kDatabase);
  const sequences::Attribution attribution(session);
  using Made = std::pair<std::string, std::string>;
  for (const auto& made : {Made{"1", "source"}, Made{"20003", "source"}, Made{"30004", "target"}}) {
    CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM early WHERE id = " + made.first) == "1");
    CHECK_MESSAGE(attribution.made_by("public", "early", "id", made.first) == made.second, made.first);
  }
  scenario.stop_run(*run);
}

}  // namespace
