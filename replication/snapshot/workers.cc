#include "replication/snapshot/workers.h"

#include <algorithm>
#include <poll.h>
#include <thread>
#include <vector>

#include "replication/base/error.h"

namespace replication::snapshot {

std::optional<std::size_t> WorkQueue::next() {
  const std::lock_guard lock(mutex_);
  return at_ < count_ ? std::optional(at_++) : std::nullopt;
}

void run_workers(int jobs, std::size_t count, const base::Stop& stop,
                 const std::function<void(WorkQueue&, const base::Stop& cancel)>& body) {
  const auto threads = std::min(count, static_cast<std::size_t>(std::max(jobs, 1)));
  if (threads == 0) {
    return;
  }
  stop.check();
  WorkQueue queue(count);
  base::Stop cancel;
  base::Stop all_ended;
  std::mutex mutex;
  std::exception_ptr failure;
  auto alive = threads;
  {
    std::vector<std::jthread> workers;
    for (std::size_t i = 0; i < threads; ++i) {
      workers.emplace_back([&] {
        try {
          body(queue, cancel);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!failure) {
            failure = std::current_exception();  // later ones are mostly our own cancellations
          }
          cancel.request();
        }
        const std::lock_guard lock(mutex);
        if (--alive == 0) {
          all_ended.request();
        }
      });
    }
    try {
      base::poll_fd(all_ended.fd(), POLLIN, base::Deadline::never(), stop);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) {
        failure = std::current_exception();
      }
      cancel.request();
    }
  }
  if (failure) {
    std::rethrow_exception(failure);
  }
}

}  // namespace replication::snapshot
