#include "replication/base/stop.h"

#include <array>
#include <cerrno>
#include <doctest/doctest.h>
#include <future>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "replication/base/error.h"

namespace replication::base {
namespace {

constexpr milliseconds kLong{30'000};

class Pipe {
 public:
  Pipe() { REQUIRE(pipe(ends_.data()) == 0); }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  int read_end() const { return ends_[0]; }
  void fill() const { REQUIRE(write(ends_[1], "x", 1) == 1); }

 private:
  std::array<int, 2> ends_{};
};

TEST_CASE("a stop is seen by everybody from the request on") {
  Stop stop;
  CHECK_FALSE(stop.requested());
  stop.check();
  CHECK_FALSE(stop.wait(Deadline::in(milliseconds(1))));
  stop.request();
  stop.request();
  CHECK(stop.requested());
  CHECK_THROWS_AS(stop.check(), Stopped);
  CHECK(stop.wait(Deadline::never()));
  pollfd entry{stop.fd(), POLLIN, 0};
  CHECK(poll(&entry, 1, 0) == 1);
  CHECK(poll(&entry, 1, 0) == 1);  // it stays readable: the next poll sees it as well
}

TEST_CASE("a request wakes a wait and a poll in another thread") {
  Stop stop;
  const Pipe silent;
  auto waiting = std::async(std::launch::async, [&] { return stop.wait(Deadline::in(kLong)); });
  auto polling = std::async(std::launch::async,
                            [&] { return poll_fd(silent.read_end(), POLLIN, Deadline::in(kLong), stop); });
  const auto begin = Clock::now();
  stop.request();
  CHECK(waiting.get());
  CHECK_THROWS_AS(polling.get(), Stopped);
  CHECK(Clock::now() - begin < kLong);
}

TEST_CASE("poll tells events, and nothing at the deadline") {
  Stop stop;
  const Pipe pipe;
  CHECK(poll_fd(pipe.read_end(), POLLIN, Deadline::in(milliseconds(1)), stop) == 0);
  pipe.fill();
  CHECK((poll_fd(pipe.read_end(), POLLIN, Deadline::in(kLong), stop) & POLLIN) != 0);
  CHECK((poll_fd(pipe.read_end(), POLLIN, Deadline::in(milliseconds(0)), stop) & POLLIN) != 0);
}

TEST_CASE("a stop request wins over what can be read") {
  Stop stop;
  const Pipe pipe;
  pipe.fill();
  stop.request();
  CHECK_THROWS_AS(poll_fd(pipe.read_end(), POLLIN, Deadline::in(kLong), stop), Stopped);
}

Stop* handler_stop = nullptr;

TEST_CASE("a signal handler may request a stop, and leaves errno alone") {
  Stop stop;
  handler_stop = &stop;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { handler_stop->request(); };
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  errno = EDOM;
  raise(SIGUSR1);
  CHECK(errno == EDOM);
  CHECK(stop.requested());
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("never isn't requested") {
  CHECK_FALSE(Stop::never().requested());
  CHECK(&Stop::never() == &Stop::never());
}

}  // namespace
}  // namespace replication::base
