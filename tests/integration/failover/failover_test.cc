// The source fails over to its own standby under a living run.
#include <cstdlib>
#include <doctest/doctest.h>
#include <memory>
#include <string>

#include "replication/base/stop.h"
#include "replication/base/subprocess.h"
#include "tests/harness/cluster.h"
#include "tests/harness/text.h"
#include "tests/harness/tool.h"
#include "tests/harness/wait.h"

namespace {

using harness::Cluster;
using harness::has;
using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;

constexpr const char* kDatabase = "shop";
constexpr const char* kSlot = "pgcutover_fo_forward";

Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

// Servers that have failover slots, where some are installed.
std::string with_failover_slots() {
  for (const char* version : {"18", "17"}) {
    if (Cluster::available(version)) {
      return version;
    }
  }
  return {};
}

// A primary, its streaming standby, a target, and the tool, which finds whichever of the two takes writes.
class Trio {
 public:
  explicit Trio(const std::string& version)
      : primary_(
            {.name = "primary",
             .version = version,
             .conf = {"hot_standby = on", "wal_keep_size = 256MB", "wal_receiver_status_interval = 1s"}}),
        standby_({.name = "standby", .version = version, .start = false}),
        target_({.name = "target", .version = version}) {
    primary_.sql("postgres", "SELECT pg_create_physical_replication_slot('near', true)");
    for (auto* server : {&primary_, &target_}) {
      server->sql("postgres", "CREATE ROLE app LOGIN; CREATE ROLE mover LOGIN SUPERUSER");
      server->sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " OWNER app");
    }
    primary_.connect(kDatabase, "app").exec("CREATE TABLE fact (id bigserial PRIMARY KEY, text text)");
    primary_.stop();
    run({"rm", "-rf", standby_.data_path()});
    run({"cp", "-a", primary_.data_path(), standby_.data_path()});
    run({"cp", "-a", primary_.data_path() + "/PG_VERSION", standby_.data_path() + "/standby.signal"});
    run({"rm", "-rf", standby_.data_path() + "/pg_replslot/near"});
    standby_.configure({"unix_socket_directories = '" + standby_.host() + "'", "hot_standby_feedback = on",
                        "primary_slot_name = 'near'",
                        "primary_conninfo = '" + primary_.conninfo() + " application_name=near'"});
    primary_.start();
    standby_.start();
  }

  // `--failover-slots` and what a standby needs for them.
  void keep_slots() {
    primary_.configure({"synchronized_standby_slots = 'near'"});
    standby_.configure({"sync_replication_slots = on"});
  }
  // The stream may run ahead of the standby.
  void let_ahead() { primary_.configure({"synchronized_standby_slots = ''"}); }

  std::unique_ptr<harness::Tool> start_run(const std::vector<std::string>& more = {}) {
    auto arguments = arguments_of("run");
    arguments.insert(arguments.end(), more.begin(), more.end());
    return std::make_unique<harness::Tool>(arguments);
  }
  harness::ToolResult tool(const std::string& verb, const std::vector<std::string>& more = {}) {
    auto arguments = arguments_of(verb);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return harness::Tool::run(arguments, seconds(180));
  }
  static void wait_ready(harness::Tool& run) { run.wait_output("streaming from the source", seconds(180)); }
  // Rows that a client saw committed on the server that takes writes.
  void write(Cluster& server, int rows) {
    auto session = server.connect(kDatabase, "app");
    for (int i = 0; i < rows; ++i) {
      session.exec("INSERT INTO fact (text) VALUES ('row')");
    }
    written_ += rows;
  }
  void wait_equal(harness::Tool& run) {
    wait_until(seconds(180), "the target has what was written", [&] {
      if (!run.running()) {
        FAIL("run ended:\n" << run.errors());
      }
      return target_.value(kDatabase, "SELECT count(*) FROM fact") == std::to_string(written_);
    });
  }
  void wait_slot_kept() {
    wait_until(seconds(180), "the standby keeps the slot", [&] {
      primary_.sql(kDatabase, "CHECKPOINT");  // writes what the slot's restart position needs
      return standby_.value("postgres", std::string("SELECT synced AND NOT temporary AND "
                                                    "invalidation_reason IS NULL FROM pg_replication_slots "
                                                    "WHERE slot_name = '") +
                                            kSlot + "'") == "t";
    });
  }
  void promote() {
    standby_.sql("postgres", "SELECT pg_promote(true, 30)");
    wait_until(seconds(180), "the standby takes writes",
               [&] { return standby_.value("postgres", "SELECT pg_is_in_recovery()") == "f"; });
  }

