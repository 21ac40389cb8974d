// A request to stop that every wait can see: a flag plus a descriptor that poll(2) can watch beside a socket.
// request() is safe from any thread and from a signal handler. A Stop outlives everything that was given it.
#pragma once

#include <atomic>

#include "replication/base/deadline.h"

namespace replication::base {

class Stop {
 public:
  Stop();
  ~Stop();
  Stop(const Stop&) = delete;
  Stop& operator=(const Stop&) = delete;

  void request() noexcept;
  bool requested() const noexcept { return requested_.load(std::memory_order_acquire); }
  // Readable from the moment of the request on.
  int fd() const noexcept { return fd_; }
  // Throws Stopped where a stop was requested.
  void check() const;
  // Waits until `deadline` or a request; true where a stop was requested.
  bool wait(Deadline deadline) const;

  // One that is never requested, for work that must not be interrupted (undo).
  static const Stop& never();

 private:
  std::atomic<bool> requested_{false};
  int fd_;
};

// Waits until `fd` shows one of `events` (poll(2) bits), the deadline passes or a stop is requested. Returns
// the bits seen, 0 on time-out. Throws Stopped, and Error where poll itself fails.
short poll_fd(int fd, short events, Deadline deadline, const Stop& stop);

}  // namespace replication::base
