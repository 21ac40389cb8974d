// How fast tables are copied is bounded, can be changed while they are, and gives way to a busy source.
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
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
    wait_until(Deadline::in(milliseconds(180'000)), "the source is busy",
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
  wait_until(Deadline::in(milliseconds(180'000)), "the copy rests", [&] {
    if (!run->running()) {
      FAIL("run ended:\n" << run->errors());
    }
    return has(in_status(scenario, "{message}"), "held back: more than 5 sessions");
  });
  busy.end();
  wait_until(Deadline::in(milliseconds(180'000)), "the copy goes on",
             [&] { return has(run->errors(), "the copy goes on"); });
  wait_until(Deadline::in(milliseconds(180'000)), "bytes move",
             [&] { return std::stoll("0" + in_status(scenario, "{copy,bytesDone}")) > 1'000'000; });

  wait_until(Deadline::in(milliseconds(180'000)), "the status names the table",
             [&] { return has(scenario.tool({"status"}).output, "copying     shop.big "); });
  // Not before a second of the copy's time has passed.
  wait_until(Deadline::in(milliseconds(180'000)), "the status estimates the end",
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
  const auto left = tables("max(\"bytesTotal\" - \"bytesDone\") FILTER (WHERE \"table\" = 'shop.big')");

  // At 1 MB/s what is left takes as many seconds as it has megabytes.
  const auto asked = scenario.tool({"throttle", "--max-rate=0"});
  CHECK_MESSAGE(asked.exit_code == 0, asked.errors);
  CHECK(has(asked.output, "as fast as it can"));
  scenario.wait_state(*run, "ready");
  CHECK(of_target(
            scenario,
            "SELECT count(*) FROM pgcutover.event e, pgcutover.command c WHERE e.step = 'copy' AND e.kind "
            "= 'done' AND e.at > c.at AND e.at < c.at + interval '1 microsecond' * " +
                left) == "1");

  // While nothing is copied it is kept for later.
  const auto later = scenario.tool({"throttle", "--max-rate=7"});
  CHECK_MESSAGE(later.exit_code == 0, later.errors);
  CHECK(has(later.output, "at most 7 MB/s"));
  const auto again = scenario.tool({"resync", "--table=shop.bank_account"});
  CHECK_MESSAGE(again.exit_code == 0, again.errors);
  CHECK(has(run->errors(), "tables are copied at most 7 MB/s while at most 5 sessions of others"));
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

namespace {

// A physical standby of the source, fed by streaming.
class Standby {
 public:
  explicit Standby(harness::Cluster& source)
      : cluster_({.name = "standby", .version = std::to_string(source.major()), .start = false}) {
    std::filesystem::remove_all(cluster_.data_path());
    harness::Process backup({.argv = {source.bin_directory() + "/pg_basebackup", "-D", cluster_.data_path(),
                                      "-R", "-c", "fast", "-d", source.conninfo() + " application_name=near"},
                             .stdout_path = cluster_.log_path(),
                             .stderr_path = cluster_.log_path(),
                             .unprivileged = true});
    REQUIRE_MESSAGE(backup.wait(Deadline::in(milliseconds(180'000))) == 0, cluster_.log());
    std::ofstream(cluster_.data_path() + "/postgresql.conf", std::ios::app)
        << "unix_socket_directories = '" << cluster_.host() << "'\n";
    cluster_.start();
    wait_until(Deadline::in(milliseconds(180'000)), "the standby streams", [&] {
      return source.value("postgres",
                          "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'near' "
                          "AND state = 'streaming'") == "1";
    });
  }
  void stand_still(bool still) {
    cluster_.sql("postgres", still ? "SELECT pg_wal_replay_pause()" : "SELECT pg_wal_replay_resume()");
  }
  static bool possible(const harness::Cluster& source) {
    return std::filesystem::exists(source.bin_directory() + "/pg_basebackup");
  }

 private:
  harness::Cluster cluster_;
};

void wait_message(Scenario& scenario, harness::Tool& run, const std::string& text) {
  wait_until(Deadline::in(milliseconds(180'000)), "the status says: " + text, [&] {
    if (!run.running()) {
      FAIL("run ended:\n" << run.errors());
    }
    return has(in_status(scenario, "{message}"), text);
  });
}

void wait_no_message(Scenario& scenario) {
  wait_until(Deadline::in(milliseconds(180'000)), "the copy isn't held back",
             [&] { return !has(in_status(scenario, "{message}"), "held back"); });
}

void throttle(Scenario& scenario, const std::string& option, std::string_view told) {
  const auto asked = scenario.tool({"throttle", option});
  CHECK_MESSAGE(asked.exit_code == 0, asked.errors);
  CHECK_MESSAGE(has(asked.output, told), asked.output);
}

}  // namespace

TEST_CASE(
    "a copy gives way to a standby that is behind and to an old snapshot, says so, and how a resync goes") {
  Scenario scenario;
  if (!Standby::possible(scenario.source())) {
    MESSAGE("left out: there is no pg_basebackup beside this server");
    return;
  }
  scenario.source()
      .connect(kDatabase, "app")
      .exec(
          "CREATE TABLE shop.big (id int PRIMARY KEY, filler text);"
          "INSERT INTO shop.big SELECT g, repeat('x', 1000) FROM generate_series(1, 50000) g; ANALYZE "
          "shop.big");
  Standby standby(scenario.source());
  standby.stand_still(true);
  auto run =
      scenario.start_run("", {"--max-rate=1", "--max-replica-lag=1s", "--snapshot=per-table", "--jobs=1"});
  wait_message(scenario, *run, "held back: standby near is ");
  const auto seen = scenario.tool({"status"});
  CHECK_MESSAGE(has(seen.output, "held back: standby near is "), seen.output);
  throttle(scenario, "--max-replica-lag=0s", "at most 1 MB/s\n");
  wait_no_message(scenario);
  throttle(scenario, "--max-replica-lag=1s", "at most 1 MB/s while no standby is more than 1s behind");
  wait_message(scenario, *run, "held back: standby near is ");

  // Somebody's snapshot grows old; the table under way is copied to its end, and no other is begun.
  const auto of_source = [&](const std::string& sql) { return scenario.source().value(kDatabase, sql); };
  wait_until(Deadline::in(milliseconds(180'000)), "the large table is under way", [&] {
    return of_source(
               "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%big%' AND state = "
               "'active'") == "1";
  });
  auto old = scenario.source().connect(kDatabase);
  old.exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  CHECK(scenario.tool({"throttle", "--max-xmin-age=-1"}).exit_code == 2);
  throttle(scenario, "--max-xmin-age=100", "no snapshot is more than 100 transactions old");
  wait_until(Deadline::in(milliseconds(180'000)), "the snapshot is old", [&] {
    return of_source(
               "SELECT max(age(backend_xmin)) > 110 FROM pg_stat_activity WHERE state = 'idle in "
               "transaction'") == "t";
  });
  standby.stand_still(false);
  wait_message(scenario, *run, "held back: no further table is begun while a snapshot on the source is ");
  throttle(scenario, "--max-rate=0", "as fast as it can while ");
  wait_until(Deadline::in(milliseconds(180'000)), "the large table is done",
             [&] { return of_target(scenario, "SELECT count(*) FROM pgcutover.table_copy") == "1"; });
  wait_message(scenario, *run, "held back: no further table");
  CHECK(of_target(scenario, "SELECT count(*) FROM pgcutover.table_copy") == "1");
  old.exec("COMMIT");
  scenario.wait_state(*run, "ready");

  throttle(scenario, "--max-rate=1", "at most 1 MB/s while ");
  CHECK(scenario.tool({"resync", "--table=shop.big", "--no-wait"}).exit_code == 0);
  wait_until(Deadline::in(milliseconds(180'000)), "the status shows the resync",
             [&] { return has(scenario.tool({"status"}).output, " ETA "); });
  const auto json = scenario.tool({"status", "--json"}).output;
  const auto of_json = [&](const std::string& what) {
    return of_target(scenario, "SELECT " + what + " FROM (SELECT $t$" + json + "$t$::jsonb AS s) one");
  };
  CHECK_MESSAGE(of_json("s #>> '{progress,step}'") == "resync", json);
  CHECK_MESSAGE(of_json("(s #>> '{progress,rate}')::float BETWEEN 1e4 AND 1e7") == "t", json);
  // Of what is copied again, nothing else.
  CHECK_MESSAGE(of_json("(s #>> '{copy,bytesTotal}')::bigint BETWEEN 50000000 AND 65000000") == "t", json);
  CHECK_MESSAGE(of_json("(s #>> '{copy,tablesTotal}')::bigint") == "1", json);
  throttle(scenario, "--max-rate=0", "as fast as it can");
  wait_until(Deadline::in(milliseconds(180'000)), "the resync is done", [&] {
    return of_target(scenario,
                     "SELECT count(*) FROM pgcutover.event WHERE step = 'resync' AND kind = 'done'") == "1";
  });
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("a copy that was held back");
  const auto report = scenario.tool({"report", "--format=json"}).output;
  CHECK_MESSAGE(of_target(scenario, "SELECT $t$" + report + "$t$::jsonb #>> '{copied,tables}'") != "",
                report);
  scenario.stop_run(*run);
}

TEST_CASE("an index that is being built is named with how far it is") {
  Scenario scenario;
  // Evaluating it waits while there is a file, which only the target has.
  scenario.source().sql(kDatabase, R"(
    CREATE FUNCTION shop.held(value int) RETURNS int LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER AS $$
    BEGIN
      WHILE (pg_catalog.pg_stat_file('hold', true)).size IS NOT NULL LOOP
        PERFORM pg_catalog.pg_sleep(0.02);
      END LOOP;
      RETURN value;
    END $$;
    CREATE TABLE shop.slowly (id int PRIMARY KEY, v int);
    CREATE INDEX ON shop.slowly (shop.held(v));
    INSERT INTO shop.slowly SELECT g, g FROM generate_series(1, 1000) g)");
  const std::filesystem::path hold = of_target(scenario, "SHOW data_directory") + "/hold";
  std::ofstream(hold).close();
  auto run = scenario.start_run();
  wait_until(Deadline::in(milliseconds(180'000)), "the status names the index's table", [&] {
    return in_status(scenario, "{progress,step}") == "indexes" &&
           has(in_status(scenario, "{progress,current}"), "shop.slowly ");
  });
  const auto shown = scenario.tool({"status"});
  CHECK_MESSAGE(has(shown.output, ", at shop.slowly "), shown.output);
  std::filesystem::remove(hold);
  scenario.wait_state(*run, "ready");
  CHECK(of_target(scenario, "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%held%'") == "1");
  scenario.stop_run(*run);
}
