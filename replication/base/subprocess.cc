#include "replication/base/subprocess.h"

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

// Reads what is there; true at end of file.
bool drain(int fd, std::string& into) {
  std::array<char, 65536> buffer{};
  const auto count = read(fd, buffer.data(), buffer.size());
  if (count > 0 && into.size() < kOutputMax) {
    into.append(buffer.data(), std::min(static_cast<std::size_t>(count), kOutputMax - into.size()));
  }
  return count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
}

int decode_status(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// Ends the child's whole process group and reaps it.
int end_child(pid_t pid) {
  kill(-pid, SIGTERM);
  int status = 0;
  const auto limit = Deadline::in(milliseconds(2000));
  while (waitpid(pid, &status, WNOHANG) == 0) {
    if (limit.expired()) {
      kill(-pid, SIGKILL);
      waitpid(pid, &status, 0);
      break;
    }
    poll(nullptr, 0, 10);
  }
  return decode_status(status);
}

}  // namespace

CommandResult run_command(const Command& command, Deadline deadline, const Stop& stop) {
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
  posix_spawnattr_setpgroup(&attributes,
                            0);  // a signal at our terminal must not reach a half-done pg_restore
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);

  auto argv = command.argv;
  auto env = environment_with(command.env);
  pid_t pid = 0;
  const int failed = posix_spawnp(&pid, command.argv.at(0).c_str(), &actions, &attributes,
                                  pointers(argv).data(), pointers(env).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    throw Error("can't run " + command.argv[0] + ": " + std::strerror(failed));
  }
  in_read.reset();
  out_write.reset();
  err_write.reset();

  CommandResult result;
  std::string_view input = command.stdin_text;
  fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
  if (input.empty()) {
    in_write.reset();
  }
  while (out_read.get() >= 0 || err_read.get() >= 0) {
    std::array<pollfd, 4> entries{{{out_read.get(), POLLIN, 0},
                                   {err_read.get(), POLLIN, 0},
                                   {in_write.get(), POLLOUT, 0},
                                   {stop.fd(), POLLIN, 0}}};
    const int ready = poll(entries.data(), entries.size(), deadline.poll_timeout());
    if (stop.requested() || deadline.expired() || (ready < 0 && errno != EINTR)) {
      end_child(pid);
      stop.check();
      throw TimeoutError(command.argv[0] + " did not end in time");
    }
    if ((entries[0].revents != 0) && drain(out_read.get(), result.output)) {
      out_read.reset();
    }
    if ((entries[1].revents != 0) && drain(err_read.get(), result.errors)) {
      err_read.reset();
    }
    if (entries[2].revents != 0) {
      const auto written = write(in_write.get(), input.data(), input.size());
      if (written > 0) {
        input.remove_prefix(static_cast<std::size_t>(written));
      }
      if (input.empty() || (written < 0 && errno != EAGAIN && errno != EINTR)) {
        in_write.reset();
      }
    }
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = decode_status(status);
  return result;
}

}  // namespace replication::base
