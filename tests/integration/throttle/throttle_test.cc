// How fast tables are copied is bounded, can be changed while they are, and gives way to a busy source.
#include <doctest/doctest.h>
#include <thread>

#include "replication/base/error.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using harness::has;
using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;

namespace {

constexpr int kBusy = 6;

// Sessions that are active until they are told to end.
class BusySource {
 public:
  explicit BusySource(harness::Cluster& server) : server_(server) {
    for (int i = 0; i < kBusy; ++i) {
      threads_.emplace_back([&server] {
        try {
          server.connect(kDatabase, "app")
              .exec("SELECT pg_catalog.pg_sleep(600) /* busy */", Deadline::never());
        } catch (const replication::base::Error&) {  // that is how it ends
        }
      });
    }
    wait_until(Deadline::in(milliseconds(20'000)), "the source is busy",
               [&] { return count() == std::to_string(kBusy); });
  }
  ~BusySource() { end(); }
  void end() {
    if (!threads_.empty()) {
      server_.sql(kDatabase, "SELECT pg_terminate_backend(pid) " + from());
      for (auto& thread : threads_) {
        thread.join();
      }
      threads_.clear();
    }
  }

 private:
  static std::string from() {
    return "FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* busy */' AND pid <> "
           "pg_backend_pid()";
  }
  std::string count() { return server_.value(kDatabase, "SELECT count(*) " + from()).value_or(""); }

  harness::Cluster& server_;
  std::vector<std::thread> threads_;
};

std::string in_status(Scenario& scenario, const std::string& path) {
  try {
    return scenario.target()
        .value(kDatabase, "SELECT json::jsonb #>> '" + path + "' FROM pgcutover.status")
        .value_or("");
  } catch (const replication::base::Error&) {
    return "";  // not there yet, or the target was just closed
  }
}

std::string of_target(Scenario& scenario, const std::string& sql) {
  return scenario.target().value(kDatabase, sql).value_or("");
}

}  // namespace

TEST_CASE("a copy keeps to its rate, rests while the source is busy, and a new rate is felt within seconds") {
  Scenario scenario;
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE TABLE shop.aside (n int PRIMARY KEY);"
          "CREATE TABLE shop.big (id int PRIMARY KEY, filler text);"
          "INSERT INTO shop.big SELECT g, repeat('x', 1000) FROM generate_series(1, 40000) g; ANALYZE "
          "shop.big");
  CHECK(scenario.tool({"throttle", "--max-rate", "5"}).exit_code == 5);  // there is no migration yet
  CHECK(scenario.tool({"throttle"}).exit_code == 2);
  BusySource busy(scenario.source());
  auto run = scenario.start_run("", {"--max-rate=1", "--max-active-sessions=5", "--exclude=shop.aside"});
  wait_until(Deadline::in(milliseconds(30'000)), "the copy rests", [&] {
    if (!run->running()) {
      FAIL("run ended:\n" << run->errors());
    }
    return has(in_status(scenario, "{message}"), "the copy rests: more than 5 sessions");
  });
  busy.end();
  wait_until(Deadline::in(milliseconds(20'000)), "the copy goes on",
             [&] { return has(run->errors(), "the copy goes on"); });
  wait_until(Deadline::in(milliseconds(20'000)), "bytes move",
             [&] { return std::stoll("0" + in_status(scenario, "{copy,bytesDone}")) > 1'000'000; });

  const auto seen = scenario.tool({"status"});
  CHECK_MESSAGE(has(seen.output, "copying     shop.big "), seen.output);
  // Not before a second of the copy's time has passed.
  wait_until(Deadline::in(milliseconds(20'000)), "the status estimates the end",
             [&] { return has(scenario.tool({"status"}).output, " ETA "); });
  const auto json = scenario.tool({"status", "--json"});
  const auto tables = [&](const std::string& sql) {
    return scenario.target()
        .value(kDatabase, "SELECT " + sql + " FROM jsonb_to_recordset($t$" + json.output +
                              "$t$::jsonb #> '{copy,tables}') AS t(\"table\" text, state text, rows bigint, "
                              "\"bytesDone\" bigint, \"bytesTotal\" bigint, \"sinceUs\" bigint)")
        .value_or("");
  };
  CHECK_MESSAGE(tables("count(*) FILTER (WHERE \"table\" = 'shop.big' AND state = 'copying' AND rows > 0 AND "
                       "\"bytesDone\" < \"bytesTotal\" AND \"sinceUs\" > 0)") == "1",
                json.output);
  CHECK(tables("count(*)") == tables("count(DISTINCT \"table\")"));
  CHECK(std::stoi(tables("count(*) FILTER (WHERE state <> 'copying')")) > 0);

  // 40 MB of rows at 1 MB/s: what is left takes longer than this test waits below.
  const auto asked = scenario.tool({"throttle", "--max-rate=0"});
  CHECK_MESSAGE(asked.exit_code == 0, asked.errors);
  CHECK(has(asked.output, "as fast as it can"));
  scenario.wait_state(*run, "ready");
  CHECK(of_target(
            scenario,
            "SELECT count(*) FROM pgcutover.event e, pgcutover.command c WHERE e.step = 'copy' AND e.kind "
            "= 'done' AND e.at > c.at AND e.at < c.at + interval '12 seconds'") == "1");

  // While nothing is copied it is kept for later.
  const auto later = scenario.tool({"throttle", "--max-rate=7"});
  CHECK_MESSAGE(later.exit_code == 0, later.errors);
  CHECK(has(later.output, "at most 7 MB/s"));
  const auto again = scenario.tool({"resync", "--table=shop.bank_account"});
  CHECK_MESSAGE(again.exit_code == 0, again.errors);
  CHECK(has(run->errors(), "copied at most 7 MB/s, as `pgcutover throttle` said"));
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("a throttled copy");
  const auto summary =
      of_target(scenario, "SELECT message FROM pgcutover.event WHERE step = 'copy' AND kind = 'done'");
  CHECK_MESSAGE(has(summary, "/s; left out by include and exclude: shop.aside"), summary);
  CHECK(has(run->errors(), summary));
  CHECK(has(scenario.tool({"report", "--format=json"}).output, summary));
  const auto rest = scenario.tool({"status", "--json"});
  CHECK(!has(rest.output, "\"waiting\""));
  CHECK(has(rest.output, "\"copied\""));
  scenario.stop_run(*run);
}
