#include "replication/base/stop.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <string>
#include <sys/eventfd.h>
#include <unistd.h>

#include "replication/base/error.h"

namespace replication::base {

Stop::Stop() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) {
    throw Error(std::string("eventfd: ") + std::strerror(errno));
  }
}

Stop::~Stop() {
  close(fd_);
}

void Stop::request() noexcept {
  const int error = errno;  // of whom our signal handler interrupted
  requested_.store(true, std::memory_order_release);
  eventfd_write(fd_, 1);
  errno = error;
}

void Stop::check() const {
  if (requested()) {
    throw Stopped();
  }
}

bool Stop::wait(Deadline deadline) const {
  while (!requested() && !deadline.expired()) {
    pollfd entry{fd_, POLLIN, 0};
    if (poll(&entry, 1, deadline.poll_timeout()) < 0 && errno != EINTR) {
      throw Error(std::string("poll: ") + std::strerror(errno));
    }
  }
  return requested();
}

const Stop& Stop::never() {
  static const Stop stop;
  return stop;
}

short poll_fd(int fd, short events, Deadline deadline, const Stop& stop) {
  for (;;) {
    stop.check();
    std::array<pollfd, 2> entries{{{fd, events, 0}, {stop.fd(), POLLIN, 0}}};
    const int ready = poll(entries.data(), entries.size(), deadline.poll_timeout());
    if (ready < 0 && errno != EINTR) {
      throw Error(std::string("poll: ") + std::strerror(errno));
    }
    stop.check();
    if (ready > 0 && entries[0].revents != 0) {
      return entries[0].revents;
    }
    if (ready == 0 && deadline.expired()) {
      return 0;
    }
  }
}

}  // namespace replication::base
