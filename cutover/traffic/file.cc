#include "cutover/traffic/file.h"

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "replication/base/error.h"

namespace cutover::traffic {

namespace base = replication::base;

namespace {

constexpr std::size_t kBytesMax = std::size_t{8} << 20;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw base::Error("can't " + what + " " + path + ": " + std::strerror(errno)).at(path);
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

long long nanoseconds(const timespec& time) {
  return static_cast<long long>(time.tv_sec) * 1'000'000'000LL + time.tv_nsec;
}

void write_all(int fd, const std::string& text, const std::string& path) {
  for (std::size_t done = 0; done < text.size();) {
    const auto written = write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno != EINTR) {
      fail("write", path);
    }
    done += written > 0 ? static_cast<std::size_t>(written) : 0;
  }
}

// Gone again unless it was renamed into place.
struct Temporary {
  std::string path;
  ~Temporary() {
    if (!path.empty()) {
      unlink(path.c_str());
    }
  }
};

}  // namespace

ConfigFile::ConfigFile(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> resolved(realpath(path.c_str(), nullptr), std::free);
  if (!resolved) {
    fail("find", path);
  }
  path_ = resolved.get();
  const Fd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat facts {};
  if (fd.get() < 0 || fstat(fd.get(), &facts) != 0) {
    fail("read", path_);
  }
  if (!S_ISREG(facts.st_mode)) {
    throw base::Error(path_ + " is not a file").at(path_);
  }
  device_ = facts.st_dev;
  inode_ = facts.st_ino;
  size_ = facts.st_size;
  changed_ns_ = nanoseconds(facts.st_mtim);
  mode_ = facts.st_mode & 07777U;
  owner_ = facts.st_uid;
  group_ = facts.st_gid;
  std::array<char, 65536> buffer{};
  while (true) {
    const auto count = read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno != EINTR) {
      fail("read", path_);
    }
    if (count == 0) {
      return;
    }
    text_.append(buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
    if (text_.size() > kBytesMax) {
      throw base::Error(path_ + " is too large for a configuration file").at(path_);
    }
  }
}

std::optional<std::string> ConfigFile::obstacle() const {
  if (access(directory_of(path_).c_str(), W_OK | X_OK) != 0) {
    return "the directory of " + path_ + " is not writable for us";
  }
  if (geteuid() != 0 && owner_ != geteuid()) {
    return path_ + " belongs to another user, who would lose it by an edit of ours";
  }
  return std::nullopt;
}

void ConfigFile::replace(const std::string& text) const {
  Temporary temporary{path_ + ".pgcutover-" + std::to_string(getpid())};
  unlink(temporary.path.c_str());  // left by a process of our id that was killed
  {
    const Fd fd(open(temporary.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0) {
      const auto path = std::exchange(temporary.path, {});
      fail("write", path);
    }
    // Owner first: a change of owner takes mode bits away. Before the text: it may hold passwords.
    if (fchown(fd.get(), owner_, group_) != 0 || fchmod(fd.get(), mode_) != 0) {
      fail("keep owner and mode of", path_);
    }
    write_all(fd.get(), text, temporary.path);
    if (fsync(fd.get()) != 0) {
      fail("flush", temporary.path);
    }
  }
  struct stat now {};
  if (stat(path_.c_str(), &now) != 0) {
    fail("read", path_);
  }
  if (now.st_dev != device_ || now.st_ino != inode_ || now.st_size != size_ ||
      nanoseconds(now.st_mtim) != changed_ns_) {
    throw base::Error(path_ + " was changed by somebody else while we edited it", "try again")
        .at(path_)
        .set_retryable(true);
  }
  if (rename(temporary.path.c_str(), path_.c_str()) != 0) {
    fail("replace", path_);
  }
  temporary.path.clear();
  const Fd directory(open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || fsync(directory.get()) != 0) {
    fail("flush the directory of", path_);
  }
}

}  // namespace cutover::traffic
