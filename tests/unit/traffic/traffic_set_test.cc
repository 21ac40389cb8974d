#include <atomic>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <unistd.h>

#include "cutover/traffic/traffic.h"
#include "replication/base/error.h"

using namespace cutover::traffic;
using replication::base::Deadline;
using replication::base::Error;
using replication::base::milliseconds;
using replication::base::NeedsOperator;
using replication::base::Stop;

namespace {

// What an adapter was asked to do, and what it shall answer.
struct Script {
  bool hold_fails = false, release_fails = false, move_fails = false;
  const Stop* hold_waits_for = nullptr;  // a hold that takes its time
  Stop* released = nullptr;              // requested when released
  std::atomic<int> holds{0}, releases{0}, moves{0};
  std::atomic<bool> held{false};
  std::optional<Destination> at = Destination::source;
};

class Fake final : public Adapter {
 public:
  Fake(std::string name, Script& script) : name_(std::move(name)), script_(script) {}
  std::string name() const override { return name_; }
  base::Findings check(Destination, milliseconds) override {
    base::Finding finding;
    finding.id = name_;
    return {finding};
  }
  void hold(Deadline deadline) override {
    ++script_.holds;
    if (script_.hold_waits_for != nullptr && !script_.hold_waits_for->wait(deadline)) {
      throw base::TimeoutError(name_ + " waited in vain");
    }
    if (script_.hold_fails) {
      throw base::TimeoutError(name_ + " is busy");
    }
    script_.held = true;
  }
  void release(Deadline) override {
    ++script_.releases;
    if (script_.release_fails) {
      throw Error(name_ + " does not answer");
    }
    script_.held = false;
    if (script_.released != nullptr) {
      script_.released->request();
    }
  }
  void move(Destination to, Deadline) override {
    ++script_.moves;
    if (script_.move_fails) {
      throw Error(name_ + " can't move");
    }
    script_.at = to;
  }
  bool held() override { return script_.held; }
  std::optional<Destination> points_to() override { return script_.at; }

 private:
  std::string name_;
  Script& script_;
};

// Returned as a temporary that is never moved: a TrafficSet can't be.
TrafficSet make(std::initializer_list<Script*> scripts, Guard guard = {}) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (auto* script : scripts) {
    adapters.push_back(std::make_unique<Fake>("fake " + std::to_string(adapters.size() + 1), *script));
  }
  return TrafficSet(std::move(adapters), std::move(guard));
}

Deadline soon() {
  return Deadline::in(milliseconds(20'000));
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
    return {};
  } catch (const Error& error) {
    return error.message();
  }
}

}  // namespace

TEST_CASE("all are held, moved and released") {
  Script a, b, c;
  auto set = make({&a, &b, &c});
  CHECK(set.size() == 3);
  CHECK_FALSE(set.any_held());
  set.hold_all(soon());
  CHECK((a.held && b.held && c.held));
  CHECK(set.any_held());
  set.move_all(Destination::target, soon());
  CHECK(set.points_to() == Destination::target);
  set.release_all(soon());
  CHECK_FALSE(set.any_held());
  CHECK(set.check_all(Destination::source, milliseconds(1)).size() == 3);
}

TEST_CASE("where one can't be held, every one flows again") {
  Script a, b, c;
  b.hold_fails = true;
  auto set = make({&a, &b, &c});
  CHECK_THROWS_AS(set.hold_all(soon()), base::TimeoutError);
  CHECK(a.holds + c.holds == 2);
  CHECK(a.releases + c.releases == 2);
  CHECK_FALSE(set.any_held());
}

TEST_CASE("who is held is let go at the first failure, without waiting for the slow") {
  Script quick, failing, slow;
  Stop quick_released;
  quick.released = &quick_released;
  failing.hold_fails = true;
  slow.hold_waits_for = &quick_released;  // comes to an end only because the quick one was released meanwhile
  auto set = make({&quick, &failing, &slow});
  CHECK(message_of([&] { set.hold_all(soon()); }) == "fake 2 is busy");
  CHECK(quick.releases == 1);
  CHECK(slow.releases == 1);
  CHECK_FALSE(set.any_held());
}

TEST_CASE("who can't be let go after a failure needs an operator, by name") {
  Script a, b;
  a.release_fails = true;
  b.hold_fails = true;
  auto set = make({&a, &b});
  try {
    set.hold_all(soon());
    FAIL("nothing thrown");
  } catch (const NeedsOperator& error) {
    CHECK(error.message().find("fake 1: fake 1 does not answer") != std::string::npos);
    CHECK(error.message().find("after: fake 2 is busy") != std::string::npos);
  }
}

