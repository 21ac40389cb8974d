// The rollback window where it is rough: nobody watches the ranges, they are used up and beyond, and the way
// back and there is taken again. No id may be handed out twice, and no insert be refused.
#include <algorithm>
#include <doctest/doctest.h>
#include <set>
#include <string>
#include <vector>

#include "tests/harness/wait.h"
#include "tests/integration/sequence_window/clients.h"
#include "tests/scenario/scenario.h"

namespace {

using ids::Clients;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;

const std::vector<std::string> kSmall{"--sequence-headroom", "200"};

long number(harness::Cluster& server, const std::string& sql) {
  return std::stol(server.value(kDatabase, sql).value_or("0"));
}

long last_value(harness::Cluster& server) {
  return number(server, "SELECT last_value FROM ids.one_id_seq");
}

// The end of the newest range of a server, as the ledger of `server` has it.
long until(harness::Cluster& server, const std::string& whose) {
  return number(server,
                "SELECT reserved_until FROM pgcutover.sequence_ledger WHERE sequence_name = 'one_id_seq' "
                "AND server = '" +
                    whose + "' ORDER BY set_at DESC LIMIT 1");
}

// Nothing twice, and whatever a client was told is in the tables.
void check_ids(harness::Cluster& primary, Clients& clients) {
  clients.stop();
  CHECK(clients.duplicates == 0);
  CHECK(clients.twice == 0);
  auto session = primary.connect(kDatabase);
  const auto rows = session.exec(
      "SELECT 'one ' || id, s, d FROM ids.one UNION ALL SELECT 'two ' || id, s, d FROM ids.two UNION ALL "
      "SELECT "
      "'three ' || id, s, d FROM ids.three");
  std::set<std::string> stored;
  for (int row = 0; row < rows.rows(); ++row) {
    stored.insert(rows.text(row, 0));
    stored.insert("s " + rows.text(row, 1));
    stored.insert("d " + rows.text(row, 2));
  }
  CHECK(stored.size() == 3 * static_cast<std::size_t>(rows.rows()));
  CHECK(std::includes(stored.begin(), stored.end(), clients.seen().begin(), clients.seen().end()));
}

TEST_CASE(
    "where no controller lives, watch --yes or the next run issues the ranges, and the way back is there") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(ids::kTables);
  auto run = scenario.start_run("", kSmall);
  scenario.wait_state(*run, "ready");
  Clients clients(scenario.source(), scenario.target());
  clients.wait_more(30);
  REQUIRE(scenario.tool({"switch"}).exit_code == 0);
  run->kill9();
  const auto deadline = Deadline::in(milliseconds(180'000));
  long end = until(scenario.target(), "target");
  CHECK(last_value(scenario.source()) >= end);
  const auto next_pair = [&] {
    harness::wait_until(deadline, "the next pair, in both ledgers", [&] {
      return until(scenario.target(), "target") > end && until(scenario.source(), "target") > end &&
             last_value(scenario.source()) > end;
    });
    end = until(scenario.target(), "target");
  };
  harness::Tool watch({"sequences", "watch", "--yes", "--interval", "100ms", "--sequence-headroom", "200",
                       "--source", scenario.source().conninfo(kDatabase, "mover"), "--target",
                       scenario.target().conninfo(kDatabase, "mover")});
  watch.wait_output("new ranges of ids issued for", deadline);
  next_pair();
  watch.terminate();
  CHECK_MESSAGE(watch.wait(deadline) == 0, watch.errors());
  const long reached = last_value(scenario.target());

  run = scenario.start_run("", kSmall);
  scenario.wait_state(*run, "switched");
  next_pair();
  const auto back = scenario.tool({"rollback"});
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  clients.wait_more(100);
  CHECK(last_value(scenario.source()) > reached);
  check_ids(scenario.source(), clients);
  scenario.expect_equal("rollback");
  scenario.stop_run(*run);
}

TEST_CASE(
    "ranges that are used up and beyond: an alarm, and no id twice over two switches and two rollbacks") {
  Scenario scenario;
  scenario.source().connect(kDatabase, "app").exec(ids::kTables);
  auto run = scenario.start_run("", kSmall);
  scenario.wait_state(*run, "ready");
  Clients clients(scenario.source(), scenario.target());
  clients.wait_more(30);
  REQUIRE(scenario.tool({"switch"}).exit_code == 0);
  run->kill9();  // nobody issues anything
  const auto deadline = Deadline::in(milliseconds(180'000));
  const auto past = [&] { return last_value(scenario.target()) > last_value(scenario.source()) + 50; };
  harness::wait_until(deadline, "the target goes where the source would have gone on", past);
  CHECK(last_value(scenario.target()) > until(scenario.target(), "target"));
  const auto back = scenario.tool({"rollback", "--sequence-headroom", "200"});
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors);
  clients.wait_more(100);

  run = scenario.start_run("", kSmall);
  scenario.wait_state(*run, "ready");
  const auto again = scenario.tool({"switch"});
  REQUIRE_MESSAGE(again.exit_code == 0, again.errors);
  const long end = until(scenario.target(), "target");
  scenario.target().sql(kDatabase, "SELECT nextval('ids.one_id_seq') FROM generate_series(1, 2000)");
  CHECK(last_value(scenario.target()) > end);
  run->wait_output("sequence-range: ids outside of the range: ids.one_id_seq on target", deadline);
  harness::wait_until(deadline, "the source is ahead again",
                      [&] { return last_value(scenario.source()) > last_value(scenario.target()); });
  const auto last = scenario.tool({"rollback"});
  REQUIRE_MESSAGE(last.exit_code == 0, last.errors);
  clients.wait_more(100);
  check_ids(scenario.source(), clients);
  scenario.expect_equal("the second rollback");
  scenario.stop_run(*run);
}

}  // namespace
