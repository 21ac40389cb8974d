// A server fails over to its own standby under a living run, or is set back to an older copy of its files.
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "replication/base/subprocess.h"
#include "tests/harness/cluster.h"
#include "tests/harness/temp_dir.h"
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

Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

// Those that have failover slots, of the servers that are installed.
std::vector<std::string> with_failover_slots() {
  std::vector<std::string> versions;
  for (const char* version : {"18", "17"}) {
    if (Cluster::available(version)) {
      versions.emplace_back(version);
    }
  }
  if (versions.empty()) {
    MESSAGE("no server of 17 or later: left out");
  }
  return versions;
}

enum class Role { source, target };

// A primary and its streaming standbys, one side of the migration; the server of the other side; and the
// tool, which finds whichever of the primary and its standbys takes writes.
class Trio {
 public:
  explicit Trio(const std::string& version, Role role = Role::source, int standbys = 1)
      : role_(role),
        primary_(
            {.name = "primary",
             .version = version,
             .conf = {"hot_standby = on", "wal_keep_size = 256MB", "wal_receiver_status_interval = 1s"}}),
        other_({.name = "other", .version = version}) {
    for (auto* server : {&primary_, &other_}) {
      server->sql("postgres", "CREATE ROLE app LOGIN; CREATE ROLE mover LOGIN SUPERUSER");
      server->sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " OWNER app");
    }
    (role == Role::source ? primary_ : other_)
        .connect(kDatabase, "app")
        .exec("CREATE TABLE fact (id bigserial PRIMARY KEY, text text)");
    for (int i = 0; i < standbys; ++i) {
      const auto name = "near" + std::to_string(i);
      slots_ += (slots_.empty() ? "" : ",") + name;
      primary_.sql("postgres", "SELECT pg_create_physical_replication_slot('" + name + "', true)");
      standbys_.push_back(std::make_unique<Cluster>(
          harness::ClusterOptions{.name = name, .version = version, .start = false}));
    }
    primary_.stop();
    for (int i = 0; i < standbys; ++i) {
      auto& standby = *standbys_[static_cast<std::size_t>(i)];
      const auto name = "near" + std::to_string(i);
      copy(primary_.data_path(), standby.data_path());
      run({"cp", "-a", primary_.data_path() + "/PG_VERSION", standby.data_path() + "/standby.signal"});
      run({"find", standby.data_path() + "/pg_replslot", "-mindepth", "1", "-delete"});
      standby.configure({"unix_socket_directories = '" + standby.host() + "'", "hot_standby_feedback = on",
                         "primary_slot_name = '" + name + "'",
                         "primary_conninfo = '" + primary_.conninfo() + " application_name=" + name + "'"});
    }
    primary_.start();
    for (auto& standby : standbys_) {
      standby->start();
    }
  }

  // `--failover-slots` and what a standby needs for them.
  void keep_slots() {
    primary_.configure({"synchronized_standby_slots = '" + slots_ + "'"});
    for (auto& standby : standbys_) {
      standby->configure({"sync_replication_slots = on"});
    }
  }
  // The stream may run ahead of the standby.
  void let_ahead() { primary_.configure({"synchronized_standby_slots = ''"}); }

  std::unique_ptr<harness::Tool> start_run(const std::vector<std::string>& more = {},
                                           const harness::ToolOptions& options = {}) {
    auto arguments = arguments_of("run");
    arguments.insert(arguments.end(), more.begin(), more.end());
    return std::make_unique<harness::Tool>(arguments, options);
  }
  // A run in its first copy: `fact` is in, `late` is held on the other server until the session ends.
  std::pair<std::unique_ptr<harness::Tool>, replication::postgres::Connection> start_copy(
      const std::vector<std::string>& more = {}) {
    auto& source = role_ == Role::source ? primary_ : other_;
    auto& target = role_ == Role::source ? other_ : primary_;
    source.connect(kDatabase, "app")
        .exec("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)");
    write(source, 20);
    auto run = start_run(more, {.env = harness::fault_environment("run.after-pre-data:stop")});
    run->wait_frozen(seconds(180));
    auto hold = other_.connect(kDatabase);
    hold.exec("BEGIN; LOCK TABLE late");
    run->thaw();
    wait_until(seconds(180), "one table is in, the other one waits", [&] {
      if (!run->running()) {
        FAIL("run ended:\n" << run->errors());
      }
      return target.value(kDatabase, "SELECT string_agg(name, ' ') FROM pgcutover.table_copy") == "fact" &&
             other_.value(kDatabase,
                          "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'late'::regclass AND NOT "
                          "granted") == "t";
    });
    return {std::move(run), std::move(hold)};
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
      return other_.value(kDatabase, "SELECT count(*) FROM fact") == std::to_string(written_);
    });
  }
  std::string slot() const {
    return std::string("pgcutover_fo_") + (role_ == Role::source ? "forward" : "reverse");
  }
  void wait_slot_kept() {
    for (auto& standby : standbys_) {
      wait_until(seconds(180), "the standby keeps the slot", [&] {
        primary_.sql(kDatabase, "CHECKPOINT");  // writes what the slot's restart position needs
        return standby->value("postgres",
                              "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM "
                              "pg_replication_slots WHERE slot_name = '" +
                                  slot() + "'") == "t";
      });
    }
  }
  void promote(std::size_t which = 0) {
    auto& standby = *standbys_.at(which);
    standby.sql("postgres", "SELECT pg_promote(true, 30)");
    wait_until(seconds(180), "the standby takes writes",
               [&] { return standby.value("postgres", "SELECT pg_is_in_recovery()") == "f"; });
  }
  // The beginning of most cases: a stream whose slot the standbys have.
  std::unique_ptr<harness::Tool> stream_with_kept_slot(const std::vector<std::string>& more = {}) {
    keep_slots();
    auto arguments = more;
    arguments.emplace_back("--failover-slots");
    auto run = start_run(arguments);
    wait_ready(*run);
    if (role_ == Role::target) {
      const auto there = tool("switch", {"--max-pause", "45s", "--max-lag", "45s"});
      CHECK_MESSAGE(there.exit_code == 0, there.errors);
    }
    write(primary_, 20);
    wait_equal(*run);
    wait_slot_kept();
    return run;
  }
  // Beyond whatever was applied from another copy of this server.
  void write_past_applied(Cluster& server) {
    server.connect(kDatabase, "app")
        .exec("INSERT INTO fact (text) SELECT 'astray' FROM generate_series(1, 50)");
    wait_until(seconds(180), "the server's WAL is ahead of what was applied", [&] {
      server.sql("postgres", "SELECT pg_switch_wal()");
      server.connect(kDatabase, "app").exec("INSERT INTO fact (text) VALUES ('astray')");
      const auto applied = other_.value(kDatabase, "SELECT applied_lsn FROM pgcutover.progress");
      return server.value("postgres",
                          "SELECT pg_current_wal_insert_lsn() > '" + applied.value_or("") + "'") == "t";
    });
  }
  // A heartbeat that was written later than now has come to the other side.
  void wait_heartbeat(Cluster& server) {
    const auto now =
        server.value(kDatabase, "SELECT written_us FROM pgcutover.marker WHERE id = 2").value_or("");
    wait_until(seconds(180), "a later heartbeat is known to have arrived", [&] {
      return other_.value(kDatabase, "SELECT value::bigint > " + now +
                                         " FROM pgcutover.fact WHERE key = 'heartbeat." +
                                         (role_ == Role::source ? "source" : "target") + "'") == "t";
    });
  }
  static void stop_run(harness::Tool& run) {
    run.terminate();
    CHECK(run.wait(seconds(180)) == 0);
  }
  void expect_refused(harness::Tool& run, std::string_view why) {
    CHECK_MESSAGE(run.wait(seconds(180)) == 8, run.errors());
    CHECK_MESSAGE(has(run.errors(), why), run.errors());
    CHECK_MESSAGE(has(run.errors(), "to be copied again: public.fact"), run.errors());
  }
  static void copy(const std::string& from, const std::string& to) {
    run({"rm", "-rf", to});
    run({"cp", "-a", from, to});
  }

  Cluster& primary() { return primary_; }
  Cluster& standby(std::size_t which = 0) { return *standbys_.at(which); }
  Cluster& other() { return other_; }

 private:
  static void run(const std::vector<std::string>& argv) {
    const auto result = replication::base::run_command({.argv = argv, .env = {}, .stdin_text = {}},
                                                       seconds(180), replication::base::Stop::never());
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  }
  std::vector<std::string> arguments_of(const std::string& verb) const {
    const char* client = std::getenv("PGCUTOVER_TEST_CLIENT");
    auto hosts = primary_.host();
    for (const auto& standby : standbys_) {
      hosts += "," + standby->host();
    }
    const auto many =
        "host=" + hosts + " port=5432 user=mover target_session_attrs=read-write dbname=" + kDatabase;
    const auto one = other_.conninfo(kDatabase, "mover");
    return {verb,
            "--pg-bindir",
            client != nullptr ? client : primary_.bin_directory(),
            "--name",
            "fo",
            "--source",
            role_ == Role::source ? many : one,
            "--target",
            role_ == Role::source ? one : many,
            "--verify-gate",
            "none"};
  }

  const Role role_;
  Cluster primary_, other_;
  std::vector<std::unique_ptr<Cluster>> standbys_;
  std::string slots_;  // of the standbys
  int written_ = 0;
};

}  // namespace

