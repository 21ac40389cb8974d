// Trying again what time mends: a server that restarts, a network that fails.
//
// Threads: its owner's.
#pragma once

#include <functional>
#include <optional>

#include "replication/base/deadline.h"
#include "replication/base/stop.h"

namespace cutover::steps {

namespace base = replication::base;

class Patience {
 public:
  // `budget` counts from the first failure of those that come one after the other. `stop` ends a pause.
  Patience(base::milliseconds budget, const base::Stop& stop) : span_(budget), stop_(stop) {}

  // True where `work` was done. After a retryable failure within the budget: `let_go` (of what may have been
  // lost with a session), a pause, and false. Every other failure is thrown.
  bool attempt(const std::function<void()>& work, const std::function<void()>& let_go);

 private:
  const base::milliseconds span_;
  const base::Stop& stop_;
  std::optional<base::Deadline> budget_;  // while failing
};

}  // namespace cutover::steps
