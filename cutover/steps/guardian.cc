#include "cutover/steps/guardian.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

#include "cutover/steps/fence.h"
#include "cutover/steps/handover.h"
#include "cutover/steps/takeover.h"
#include "cutover/traffic/traffic.h"
#include "replication/base/check.h"
#include "replication/base/log.h"

extern char** environ;

namespace cutover::steps {
namespace {

using base::milliseconds;

constexpr milliseconds kArm{15'000};
constexpr milliseconds kGrace{
    10'000};  // after the pause's budget, for the steps behind the point of no return
constexpr milliseconds kSettleBudget{120'000};
constexpr std::size_t kOrdersMax = std::size_t{1} << 20;

// One message: its length in decimal, a newline, the bytes.
void write_message(int fd, const std::string& bytes) {
  std::string text = std::to_string(bytes.size()) + "\n" + bytes;
  std::string_view left(text);
  while (!left.empty()) {
    const auto written = write(fd, left.data(), left.size());
    if (written < 0 && errno != EINTR) {
      throw base::Error(std::string("guardian's pipe: ") + std::strerror(errno));
    }
    left.remove_prefix(written > 0 ? static_cast<std::size_t>(written) : 0);
  }
}

char read_byte(int fd) {
  char byte = 0;
  ssize_t count = 0;
  do {
    count = read(fd, &byte, 1);
  } while (count < 0 && errno == EINTR);
  if (count != 1) {
    throw base::Error("the guardian's orders ended early");
  }
  return byte;
}

std::string read_message(int fd) {
  std::size_t length = 0;
  for (char digit = read_byte(fd); digit != '\n'; digit = read_byte(fd)) {
    PGCUTOVER_CHECK(digit >= '0' && digit <= '9' && length < kOrdersMax, "broken orders for the guardian");
    length = length * 10 + static_cast<std::size_t>(digit - '0');
  }
  PGCUTOVER_CHECK(length <= kOrdersMax, "orders for the guardian are too long");
  std::string bytes;
  while (bytes.size() < length) {
    bytes += read_byte(fd);
  }
  return bytes;
}

struct Orders {
  Side from = Side::source;  // the side that closes
  std::int64_t epoch = 0;
  std::string controller_tag;
  std::int64_t wait_ms = 0;
};

// True where the controller said that all is well.
bool controller_is_well(milliseconds wait) {
  const auto deadline = base::Deadline::in(wait);
  while (!deadline.expired()) {
    pollfd entry{0, POLLIN, 0};
    const int ready = poll(&entry, 1, deadline.poll_timeout());
    if (ready > 0) {
      char byte = 0;
      const auto count = read(0, &byte, 1);
      if (count >= 0 || errno != EINTR) {
        return count == 1 && byte == 'd';
      }
    }
  }
  return false;
}

// Its work, with what it has reached so far: a repeated attempt goes on from there.
class Settlement {
 public:
  Settlement(Context& context, const Orders& orders) : context_(context), orders_(orders) {}

  // False where another controller is there already.
  bool attempt() {
    auto& from = context_.servers.at(orders_.from);
    if (!took_from_) {
      if (!succeed_on(from, orders_.epoch, context_.servers.tag(), orders_.controller_tag)) {
        return false;
      }
      context_.token = postgres::FencingToken(orders_.epoch + 1);
      took_from_ = true;
    }
    // Before the point of no return the side that closes is all it takes: the other one may be the reason for
    // it all.
    if (undo_attempt(from, context_.token)) {
      release();
      clear_attempt(from, context_.token);
      end_frozen_controller();
      return true;
    }
    if (!take_other_side()) {
      return false;
    }
    settle(context_);
    return true;
  }

  // Whatever else fails: held clients are worse off than clients that get an error.
  void release() {
    traffic::TrafficSet(context_.plan, {}, base::Stop::never())
        .release_all(base::Deadline::in(milliseconds(10'000)));
  }

 private:
  bool take_other_side() {
    auto& to = context_.servers.at(other(orders_.from));
    took_to_ = took_to_ || succeed_on(to, orders_.epoch, context_.servers.tag(), orders_.controller_tag);
    return took_to_;
  }

  // So that its lock on the target is free for a successor. Where that server is away, so is the lock.
  void end_frozen_controller() {
    try {
      take_other_side();
    } catch (const base::Error& error) {
      base::log::warn("guardian: " + error.describe());
    }
  }

  Context& context_;
  const Orders& orders_;
  bool took_from_ = false;
  bool took_to_ = false;
};

// Tries until it works or the budget ends: a server or pooler may be away for the same reason as the
// controller.
int settle_for(Context& context, const Orders& orders) {
  const auto deadline = base::Deadline::in(kSettleBudget);
  Settlement settlement(context, orders);
  for (;;) {
    try {
      base::log::info(settlement.attempt() ? "guardian: settled"
                                           : "guardian: another controller is there already");
      return 0;
    } catch (const base::StateError& error) {
      base::log::info("guardian: " + error.describe());
      return 0;
    } catch (const base::Error& error) {
      base::log::error("guardian: " + error.describe());
    }
    try {
      settlement.release();
    } catch (const base::Error& error) {
      base::log::error("guardian: " + error.describe());
    }
    if (deadline.expired()) {
      return static_cast<int>(base::ExitCode::needs_operator);
    }
    base::Stop::never().wait(base::Deadline::in(milliseconds(500)));
  }
}

}  // namespace

Guardian::Guardian(Context& context, Side from) {
  std::array<int, 2> orders{};
  std::array<int, 2> answer{};
  if (pipe2(orders.data(), O_CLOEXEC) != 0 || pipe2(answer.data(), O_CLOEXEC) != 0) {
    throw base::Error(std::string("pipe: ") + std::strerror(errno));
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, orders[0], 0);
  posix_spawn_file_actions_adddup2(&actions, answer[1], 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  std::string name = "pgcutover";
  std::string verb = "guardian";
  std::array<char*, 3> argv{name.data(), verb.data(), nullptr};
  const int failed = posix_spawn(&pid_, "/proc/self/exe", &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(orders[0]);
  close(answer[1]);
  pipe_ = orders[1];
  char byte = 0;
  bool armed = false;
  if (failed == 0) {
    try {
      write_message(pipe_, plan::to_secret_bytes(context.plan));
      const auto wait = context.plan.gates.max_pause + kGrace;
      write_message(pipe_, std::string(to_string(from)) + " " + std::to_string(context.token.epoch()) + " " +
                               context.servers.tag() + " " + std::to_string(wait.count()));
      armed = base::poll_fd(answer[0], POLLIN, base::Deadline::in(kArm), context.servers.stop()) != 0 &&
              read(answer[0], &byte, 1) == 1 && byte == 'a';
    } catch (const base::Error& error) {
      base::log::error("guardian: " + error.describe());
    }
  }
  close(answer[0]);
  if (!armed) {
    disarm();
    throw base::Error("the guardian process could not be started: nothing was held",
                      "it needs connections to both servers: see the log above")
        .on(to_string(from));
  }
}

Guardian::~Guardian() {
  if (pipe_ >= 0) {
    close(pipe_);  // without the word: it acts
  }
}

void Guardian::disarm() noexcept {
  if (pipe_ >= 0) {
    [[maybe_unused]] const auto written = write(pipe_, "d", 1);
    close(pipe_);
    pipe_ = -1;
  }
  if (pid_ > 0) {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
}

int guardian_main() {
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  unsetenv("PGCUTOVER_FAULT");  // faults are for the controller; the guardian is what has to survive them
  const auto plan = plan::from_secret_bytes(read_message(0));
  Orders orders;
  std::string from;
  std::istringstream(read_message(0)) >> from >> orders.epoch >> orders.controller_tag >> orders.wait_ms;
  orders.from = from == "target" ? Side::target : Side::source;
  Servers servers(plan, milliseconds(10'000), base::Stop::never());
  Context context{plan, servers, postgres::FencingToken(orders.epoch), {}};
  servers.source();
  servers.target();
  if (write(1, "a", 1) != 1) {
    return static_cast<int>(base::ExitCode::unforeseen);
  }
  if (controller_is_well(milliseconds(orders.wait_ms))) {
    return 0;
  }
  base::log::warn("guardian: the controller is gone or does not answer: settling the hand-over");
  return settle_for(context, orders);
}

}  // namespace cutover::steps