TEST_CASE("a failover to a standby that kept the slot in step: the stream goes on, nothing lost or doubled") {
  for (const auto& version : with_failover_slots()) {
    CAPTURE(version);
    Trio trio(version);
    auto run = trio.stream_with_kept_slot();
    trio.write(trio.primary(), 20);
    trio.wait_equal(*run);
    trio.primary().kill9();
    trio.promote();
    trio.write(trio.standby(), 20);
    trio.wait_equal(*run);
    CHECK_MESSAGE(has(run->errors(), "failed over: timeline 2"), run->errors());

    // The new timeline is remembered: a later run and a hand-over find everything as it should be.
    Trio::stop_run(*run);
    run = trio.start_run({"--failover-slots"});
    Trio::wait_ready(*run);
    trio.write(trio.standby(), 20);
    trio.wait_equal(*run);
    CHECK(trio.other().value(kDatabase, "SELECT count(DISTINCT id) FROM fact") == "80");
    const auto there = trio.tool("switch", {"--max-pause", "45s", "--max-lag", "45s"});
    CHECK_MESSAGE(there.exit_code == 0, there.errors);
    Trio::stop_run(*run);
  }
}

TEST_CASE("the target fails over on the way back: the stream back goes on") {
  for (const auto& version : with_failover_slots()) {
    CAPTURE(version);
    Trio trio(version, Role::target);
    auto run = trio.stream_with_kept_slot();
    trio.primary().kill9();
    trio.promote();
    trio.write(trio.standby(), 20);
    trio.wait_equal(*run);
    CHECK_MESSAGE(has(run->errors(), "the target failed over: timeline 2"), run->errors());
    const auto back = trio.tool("rollback", {"--max-pause", "45s", "--max-lag", "45s"});
    CHECK_MESSAGE(back.exit_code == 0, back.errors);
    Trio::stop_run(*run);
    break;  // one of the versions will do
  }
}

