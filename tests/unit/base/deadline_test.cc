#include "replication/base/deadline.h"

#include <doctest/doctest.h>

namespace replication::base {
namespace {

TEST_CASE("a deadline in the past leaves nothing, one in the future something") {
  const auto past = Deadline::at(Clock::now() - milliseconds(5));
  CHECK(past.expired());
  CHECK(past.remaining() == milliseconds(0));
  CHECK(past.poll_timeout() == 0);
  const auto future = Deadline::in(milliseconds(60'000));
  CHECK_FALSE(future.expired());
  CHECK(future.remaining() > milliseconds(50'000));
  CHECK(future.poll_timeout() > 50'000);
  CHECK(future.poll_timeout() <= 60'000);
}

TEST_CASE("what is left is rounded up, so that a poll doesn't end before the deadline") {
  const auto soon = Deadline::at(Clock::now() + std::chrono::microseconds(900));
  const auto timeout = soon.poll_timeout();
  CHECK((timeout == 1 || soon.expired()));
}

TEST_CASE("never is never over and tells poll to wait without limit") {
  CHECK_FALSE(Deadline::never().expired());
  CHECK_FALSE(Deadline::never().remaining());
  CHECK(Deadline::never().poll_timeout() == -1);
}

TEST_CASE("a deadline beyond what poll can count is cut, not wrapped") {
  CHECK(Deadline::in(std::chrono::hours(24 * 365)).poll_timeout() == 2'147'483'647);
}

TEST_CASE("the sooner of two deadlines wins, whoever asks") {
  const auto near = Deadline::in(milliseconds(1'000));
  const auto far = Deadline::in(milliseconds(100'000));
  CHECK(near.sooner(far).remaining() <= milliseconds(1'000));
  CHECK(far.sooner(near).remaining() <= milliseconds(1'000));
  CHECK(near.sooner(Deadline::never()).remaining() <= milliseconds(1'000));
  CHECK(Deadline::never().sooner(near).remaining() <= milliseconds(1'000));
  CHECK_FALSE(Deadline::never().sooner(Deadline::never()).remaining());
}

}  // namespace
}  // namespace replication::base
