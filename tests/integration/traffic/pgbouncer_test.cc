// A real pgbouncer between real servers: held, released, moved, and what remains after a holder's death.
#include "tests/harness/pgbouncer.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <doctest/doctest.h>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "cutover/plan/plan.h"
#include "cutover/traffic/traffic.h"
#include "replication/base/error.h"
#include "replication/postgres/connection.h"
#include "tests/harness/cluster.h"
#include "tests/harness/temp_dir.h"
#include "tests/harness/wait.h"

using namespace cutover::traffic;
using cutover::plan::Plan;
using harness::Deadline;
using harness::milliseconds;
using harness::wait_until;
using replication::base::Error;
using replication::base::Stop;
using replication::base::TimeoutError;
using replication::postgres::Connection;
using replication::postgres::ConnInfo;

namespace {

Deadline soon() {
  return Deadline::in(milliseconds(180'000));
}

// Two servers, each with a database whose table says which it is.
struct Servers {
  Servers() : source({.name = "source"}), target({.name = "target"}) {
    source.sql("postgres", "CREATE DATABASE shop");
    target.sql("postgres", "CREATE DATABASE shop_new");
    source.sql("shop", "CREATE TABLE here AS SELECT 'source'::text AS side; CREATE TABLE hit (id int)");
    target.sql("shop_new", "CREATE TABLE here AS SELECT 'target'::text AS side; CREATE TABLE hit (id int)");
  }
  std::string source_entry() const {
    return "host=" + source.host() + " port=5432 dbname=shop user=postgres   pool_size=7";
  }
  harness::Cluster source, target;
};

Servers& servers() {
  static Servers both;
  return both;
}

std::unique_ptr<harness::Pgbouncer> make_bouncer(std::vector<std::string> conf = {}) {
  return std::make_unique<harness::Pgbouncer>(harness::PgbouncerOptions{
      .databases = {{"shop", servers().source_entry()}, {"other-db", servers().source_entry()}},
      .conf = std::move(conf)});
}

void add_pooler(Plan& plan, const harness::Pgbouncer& bouncer) {
  cutover::plan::App app;
  app.name = "web" + std::to_string(plan.apps.size() + 1);
  app.pgbouncers.push_back({.admin = ConnInfo::parse(bouncer.console_conninfo(), "admin"),
                            .database = "shop",
                            .ini = bouncer.databases_ini(),
                            .edit_command = {},
                            .source = {},
                            .target = {}});
  plan.apps.push_back(app);
}

Plan make_plan(std::initializer_list<harness::Pgbouncer*> bouncers) {
  Plan plan;
  plan.source = ConnInfo::parse(servers().source.conninfo("shop"), "source");
  plan.target = ConnInfo::parse(servers().target.conninfo("shop_new"), "target");
  for (const auto* bouncer : bouncers) {
    add_pooler(plan, *bouncer);
  }
  return plan;
}

Connection connect(const harness::Pgbouncer& bouncer) {
  replication::postgres::SessionOptions options;
  options.server = "through the pooler";
  options.kind = replication::postgres::SessionKind::console;  // no settings: the pooler would refuse them
  return Connection::open(ConnInfo::parse(bouncer.conninfo("shop", "postgres"), "client"), options,
                          Stop::never());
}

std::string side(const harness::Pgbouncer& bouncer) {
  return connect(bouncer).exec("SELECT side FROM public.here", soon()).text(0, 0);
}

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool paused(const harness::Pgbouncer& bouncer) {
  const auto rows = bouncer.console("SHOW DATABASES");
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.text_or(row, 0, "") == "shop") {
      return rows.text_or(row, rows.columns() - 2, "") == "1";
    }
  }
  throw Error("the pooler doesn't know shop");
}

// Clients that never stop: each transaction is counted.
class Load {
 public:
  explicit Load(const harness::Pgbouncer& bouncer) {
    for (int client = 0; client < 4; ++client) {
      threads_.emplace_back([this, &bouncer] {
        try {
          auto connection = connect(bouncer);
          while (!quit_) {
            connection.exec("BEGIN; INSERT INTO public.hit VALUES (1); COMMIT", soon());
            ++done_;
          }
        } catch (const std::exception&) {
          ++failed_;
        }
      });
    }
  }
  ~Load() { end(); }
  void end() {
    quit_ = true;
    threads_.clear();
  }
  int done() const { return done_; }
  int failed() const { return failed_; }

