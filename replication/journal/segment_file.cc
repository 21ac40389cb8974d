#include "replication/journal/segment_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/base/error.h"

namespace replication::journal {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  const int code = errno;
  throw base::Error(what + " " + path + ": " + std::strerror(code),
                    code == ENOSPC ? "make room on that disk, or set a smaller --spool-limit; then run again"
                                   : "see --spool");
}

}  // namespace

SegmentFile::SegmentFile(std::string path, Mode mode) : path_(std::move(path)) {
  const int flags = mode == Mode::create   ? O_RDWR | O_CREAT | O_EXCL
                    : mode == Mode::append ? O_RDWR
                                           : O_RDONLY;
  fd_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0600);
  struct stat status {};
  if (fd_ < 0 || ::fstat(fd_, &status) != 0) {
    fail("can't open", path_);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

SegmentFile::~SegmentFile() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

void SegmentFile::append(std::string_view bytes) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const auto got =
        ::pwrite(fd_, bytes.data() + written, bytes.size() - written, static_cast<off_t>(size_ + written));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      const int code = got == 0 ? ENOSPC : errno;
      [[maybe_unused]] const int ignored = ::ftruncate(fd_, static_cast<off_t>(size_));
      errno = code;
      fail("can't write", path_);
    }
    written += static_cast<std::size_t>(got);
  }
  size_ += written;
}

void SegmentFile::sync() {
  if (::fdatasync(fd_) != 0) {
    fail("can't sync", path_);  // never tried again: what the kernel dropped would count as written
  }
  struct stat status {};
  if (::fstat(fd_, &status) == 0 && status.st_nlink == 0) {
    throw base::Error(
        "the file " + path_ + " was removed while it was being written: nobody can read it again",
        "leave the --spool directory alone while `run` lives; run again: it says whether anything "
        "that was in it is lost");
  }
}

void SegmentFile::truncate(std::uint64_t size) {
  if (::ftruncate(fd_, static_cast<off_t>(size)) != 0 || ::fsync(fd_) != 0) {
    fail("can't truncate", path_);
  }
  size_ = size;
}

std::string SegmentFile::read(std::uint64_t offset, std::size_t length) const {
  std::string bytes(length, '\0');
  std::size_t filled = 0;
  while (filled < length) {
    const auto got =
        ::pread(fd_, bytes.data() + filled, length - filled, static_cast<off_t>(offset + filled));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      fail("can't read", path_);
    }
    if (got == 0) {
      break;
    }
    filled += static_cast<std::size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

void sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  const int code = errno;
  if (fd >= 0) {
    ::close(fd);
  }
  if (!synced) {
    errno = code;
    fail("can't sync the directory", path);
  }
}

}  // namespace replication::journal