TEST_CASE("release and move try every one and name all that failed") {
  Script a, b, c;
  a.release_fails = c.release_fails = true;
  b.move_fails = true;
  auto set = make({&a, &b, &c});
  const auto release = message_of([&] { set.release_all(soon()); });
  CHECK(a.releases + b.releases + c.releases == 3);
  CHECK(release ==
        "2 of 3 ways of traffic could not be released: fake 1: fake 1 does not answer; fake 3: fake 3 does "
        "not answer");
  const auto move = message_of([&] { set.move_all(Destination::target, soon()); });
  CHECK(move == "1 of 3 ways of traffic could not be moved: fake 2: fake 2 can't move");
  CHECK(a.at == Destination::target);
  CHECK(c.at == Destination::target);
  CHECK_FALSE(set.points_to());
}

TEST_CASE("without the fencing token nothing is held or moved, but held clients are let go") {
  Script a;
  auto set = make(
      {&a}, {.epoch = 3, .assert_epoch = [] { throw base::StateError("another controller took over"); }});
  CHECK_THROWS_AS(set.hold_all(soon()), base::StateError);
  CHECK_THROWS_AS(set.move_all(Destination::target, soon()), base::StateError);
  CHECK(a.holds + a.moves == 0);
  set.release_all(soon());
  CHECK(a.releases == 1);
}

TEST_CASE("an empty set holds, moves and releases nothing and points nowhere") {
  auto set = make({});
  CHECK(set.empty());
  set.hold_all(soon());
  set.release_all(soon());
  set.move_all(Destination::target, soon());
  CHECK_FALSE(set.points_to());
  CHECK_FALSE(set.any_held());
}

namespace {

// An app whose hooks write what they were called with into a file.
struct HookedApp {
  HookedApp() {
    REQUIRE(mkdtemp(path) != nullptr);
    std::ofstream(file("hook"))
        << "#!/bin/sh\n"
           "echo \"$1 side=$PGCUTOVER_SIDE epoch=$PGCUTOVER_EPOCH app=$PGCUTOVER_APP\" >> " +
               file("log") +
               "\ncase $1 in\n"
               "  move) echo \"$PGCUTOVER_SIDE\" > " +
               file("side") + ";;\n  where) cat " + file("side") +
               ";;\n  slow) exec sleep 60;;\n  broken) echo 'no way' >&2; exit 3;;\nesac\n";
    std::filesystem::permissions(file("hook"), std::filesystem::perms::owner_all);
    std::ofstream(file("side")) << "source\n";
    app.name = "billing";
    app.command = cutover::plan::CommandSpec{.hold = {file("hook"), "hold"},
                                             .release = {file("hook"), "release"},
                                             .move = {file("hook"), "move"},
                                             .undo = {},
                                             .where = {file("hook"), "where"}};
  }
  ~HookedApp() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return std::string(path) + "/" + name; }
  std::string log() const {
    std::ifstream in(file("log"));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  char path[32] = "/tmp/pgcutover-hook-XXXXXX";
  cutover::plan::App app;
};

}  // namespace

TEST_CASE("hooks are run with side, epoch and app in their environment") {
  HookedApp hooked;
  const auto adapter = make_command(hooked.app, 42, Stop::never());
  CHECK(adapter->check(Destination::source, milliseconds(5000)).empty());
  CHECK(adapter->check(Destination::target, milliseconds(5000)).at(0).id == "hook-address");
  adapter->hold(soon());
  CHECK(adapter->held());
  adapter->move(Destination::target, soon());
  CHECK(adapter->points_to() == Destination::target);
  adapter->release(soon());
  adapter->release(soon());
  CHECK_FALSE(adapter->held());
  const auto log = hooked.log();
  CHECK(log.find("hold side= epoch=42 app=billing\n") != std::string::npos);
  CHECK(log.find("move side=target epoch=42 app=billing\n") != std::string::npos);
  CHECK(log.find("release side= epoch=42 app=billing\nrelease") != std::string::npos);
}

TEST_CASE("a hold that fails or takes too long is released") {
  for (const std::string how : {"slow", "broken"}) {
    HookedApp hooked;
    hooked.app.command->hold = {hooked.file("hook"), how};
    const auto adapter = make_command(hooked.app, 1, Stop::never());
    CHECK_THROWS_AS(adapter->hold(Deadline::in(milliseconds(300))), Error);
    CHECK_FALSE(adapter->held());
    CHECK(hooked.log().find("release side=") != std::string::npos);
  }
}

TEST_CASE("a move that the app doesn't confirm is an error") {
  HookedApp hooked;
  hooked.app.command->move = {"true"};
  const auto adapter = make_command(hooked.app, 1, Stop::never());
  CHECK_THROWS_AS(adapter->move(Destination::target, soon()), Error);
  adapter->move(Destination::source, soon());
}

TEST_CASE("hooks that can't be run are found before the switch") {
  HookedApp hooked;
  hooked.app.command->release = {"/nonexistent/hook"};
  hooked.app.command->move = {"no-such-program-anywhere"};
  const auto findings =
      make_command(hooked.app, 1, Stop::never())->check(Destination::source, milliseconds(1));
  REQUIRE(findings.size() == 2);
  CHECK(findings[0].id == "hook-missing");
  CHECK(findings[1].message == "no-such-program-anywhere can't be run");
}