 private:
  std::atomic<bool> quit_{false};
  std::atomic<int> done_{0}, failed_{0};
  std::vector<std::jthread> threads_;
};

bool has_finding(const replication::base::Findings& findings, const std::string& id) {
  for (const auto& finding : findings) {
    if (finding.id == id) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("a healthy pooler has no findings and is left as it was") {
  const auto bouncer = make_bouncer();
  TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
  const auto before = read(bouncer->databases_ini());
  for (const auto& finding : traffic.check_all(Destination::source, milliseconds(5000))) {
    FAIL(finding.id << ": " << finding.message);
  }
  CHECK(read(bouncer->databases_ini()) == before);
  CHECK(traffic.points_to() == Destination::source);
  CHECK_FALSE(traffic.any_held());
}

TEST_CASE("under load a pause holds every transaction and none fails") {
  const auto bouncer = make_bouncer();
  TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
  Load load(*bouncer);
  wait_until(soon(), "clients are at work", [&] { return load.done() > 200; });
  for (int round = 0; round < 5; ++round) {
    traffic.hold_all(soon());
    CHECK(traffic.any_held());
    const auto open = servers().source.value(
        "postgres",
        "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = 'shop' AND state <> 'idle'");
    CHECK(open == "0");
    const int at_pause = load.done();
    traffic.release_all(soon());
    wait_until(soon(), "clients go on", [&] { return load.done() > at_pause + 50; });
  }
  CHECK(load.failed() == 0);
}

TEST_CASE("a move under load loses no transaction, is proven, and moving back restores the file") {
  const auto bouncer = make_bouncer();
  if (geteuid() == 0) {  // the pooler runs as another user then
    const auto user = harness::unprivileged_user();
    REQUIRE(chown(bouncer->databases_ini().c_str(), user.uid, user.gid) == 0);
  }
  chmod(bouncer->databases_ini().c_str(), 0640);
  struct stat before {};
  REQUIRE(stat(bouncer->databases_ini().c_str(), &before) == 0);
  const auto text = read(bouncer->databases_ini());
  TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
  const auto rows = [] {
    return std::stoi(*servers().source.value("shop", "SELECT count(*) FROM hit")) +
           std::stoi(*servers().target.value("shop_new", "SELECT count(*) FROM hit"));
  };
  const int rows_before = rows();
  int done = 0;
  {
    Load load(*bouncer);
    wait_until(soon(), "clients are at work", [&] { return load.done() > 100; });
    traffic.hold_all(soon());
    traffic.move_all(Destination::target, soon());
    CHECK(traffic.points_to() == Destination::target);
    const auto on_source = servers().source.value("shop", "SELECT count(*) FROM hit");
    traffic.release_all(soon());
    const int at_move = load.done();
    wait_until(soon(), "clients go on", [&] { return load.done() > at_move + 100; });
    CHECK(servers().source.value("shop", "SELECT count(*) FROM hit") == on_source);
    CHECK(side(*bouncer) == "target");
    load.end();
    CHECK(load.failed() == 0);
    done = load.done();
  }
  traffic.move_all(Destination::target, soon());  // twice: nothing more
  CHECK(rows() - rows_before == done);
  traffic.move_all(Destination::source, soon());
  CHECK(side(*bouncer) == "source");
  CHECK(read(bouncer->databases_ini()) == text);
  struct stat after {};
  REQUIRE(stat(bouncer->databases_ini().c_str(), &after) == 0);
  CHECK(after.st_mode == before.st_mode);
  CHECK(after.st_uid == before.st_uid);
  CHECK(after.st_gid == before.st_gid);
}

TEST_CASE("another process moves back what this one has moved, to the letter") {
  const auto bouncer = make_bouncer();
  const auto text = read(bouncer->databases_ini());
  const auto plan = make_plan({bouncer.get()});
  TrafficSet(plan, {}, Stop::never()).move_all(Destination::target, soon());
  CHECK(side(*bouncer) == "target");
  TrafficSet(plan, {}, Stop::never()).move_all(Destination::source, soon());
  CHECK(read(bouncer->databases_ini()) == text);
  CHECK(side(*bouncer) == "source");
}

TEST_CASE("an open transaction makes a pause time out: named, and traffic flows again at once") {
  const auto bouncer = make_bouncer();
  TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
  auto client = connect(*bouncer);
  client.exec("BEGIN; SELECT 1", soon());
  const auto backend = client.exec("SELECT pg_catalog.pg_backend_pid()", soon()).text(0, 0);
  for (int round = 0; round < 2; ++round) {
    const auto began = std::chrono::steady_clock::now();
    try {
      traffic.hold_all(Deadline::in(milliseconds(2'000)));
      FAIL("held in spite of an open transaction");
    } catch (const TimeoutError& error) {
      CHECK_MESSAGE(error.message().find("backend pid " + backend) != std::string::npos, error.message());
    }
    CHECK(std::chrono::steady_clock::now() - began < milliseconds(60'000));
    CHECK_FALSE(paused(*bouncer));
    CHECK(side(*bouncer) == "source");  // others get through while it is still open
  }
  client.exec("COMMIT", soon());
  traffic.hold_all(soon());
  CHECK(paused(*bouncer));
  traffic.release_all(soon());
  CHECK(side(*bouncer) == "source");
}

TEST_CASE("a stop request ends the wait for a pause and traffic flows again") {
  const auto bouncer = make_bouncer();
  Stop stop;
  TrafficSet traffic(make_plan({bouncer.get()}), {}, stop);
  auto client = connect(*bouncer);
  client.exec("BEGIN; SELECT 1", soon());
  std::jthread asks([&] {
    wait_until(soon(), "the pause is waiting", [&] { return paused(*bouncer); });
    stop.request();
  });
  CHECK_THROWS_AS(traffic.hold_all(soon()), replication::base::Stopped);
  CHECK_FALSE(paused(*bouncer));
  CHECK(side(*bouncer) == "source");
}

TEST_CASE("a killed holder leaves the pause behind and a successor releases it") {
  const auto bouncer = make_bouncer();
  const auto plan = make_plan({bouncer.get()});
  const pid_t holder = fork();
  if (holder == 0) {
    try {
      TrafficSet traffic(plan, {}, Stop::never());
      traffic.hold_all(soon());
      ::kill(getpid(), SIGKILL);
    } catch (...) {
    }
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(holder, &status, 0) == holder);
  REQUIRE(WIFSIGNALED(status));
  CHECK(paused(*bouncer));
  TrafficSet successor(plan, {}, Stop::never());
  CHECK(successor.any_held());
  successor.release_all(soon());
  CHECK_FALSE(paused(*bouncer));
  CHECK(side(*bouncer) == "source");
  successor.release_all(soon());  // nothing more to do
}

TEST_CASE("two poolers are held all or nothing") {
  const auto first = make_bouncer();
  const auto second = make_bouncer();
  TrafficSet traffic(make_plan({first.get(), second.get()}), {}, Stop::never());
  {
    auto client = connect(*second);
    client.exec("BEGIN; SELECT 1", soon());
    CHECK_THROWS_AS(traffic.hold_all(Deadline::in(milliseconds(2'000))), TimeoutError);
    CHECK_FALSE(paused(*first));
    CHECK_FALSE(paused(*second));
    CHECK(side(*first) == "source");
    client.exec("COMMIT", soon());
  }
  traffic.hold_all(soon());
  CHECK(paused(*first));
  CHECK(paused(*second));
  traffic.move_all(Destination::target, soon());
  traffic.release_all(soon());
  CHECK(side(*first) == "target");
  CHECK(side(*second) == "target");

  second->stop();
  CHECK_THROWS_AS(traffic.hold_all(Deadline::in(milliseconds(2'000))), Error);
  CHECK_FALSE(paused(*first));
  CHECK(has_finding(traffic.check_all(Destination::target, milliseconds(5000)), "pooler-unreachable"));
}

TEST_CASE("a pooler whose console can't answer in time isn't taken for held, and no late pause follows") {
  const auto bouncer = make_bouncer();
  TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
  REQUIRE(traffic.check_all(Destination::source, milliseconds(5000)).empty());  // both sessions are open now
  ::kill(bouncer->pid(), SIGSTOP);
  std::jthread wakes([&] {
    // The pause has timed out by then; its command is still in the frozen pooler's socket.
    Stop::never().wait(Deadline::in(milliseconds(5'000)));
    ::kill(bouncer->pid(), SIGCONT);
  });
  CHECK_THROWS_AS(traffic.hold_all(Deadline::in(milliseconds(300))), Error);
  wakes.join();
  CHECK_FALSE(paused(*bouncer));
  CHECK(side(*bouncer) == "source");
  CHECK_FALSE(paused(*bouncer));
}

TEST_CASE("what would spoil a switch is found before it") {
  SUBCASE("session pooling") {
    const auto bouncer = make_bouncer({"pool_mode = session"});
    TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
    CHECK(has_finding(traffic.check_all(Destination::source, milliseconds(5000)), "pooler-session-pooling"));
  }
  SUBCASE("clients that are thrown out during the pause") {
    const auto bouncer = make_bouncer({"query_wait_timeout = 3", "client_login_timeout = 4"});
    TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
    const auto findings = traffic.check_all(Destination::source, milliseconds(5000));
    CHECK(has_finding(findings, "pooler-query-wait"));
    CHECK(has_finding(findings, "pooler-login-timeout"));
    CHECK(traffic.check_all(Destination::source, milliseconds(2000)).empty());
  }
  SUBCASE("a pooler that points elsewhere") {
    const auto bouncer = make_bouncer();
    TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
    CHECK(has_finding(traffic.check_all(Destination::target, milliseconds(5000)), "pooler-address"));
  }
  SUBCASE("an ini that isn't the pooler's") {
    const auto bouncer = make_bouncer();
    const auto unrelated = make_bouncer();
    unrelated->write_databases({{"shop", "host=/elsewhere"}});
    auto plan = make_plan({bouncer.get()});
    plan.apps[0].pgbouncers[0].ini = unrelated->databases_ini();
    TrafficSet traffic(plan, {}, Stop::never());
    CHECK(has_finding(traffic.check_all(Destination::source, milliseconds(5000)), "pooler-ini"));
    CHECK_THROWS_AS(traffic.move_all(Destination::target, Deadline::in(milliseconds(500))), Error);
    CHECK(side(*bouncer) == "source");
  }
  SUBCASE("a configuration that can't be loaded, though RELOAD says nothing") {
    const auto bouncer = make_bouncer();
    TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
    const auto text = read(bouncer->databases_ini());
    harness::write_file(bouncer->databases_ini(), "[databases]\nnonsense\n" + text);
    const auto broken = read(bouncer->databases_ini());
    CHECK(has_finding(traffic.check_all(Destination::source, milliseconds(5000)), "pooler-ini"));
    CHECK(read(bouncer->databases_ini()) == broken);
    const auto began = std::chrono::steady_clock::now();
    CHECK_THROWS_AS(traffic.move_all(Destination::target, soon()), Error);
    CHECK(std::chrono::steady_clock::now() - began < milliseconds(60'000));  // not the deadline of the move
    harness::write_file(bouncer->databases_ini(), text);
    CHECK(traffic.check_all(Destination::source, milliseconds(5000)).empty());
    CHECK(side(*bouncer) == "source");
  }
  SUBCASE("a file that the pooler may not read") {
    if (geteuid() != 0) {
      return;  // the pooler is ourselves then
    }
    const auto bouncer = make_bouncer();
    chmod(bouncer->databases_ini().c_str(), 0600);
    TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
    CHECK(has_finding(traffic.check_all(Destination::source, milliseconds(5000)), "pooler-ini"));
  }
  SUBCASE("a database the pooler doesn't know") {
    const auto bouncer = make_bouncer();
    auto plan = make_plan({bouncer.get()});
    plan.apps[0].pgbouncers[0].database = "nosuch";
    TrafficSet traffic(plan, {}, Stop::never());
    CHECK(has_finding(traffic.check_all(Destination::source, milliseconds(5000)), "pooler-database"));
    CHECK_THROWS_AS(traffic.hold_all(Deadline::in(milliseconds(500))), Error);
  }
  SUBCASE("a pause that somebody left behind") {
    const auto bouncer = make_bouncer();
    bouncer->console("PAUSE shop");
    TrafficSet traffic(make_plan({bouncer.get()}), {}, Stop::never());
    CHECK(has_finding(traffic.check_all(Destination::source, milliseconds(5000)), "pooler-paused"));
    traffic.release_all(soon());
  }
}

TEST_CASE("an edit command moves where there is no file to edit") {
  const auto bouncer = make_bouncer();
  auto plan = make_plan({bouncer.get()});
  auto& spec = plan.apps[0].pgbouncers[0];
  spec.edit_command = {
      "sh", "-c",
      "printf '[databases]\\nshop = host=%s port=%s dbname=%s user=postgres\\n' \"$PGCUTOVER_HOST\" "
      "\"$PGCUTOVER_PORT\" \"$PGCUTOVER_DBNAME\" > " +
          spec.ini};
  spec.ini.clear();
  TrafficSet traffic(plan, {}, Stop::never());
  CHECK(traffic.check_all(Destination::source, milliseconds(5000)).empty());
  traffic.move_all(Destination::target, soon());
  CHECK(side(*bouncer) == "target");
  traffic.move_all(Destination::source, soon());
  CHECK(side(*bouncer) == "source");
}

TEST_CASE("names with other characters than letters are held and moved") {
  const auto bouncer = make_bouncer();
  auto plan = make_plan({bouncer.get()});
  plan.apps[0].pgbouncers[0].database = "other-db";
  TrafficSet traffic(plan, {}, Stop::never());
  CHECK(traffic.check_all(Destination::source, milliseconds(5000)).empty());
  traffic.hold_all(soon());
  CHECK(traffic.any_held());
  CHECK_FALSE(paused(*bouncer));  // the other database of the same pooler flows on
  traffic.move_all(Destination::target, soon());
  traffic.release_all(soon());
  CHECK(traffic.points_to() == Destination::target);
  CHECK(side(*bouncer) == "source");
}
