#include "replication/base/subprocess.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "replication/base/check.h"
#include "replication/base/error.h"

extern char** environ;

namespace replication::base {
namespace {

constexpr std::size_t kOutputMax = std::size_t{1} << 20;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  void reset() {
    if (fd_ >= 0) {
      close(fd_);
      fd_ = -1;
    }
  }

 private:
  int fd_ = -1;
};

std::pair<Fd, Fd> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw Error(std::string("pipe: ") + std::strerror(errno));
  }
  return {Fd(ends[0]), Fd(ends[1])};
}

std::vector<std::string> environment_with(const std::map<std::string, std::string>& added) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view pair(*entry);
    if (!added.contains(std::string(pair.substr(0, pair.find('='))))) {
      result.emplace_back(pair);
    }
  }
  for (const auto& [name, value] : added) {
    result.push_back(name + "=" + value);
  }
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& text : strings) {
    result.push_back(text.data());
  }
  result.push_back(nullptr);
  return result;
}

constexpr int kTickMs = 20;

void set_nonblocking(const Fd& fd) {
  fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

// Reads what is there, without waiting: closed at end of file. At most a few MiB a call, so that somebody who
// writes for ever can't hold us.
void drain(Fd& fd, std::string& into) {
  std::array<char, 65536> buffer{};
  for (int round = 0; fd.get() >= 0 && round < 64; ++round) {
    const auto count = read(fd.get(), buffer.data(), buffer.size());
    if (count > 0) {
      into.append(buffer.data(), std::min(static_cast<std::size_t>(count), kOutputMax - into.size()));
    } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
      fd.reset();
    } else if (errno == EAGAIN) {
      return;
    }
  }
}

// write(2) to a child that doesn't read is EPIPE here, not a SIGPIPE that would end us.
ssize_t write_without_signal(int fd, std::string_view bytes) {
  sigset_t pipe_signal;
  sigset_t before;
  sigset_t pending;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  const auto written = write(fd, bytes.data(), bytes.size());
  const int error = errno;
  if (written < 0 && error == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
    const timespec now{};
    sigtimedwait(&pipe_signal, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return written;
}

int decode_status(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

struct Child {
  pid_t pid = 0;
  Fd in, out, err;

  // Ended, but not reaped: its process id and group are still its own.
  bool ended() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid;
  }
  int reap() const {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return decode_status(status);
  }
  // Ends the whole process group: whom the child started must not go on after we said that it was ended.
  void end() const {
    kill(-pid, SIGTERM);
    const auto limit = Deadline::in(milliseconds(2000));
    while (!ended() && !limit.expired()) {
      poll(nullptr, 0, kTickMs);
    }
    kill(-pid, SIGKILL);
    reap();
  }
};

Child spawn(const Command& command) {
  PGCUTOVER_CHECK(!command.argv.empty(), "a command without a program");
  auto [in_read, in_write] = make_pipe();
  auto [out_read, out_write] = make_pipe();
  auto [err_read, err_write] = make_pipe();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in_read.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, out_write.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, err_write.get(), 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigset_t none;
  sigfillset(&defaults);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setsigmask(&attributes, &none);
  // A group of its own: a signal at our terminal must not reach a half-done pg_restore.
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);

  auto argv = command.argv;
  auto env = environment_with(command.env);
  Child child;
  const int failed = posix_spawnp(&child.pid, argv[0].c_str(), &actions, &attributes, pointers(argv).data(),
                                  pointers(env).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    throw Error("can't run " + command.argv[0] + ": " + std::strerror(failed));
  }
  child.in = std::move(in_write);
  child.out = std::move(out_read);
  child.err = std::move(err_read);
  for (const Fd* fd : {&child.in, &child.out, &child.err}) {
    set_nonblocking(*fd);
  }
  return child;
}

void feed(Fd& fd, std::string_view& input) {
  const auto written = write_without_signal(fd.get(), input);
  if (written > 0) {
    input.remove_prefix(static_cast<std::size_t>(written));
  }
  if (input.empty() || (written < 0 && errno != EAGAIN && errno != EINTR)) {
    fd.reset();
  }
}

}  // namespace

// The command's end is the child's end, not that of its output: a hook may leave a daemon behind that holds
// the pipes.
CommandResult run_command(const Command& command, Deadline deadline, const Stop& stop) {
  stop.check();
  Child child = spawn(command);
  CommandResult result;
  std::string_view input = command.stdin_text;
  if (input.empty()) {
    child.in.reset();
  }
  while (!child.ended()) {
    if (stop.requested() || deadline.expired()) {
      child.end();
      stop.check();
      throw TimeoutError(command.argv[0] + " did not end in time");
    }
    std::array<pollfd, 4> entries{{{child.out.get(), POLLIN, 0},
                                   {child.err.get(), POLLIN, 0},
                                   {child.in.get(), POLLOUT, 0},
                                   {stop.fd(), POLLIN, 0}}};
    // Nothing in poll(2) tells the end of a child on every kernel we may meet (pidfds are of 5.3): hence the
    // tick.
    const int timeout = deadline.poll_timeout();
    poll(entries.data(), entries.size(), timeout < 0 ? kTickMs : std::min(timeout, kTickMs));
    drain(child.out, result.output);
    drain(child.err, result.errors);
    if (entries[2].revents != 0) {
      feed(child.in, input);
    }
  }
  drain(child.out, result.output);
  drain(child.err, result.errors);
  result.exit_code = child.reap();
  return result;
}

}  // namespace replication::base
