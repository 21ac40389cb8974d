#include "replication/base/subprocess.h"

#include <array>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string>
#include <sys/file.h>
#include <thread>
#include <unistd.h>

#include "replication/base/error.h"

namespace replication::base {
namespace {

const auto kLong = [] { return Deadline::in(milliseconds(30'000)); };

CommandResult shell(const std::string& script, const std::string& input = {}) {
  return run_command({.argv = {"sh", "-c", script}, .env = {}, .stdin_text = input}, kLong(), Stop::never());
}

TEST_CASE("output, errors and exit code are captured apart") {
  const auto result = shell("echo out; echo err >&2; exit 3");
  CHECK(result.output == "out\n");
  CHECK(result.errors == "err\n");
  CHECK(result.exit_code == 3);
}

TEST_CASE("a command that a signal ended says so") {
  CHECK(shell("kill -KILL $$").exit_code == 128 + SIGKILL);
}

TEST_CASE("no shell comes between: arguments arrive as they are") {
  const auto result =
      run_command({.argv = {"printf", "%s|", "$HOME", "a b", "`id`", "", "*"}, .env = {}, .stdin_text = {}},
                  kLong(), Stop::never());
  CHECK(result.output == "$HOME|a b|`id`||*|");
}

TEST_CASE("variables are added to our environment and replace ours") {
  setenv("PGCUTOVER_UNIT_OURS", "ours", 1);
  setenv("PGCUTOVER_UNIT_BOTH", "ours", 1);
  const auto result =
      run_command({.argv = {"sh", "-c", "echo $PGCUTOVER_UNIT_OURS $PGCUTOVER_UNIT_BOTH $NEW"},
                   .env = {{"PGCUTOVER_UNIT_BOTH", "theirs"}, {"NEW", "new"}},
                   .stdin_text = {}},
                  kLong(), Stop::never());
  CHECK(result.output == "ours theirs new\n");
}

TEST_CASE("text goes to its standard input, as much as there is") {
  const std::string text(3'000'000, 'x');
  CHECK(shell("wc -c", text).output == "3000000\n");
  CHECK(shell("cat", "").output.empty());
}

TEST_CASE("a command that doesn't read its input doesn't end us by SIGPIPE") {
  const auto result = shell("exec <&-; echo gone", std::string(3'000'000, 'x'));
  CHECK(result.output == "gone\n");
  CHECK(result.exit_code == 0);
}

TEST_CASE("at most a megabyte of output is kept, and the rest doesn't block the command") {
  const auto result = shell("head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; exit 4");
  CHECK(result.output.size() == (std::size_t{1} << 20));
  CHECK(result.errors.size() == (std::size_t{1} << 20));
  CHECK(result.exit_code == 4);
}

TEST_CASE("a program that isn't there is an error with its name") {
  CHECK_THROWS_WITH_AS(
      run_command({.argv = {"/no/such/program"}, .env = {}, .stdin_text = {}}, kLong(), Stop::never()),
      "can't run /no/such/program: No such file or directory", Error);
}

// A pipe whose reading end says when the last process that inherited the other end is gone.
class Tracer {
 public:
  Tracer() { REQUIRE(pipe2(ends_.data(), O_CLOEXEC) == 0); }
  ~Tracer() {
    close(ends_[0]);
    if (ends_[1] >= 0) {
      close(ends_[1]);
    }
  }
  // dup without CLOEXEC: the next child inherits it.
  std::string inheritable() {
    held_ = dup(ends_[1]);
    return std::to_string(held_);
  }
  bool all_gone() {
    close(held_);
    close(ends_[1]);
    ends_[1] = -1;
    pollfd entry{ends_[0], POLLIN, 0};
    return poll(&entry, 1, 20'000) == 1;
  }

 private:
  std::array<int, 2> ends_{};
  int held_ = -1;
};

TEST_CASE("the deadline ends a command together with all it started, even one that ignores SIGTERM") {
  Tracer tracer;
  tracer.inheritable();
  const auto begin = Clock::now();
  CHECK_THROWS_AS(
      run_command(
          {.argv = {"sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"}, .env = {}, .stdin_text = {}},
          Deadline::in(milliseconds(100)), Stop::never()),
      TimeoutError);
  CHECK(Clock::now() - begin < milliseconds(20'000));
  CHECK(tracer.all_gone());
}

TEST_CASE("a command that has closed its output is still waited for, against the deadline") {
  CHECK_THROWS_AS(
      run_command({.argv = {"sh", "-c", "exec >&- 2>&-; sleep 1000"}, .env = {}, .stdin_text = {}},
                  Deadline::in(milliseconds(100)), Stop::never()),
      TimeoutError);
  CHECK(shell("exec >&- 2>&-; exit 9").exit_code == 9);
}

TEST_CASE("a stop request ends a command") {
  Tracer tracer;
  tracer.inheritable();
  Stop stop;
  std::jthread requester([&stop] {
    stop.wait(Deadline::in(milliseconds(100)));
    stop.request();
  });
  CHECK_THROWS_AS(run_command({.argv = {"sleep", "1000"}, .env = {}, .stdin_text = {}}, kLong(), stop),
                  Stopped);
  CHECK(tracer.all_gone());
  CHECK_THROWS_AS(run_command({.argv = {"true"}, .env = {}, .stdin_text = {}}, kLong(), stop), Stopped);
}

TEST_CASE("a daemon that a command leaves behind with our pipes doesn't hold us") {
  const auto begin = Clock::now();
  const auto result = shell("sleep 60 & echo $!");
  CHECK(Clock::now() - begin < milliseconds(20'000));
  CHECK(result.exit_code == 0);
  const auto pid = static_cast<pid_t>(std::stol(result.output));
  CHECK(kill(pid, SIGKILL) == 0);  // it was left alone
}

}  // namespace
}  // namespace replication::base