TEST_CASE("a failover between the receipt of changes and their apply, and with a spool") {
  for (const auto& version : with_failover_slots()) {
    Trio trio(version);
    const harness::TempDir spool("pgcut-spool");
    std::unique_ptr<harness::Tool> run;
    SUBCASE("queued") {
      run = trio.stream_with_kept_slot();
    }
    SUBCASE("spooled") {
      run = trio.stream_with_kept_slot({"--spool", spool.path().string()});
    }
    auto lock = trio.other().connect(kDatabase);
    lock.exec("BEGIN; LOCK TABLE fact");
    trio.write(trio.primary(), 20);
    const auto end = trio.primary().value("postgres", "SELECT pg_current_wal_insert_lsn()").value_or("");
    wait_until(seconds(180), "the tool has it", [&] {
      return trio.primary().value("postgres",
                                  "SELECT s.sent_lsn >= '" + end +
                                      "' FROM pg_stat_replication s JOIN pg_replication_slots r ON "
                                      "r.active_pid = s.pid WHERE r.slot_name = '" +
                                      trio.slot() + "'") == "t";
    });
    trio.primary().kill9();
    trio.promote();
    trio.write(trio.standby(), 20);
    lock.exec("COMMIT");
    trio.wait_equal(*run);
    CHECK_MESSAGE(has(run->errors(), "failed over: timeline 2"), run->errors());
    CHECK(trio.other().value(kDatabase, "SELECT count(DISTINCT id) FROM fact") == "60");
    Trio::stop_run(*run);
    break;
  }
}

