#include "replication/apply/control.h"

#include <doctest/doctest.h>
#include <future>

#include "replication/base/error.h"

using namespace replication::apply;
using replication::base::Deadline;
using replication::base::Lsn;
using replication::base::milliseconds;

namespace {

const auto soon = [] { return Deadline::in(milliseconds{60'000}); };
const auto at_once = [] { return Deadline::in(milliseconds{0}); };

}  // namespace

TEST_CASE("an order to hold is fulfilled at once while nothing is under way") {
  Control control;
  control.started({100});
  CHECK(control.hold(at_once()) == WaitResult::timed_out);  // the thread is in the middle of something
  control.enter_boundary();
  CHECK(control.stats().held);
  control.leave_boundary();
  CHECK_FALSE(control.may_apply({200}));
  control.release();
  CHECK(control.may_apply({200}));
  CHECK_FALSE(control.stats().held);
}

TEST_CASE("run_until lets exactly the transactions below it pass") {
  Control control;
  control.started({100});
  control.enter_boundary();
  REQUIRE(control.hold(soon()) == WaitResult::reached);
  control.leave_boundary();
  auto waiting = std::async(std::launch::async, [&] { return control.run_until({300}, soon()); });
  while (!control.may_apply({299})) {
    std::this_thread::yield();
  }
  CHECK_FALSE(control.may_apply({300}));
  control.park({300},
               Deadline::in(milliseconds{1}));  // a transaction at 300 arrived: everything below is applied
  CHECK(waiting.get() == WaitResult::reached);
  CHECK(control.stats().held);
  CHECK_FALSE(control.may_apply({299}));
}

TEST_CASE("run_until is reached by an idle position beyond it, and at once where it is behind") {
  Control control;
  control.started({100});
  control.enter_boundary();
  REQUIRE(control.hold(soon()) == WaitResult::reached);
  CHECK(control.run_until({100}, at_once()) == WaitResult::reached);
  auto waiting = std::async(std::launch::async, [&] { return control.run_until({300}, soon()); });
  while (!control.may_apply({299})) {
    std::this_thread::yield();
  }
  ApplyStats stats;
  stats.applied_lsn = {400};
  control.publish(stats);
  CHECK(waiting.get() == WaitResult::reached);
}

TEST_CASE("a run_until that timed out holds again") {
  Control control;
  control.started({100});
  control.enter_boundary();
  REQUIRE(control.hold(soon()) == WaitResult::reached);
  CHECK(control.run_until({300}, at_once()) == WaitResult::timed_out);
  CHECK(control.stats().held);
  CHECK_FALSE(control.may_apply({200}));
}

TEST_CASE("who waits hears of a failure") {
  Control control;
  control.started({100});
  control.ended(std::make_exception_ptr(replication::base::Error("broken")));
  CHECK(control.hold(soon()) == WaitResult::failed);
  CHECK(control.wait_marker("m", soon(), nullptr) == WaitResult::failed);
  CHECK(control.wait_durable({200}, soon()) == WaitResult::failed);
  CHECK_THROWS_AS(control.start_lsn(), replication::base::Error);
}

TEST_CASE("a marker is found by its token") {
  Control control;
  control.started({100});
  control.marker_applied("a", {110});
  control.marker_applied("b", {120});
  Lsn end;
  CHECK(control.wait_marker("a", at_once(), &end) == WaitResult::reached);
  CHECK(end == Lsn{110});
  CHECK(control.wait_marker("c", at_once(), &end) == WaitResult::timed_out);
}
