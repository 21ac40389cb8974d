#include "tests/harness/process.h"

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <future>
#include <grp.h>
#include <mutex>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "replication/base/error.h"
#include "tests/harness/temp_dir.h"
#include "tests/harness/wait.h"

extern char** environ;

namespace harness {

using replication::base::Deadline;
using replication::base::Error;

namespace {

// The thread that forks. Never ends, so never destroyed.
class Forker {
 public:
  static Forker& instance() {
    static auto* forker = new Forker;
    return *forker;
  }
  pid_t run(std::function<pid_t()> work) {
    std::packaged_task<pid_t()> task(std::move(work));
    auto result = task.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    ready_.notify_one();
    return result.get();
  }

 private:
  Forker() {
    std::thread([this] { loop(); }).detach();
  }
  void loop() {
    for (;;) {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return !tasks_.empty(); });
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::packaged_task<pid_t()>> tasks_;
};

std::vector<std::string> environment_with(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string pair(*entry);
    if (!changes.contains(pair.substr(0, pair.find('=')))) {
      result.push_back(pair);
    }
  }
  for (const auto& [name, value] : changes) {
    if (!value.empty()) {
      result.push_back(name + "=" + value);
    }
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

int open_output(const std::string& path) {
  const int fd = path.empty() ? open("/dev/null", O_WRONLY | O_CLOEXEC)
                              : open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) {
    throw Error("cannot open " + path + ": " + std::strerror(errno));
  }
  return fd;
}

// Everything the child needs, made before the fork: after it only calls that are safe there.
struct Prepared {
  std::vector<std::string> argv, env;
  std::vector<char*> argv_pointers, env_pointers;
  std::string directory;
  int in = -1, out = -1, err = -1, report = -1;
  bool drop = false;
  User user;
  int death_signal = SIGKILL;
  pid_t parent = 0;
};

[[noreturn]] void run_child(const Prepared& p) {
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const bool user_changed =
      !p.drop || (setgroups(0, nullptr) == 0 && setgid(p.user.gid) == 0 && setuid(p.user.uid) == 0);
  // After the change of user, which clears it.
  prctl(PR_SET_PDEATHSIG, p.death_signal);
  const bool orphan = getppid() != p.parent;
  if (user_changed && !orphan && (p.directory.empty() || chdir(p.directory.c_str()) == 0) &&
      dup2(p.in, 0) >= 0 && dup2(p.out, 1) >= 0 && dup2(p.err, 2) >= 0) {
    execvpe(p.argv_pointers[0], p.argv_pointers.data(), p.env_pointers.data());
  }
  const int error = errno;
  [[maybe_unused]] const auto written = write(p.report, &error, sizeof error);
  _exit(127);
}

}  // namespace

Process::Process(const ProcessOptions& options) : name_(options.argv.at(0)), end_signal_(options.end_signal) {
  Prepared p;
  p.argv = options.argv;
  p.env = environment_with(options.env);
  p.argv_pointers = pointers(p.argv);
  p.env_pointers = pointers(p.env);
  p.directory = options.directory;
  p.drop = options.unprivileged && geteuid() == 0;
  p.user = unprivileged_user();
  p.death_signal = options.end_signal;
  p.parent = getpid();
  std::array<int, 2> report{};
  if (pipe2(report.data(), O_CLOEXEC) != 0) {
    throw Error(std::string("pipe: ") + std::strerror(errno));
  }
  p.report = report[1];
  p.in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  p.out = open_output(options.stdout_path);
  p.err = open_output(options.stderr_path);
  pid_ = Forker::instance().run([&p] {
    const pid_t child = fork();
    if (child == 0) {
      run_child(p);
    }
    return child;
  });
  for (const int fd : {p.in, p.out, p.err, p.report}) {
    close(fd);
  }
  int error = 0;
  const auto count = read(report[0], &error, sizeof error);
  close(report[0]);
  if (pid_ < 0 || count != 0) {
    if (pid_ > 0) {
      waitpid(pid_, nullptr, 0);
    }
    throw Error("cannot start " + name_ + ": " + std::strerror(error));
  }
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      name_(std::move(other.name_)),
      end_signal_(other.end_signal_),
      exit_code_(other.exit_code_) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    destroy();
    pid_ = std::exchange(other.pid_, -1);
    name_ = std::move(other.name_);
    end_signal_ = other.end_signal_;
    exit_code_ = other.exit_code_;
  }
  return *this;
}

Process::~Process() {
  destroy();
}

void Process::destroy() noexcept {
  if (pid_ <= 0) {
    return;
  }
  try {
    end(end_signal_, Deadline::in(replication::base::milliseconds(60'000)));
  } catch (...) {
    ::kill(pid_, SIGKILL);
  }
}

std::optional<int> Process::poll_exit() {
  if (!exit_code_ && pid_ > 0) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
  }
  return exit_code_;
}

int Process::wait(Deadline deadline) {
  wait_until(deadline, name_ + " (pid " + std::to_string(pid_) + ") has ended",
             [this] { return poll_exit().has_value(); });
  return *exit_code_;
}

void Process::signal(int number) {
  // Not once it was reaped: the number may belong to somebody else by now.
  if (!poll_exit() && ::kill(pid_, number) != 0) {
    throw Error("kill " + std::to_string(pid_) + ": " + std::strerror(errno));
  }
}

int Process::end(int number, Deadline deadline) {
  if (!poll_exit()) {
    ::kill(pid_, number);
    if (number != SIGKILL) {
      ::kill(pid_, SIGCONT);  // a stopped process hears nothing else
    }
    try {
      return wait(deadline);
    } catch (const replication::base::TimeoutError&) {
      ::kill(pid_, SIGKILL);
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    exit_code_ = 128 + SIGKILL;
  }
  return *exit_code_;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> result;
  std::error_code ignored;  // processes come and go while we look
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    // "pid (comm) state ppid ...": comm may hold anything, also ')'.
    const auto stat = read_file(entry.path() / "stat");
    const auto end = stat.rfind(')');
    if (end != std::string::npos && stat.size() > end + 4 && std::atoi(stat.c_str() + end + 4) == parent) {
      result.push_back(std::atoi(name.c_str()));
    }
  }
  return result;
}

std::map<std::string, std::string> fault_environment(const std::string& fault) {
  return {{"PGCUTOVER_TESTING", "1"}, {"PGCUTOVER_FAULT", fault}};
}

}  // namespace harness