TEST_CASE("a failover behind which the target has changes that the new source never had is refused") {
  for (const auto& version : with_failover_slots()) {
    Trio trio(version);
    auto run = trio.stream_with_kept_slot();
    trio.standby().stop();
    trio.let_ahead();
    trio.write(trio.primary(), 20);
    trio.wait_equal(*run);
    trio.primary().kill9();
    trio.standby().start();
    trio.promote();
    trio.expect_refused(*run, "its history forked at ");
    trio.expect_refused(*trio.start_run({"--failover-slots"}), "its history forked at ");
    break;
  }
}

TEST_CASE("of two standbys that were promoted separately, both on timeline 2, the second is refused") {
  for (const auto& version : with_failover_slots()) {
    Trio trio(version, Role::source, 2);
    auto run = trio.stream_with_kept_slot();
    trio.primary().kill9();
    trio.promote(0);
    trio.write(trio.standby(0), 20);
    trio.wait_equal(*run);
    Trio::stop_run(*run);
    trio.standby(0).kill9();
    trio.promote(1);
    trio.write_past_applied(trio.standby(1));
    auto again = trio.start_run({"--failover-slots"});
    CHECK_MESSAGE(again->wait(seconds(180)) == 8, again->errors());
    const auto told = again->errors();
    CHECK_MESSAGE((has(told, "is on timeline 2 from ") || has(told, "another copy of the server")), told);
    CHECK_MESSAGE(has(told, "to be copied again: public.fact"), told);
    break;
  }
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
  trio.expect_refused(*run, "on timeline 2 instead of 1");
  const auto cancelled = trio.tool("cancel", {"--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
}

// What was copied may hold transactions that the promoted server never had, whatever its slot says.
TEST_CASE("a failover of the source during the first copy is refused, also where the slot was kept") {
  const auto versions = with_failover_slots();
  for (const bool kept : {true, false}) {
    CAPTURE(kept);
    if (kept && versions.empty()) {
      continue;
    }
    Trio trio(kept ? versions.front() : "");
    const harness::TempDir spool("pgcut-spool");
    std::vector<std::string> more{"--spool", spool.path().string()};
    if (kept) {
      trio.keep_slots();
      more.emplace_back("--failover-slots");
    }
    auto [run, hold] = trio.start_copy(more);
    if (kept) {  // the spool moves the slot on
      trio.write(trio.primary(), 20);
      trio.wait_slot_kept();
    }
    trio.primary().kill9();
    trio.promote();
    hold.exec("COMMIT");
    CHECK_MESSAGE(run->wait(seconds(180)) == 8, run->errors());
    const auto told = run->errors();
    CHECK_MESSAGE(has(told, kept ? "failed over while tables were copied" : "doesn't exist"), told);
    CHECK_MESSAGE(has(told, "to be copied again: "), told);
    const auto cancelled = trio.tool("cancel", {"--yes"});
    CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
    run = trio.start_run();
    Trio::wait_ready(*run);
    trio.write(trio.standby(), 20);
    trio.wait_equal(*run);
    Trio::stop_run(*run);
  }
}

// What a table's copy left there and the record of it are one transaction: the standby has both or neither.
TEST_CASE("a failover of the target during the first copy: the copy goes on there") {
  Trio trio("", Role::target);
  auto [run, hold] = trio.start_copy();
  wait_until(seconds(180), "the standby has what is copied",
             [&] { return trio.standby().value(kDatabase, "SELECT count(*) FROM fact") == "20"; });
  trio.primary().kill9();
  trio.promote();
  hold.exec("INSERT INTO late VALUES (2); COMMIT");
  trio.write(trio.other(), 20);
  Trio::wait_ready(*run);
  wait_until(seconds(180), "the promoted target has what was written", [&] {
    if (!run->running()) {
      FAIL("run ended:\n" << run->errors());
    }
    return trio.standby().value(kDatabase, "SELECT count(*) || ' ' || count(DISTINCT id) FROM fact") ==
           "40 40";
  });
  CHECK(trio.standby().value(kDatabase, "SELECT count(*) FROM late") == "2");
  const auto verified = trio.tool("verify");
  CHECK_MESSAGE(verified.exit_code == 0, verified.output);
  Trio::stop_run(*run);
}

// The same system, timeline and slot; its WAL ends behind what was applied, so its position tells nothing.
TEST_CASE("a side that is set back to an older copy of its files is refused, whatever it has written since") {
  for (const auto role : {Role::source, Role::target}) {
    CAPTURE(role == Role::source);
    Trio trio("", role, 0);
    auto run = trio.start_run();
    Trio::wait_ready(*run);
    if (role == Role::target) {
      const auto there = trio.tool("switch", {"--max-pause", "45s", "--max-lag", "45s"});
      CHECK_MESSAGE(there.exit_code == 0, there.errors);
    }
    trio.write(trio.primary(), 5);
    trio.wait_equal(*run);
    Trio::stop_run(*run);
    const auto copy = trio.primary().data_path() + ".older";
    trio.primary().stop();
    Trio::copy(trio.primary().data_path(), copy);
    trio.primary().start();
    run = trio.start_run();
    trio.write(trio.primary(), 20);
    trio.wait_equal(*run);
    trio.wait_heartbeat(trio.primary());
    Trio::stop_run(*run);
    trio.primary().stop();
    Trio::copy(copy, trio.primary().data_path());
    trio.primary().start();
    trio.write_past_applied(trio.primary());
    run = trio.start_run();
    CHECK_MESSAGE(run->wait(seconds(180)) == 8, run->errors());
    CHECK_MESSAGE(has(run->errors(), "it was set back to an earlier state"), run->errors());
    CHECK(has(run->errors(), "to be copied again: public.fact") == (role == Role::source));
    CHECK(trio.other().value(kDatabase, "SELECT count(*) FROM fact WHERE text = 'astray'") == "0");
  }
}

TEST_CASE("a promoted server that lost its timeline's history file can be moved") {
  Trio trio("");
  trio.primary().kill9();
  trio.promote();
  std::filesystem::remove(trio.standby().data_path() + "/pg_wal/00000002.history");
  auto run = trio.start_run();
  Trio::wait_ready(*run);
  trio.write(trio.standby(), 20);
  trio.wait_equal(*run);
  Trio::stop_run(*run);
}

TEST_CASE("a slot that the server gave up for idleness (18) is told with the reason") {
  if (!Cluster::available("18")) {
    MESSAGE("no server of 18: left out");
    return;
  }
  Trio trio("18", Role::source, 0);
  auto run = trio.start_run();
  Trio::wait_ready(*run);
  trio.write(trio.primary(), 5);
  trio.wait_equal(*run);
  Trio::stop_run(*run);
  trio.primary().configure({"idle_replication_slot_timeout = '1s'"});
  wait_until(seconds(180), "the slot is given up", [&] {
    trio.primary().sql("postgres", "CHECKPOINT");
    return trio.primary().value("postgres", "SELECT invalidation_reason FROM pg_replication_slots") ==
           "idle_timeout";
  });
  trio.expect_refused(*trio.start_run(), "idle_timeout");
}