  Cluster& primary() { return primary_; }
  Cluster& standby() { return standby_; }
  Cluster& target() { return target_; }

 private:
  static void run(const std::vector<std::string>& argv) {
    const auto result = replication::base::run_command({.argv = argv, .env = {}, .stdin_text = {}},
                                                       seconds(180), replication::base::Stop::never());
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  }
  std::vector<std::string> arguments_of(const std::string& verb) const {
    const char* client = std::getenv("PGCUTOVER_TEST_CLIENT");
    return {verb,
            "--pg-bindir",
            client != nullptr ? client : primary_.bin_directory(),
            "--name",
            "fo",
            "--source",
            "host=" + primary_.host() + "," + standby_.host() +
                " port=5432 user=mover target_session_attrs=read-write dbname=" + kDatabase,
            "--target",
            target_.conninfo(kDatabase, "mover"),
            "--verify-gate",
            "none"};
  }

  Cluster primary_, standby_, target_;
  int written_ = 0;
};

}  // namespace

TEST_CASE("a failover to a standby that kept the slot in step: the stream goes on, nothing lost or doubled") {
  const auto version = with_failover_slots();
  if (version.empty()) {
    MESSAGE("no server of 17 or later: left out");
    return;
  }
  Trio trio(version);
  trio.keep_slots();
  auto run = trio.start_run({"--failover-slots"});
  Trio::wait_ready(*run);
  trio.write(trio.primary(), 20);
  trio.wait_equal(*run);
  trio.wait_slot_kept();
  trio.write(trio.primary(), 20);
  trio.wait_equal(*run);
  trio.primary().kill9();
  trio.promote();
  trio.write(trio.standby(), 20);
  trio.wait_equal(*run);
  CHECK_MESSAGE(has(run->errors(), "failed over: timeline 2"), run->errors());

  // The new timeline is remembered: a later run and a hand-over find everything as it should be.
  run->terminate();
  CHECK(run->wait(seconds(180)) == 0);
  run = trio.start_run({"--failover-slots"});
  Trio::wait_ready(*run);
  trio.write(trio.standby(), 20);
  trio.wait_equal(*run);
  CHECK(trio.target().value(kDatabase, "SELECT count(DISTINCT id) FROM fact") == "80");
  const auto there = trio.tool("switch", {"--max-pause", "45s", "--max-lag", "45s"});
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
  run->terminate();
  CHECK(run->wait(seconds(180)) == 0);
}

TEST_CASE("a failover behind which the target has changes that the new source never had is refused") {
  const auto version = with_failover_slots();
  if (version.empty()) {
    MESSAGE("no server of 17 or later: left out");
    return;
  }
  Trio trio(version);
  trio.keep_slots();
  auto run = trio.start_run({"--failover-slots"});
  Trio::wait_ready(*run);
  trio.write(trio.primary(), 20);
  trio.wait_equal(*run);
  trio.wait_slot_kept();
  trio.standby().stop();
  trio.let_ahead();
  trio.write(trio.primary(), 20);
  trio.wait_equal(*run);
  trio.primary().kill9();
  trio.standby().start();
  trio.promote();
  CHECK_MESSAGE(run->wait(seconds(180)) == 8, run->errors());
  CHECK_MESSAGE(has(run->errors(), "its history forked at "), run->errors());
  CHECK_MESSAGE(has(run->errors(), "to be copied again: public.fact"), run->errors());
  auto again = trio.start_run({"--failover-slots"});
  CHECK_MESSAGE(again->wait(seconds(180)) == 8, again->errors());
  CHECK_MESSAGE(has(again->errors(), "its history forked at "), again->errors());
}

TEST_CASE("a failover without such a slot is refused, with the table to be copied again") {
  Trio trio("");
  auto run = trio.start_run();
  Trio::wait_ready(*run);
  trio.write(trio.primary(), 20);
  trio.wait_equal(*run);
  wait_until(seconds(180), "the standby has it",
             [&] { return trio.standby().value(kDatabase, "SELECT count(*) FROM fact") == "20"; });
  trio.primary().kill9();
  trio.promote();
  CHECK_MESSAGE(run->wait(seconds(180)) == 8, run->errors());
  CHECK_MESSAGE(has(run->errors(), "on timeline 2 instead of 1"), run->errors());
  CHECK_MESSAGE(has(run->errors(), "to be copied again: public.fact"), run->errors());
  const auto cancelled = trio.tool("cancel", {"--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
}
