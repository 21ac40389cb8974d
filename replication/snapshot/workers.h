// Several threads over one row of work: each takes the next index until none is left or one of them failed.
//
// A failure (or the caller's stop) cancels the others through a Stop of their own; the first failure is
// thrown after all have ended. Used by the copy and by the index build.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>

#include "replication/base/stop.h"

namespace replication::snapshot {

class WorkQueue {
 public:
  explicit WorkQueue(std::size_t count) : count_(count) {}
  // The next piece of work, or nothing. Any thread.
  std::optional<std::size_t> next();

 private:
  std::mutex mutex_;
  std::size_t at_ = 0;
  const std::size_t count_;
};

// `body` runs in min(jobs, count) threads.
void run_workers(int jobs, std::size_t count, const base::Stop& stop,
                 const std::function<void(WorkQueue&, const base::Stop& cancel)>& body);

}  // namespace replication::snapshot
