// Keeps the world informed while the controller works: the status row that other processes read, and the
// progress line.
//
// Threads: any; it has a mutex and a session of its own (opened at first use), because copy workers report
// while the controller's thread waits for them. A status that can't be written is never a reason to fail: it
// is logged once.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "cutover/state/status.h"
#include "cutover/state/terminal.h"
#include "cutover/steps/servers.h"
#include "replication/postgres/fencing_token.h"

namespace cutover::steps {

class Publisher {
 public:
  Publisher(const Servers& servers, state::Terminal& terminal);

  void set_token(const postgres::FencingToken& token);
  // Changes the status under the lock, shows it, and writes the row at most once a second or when `now`.
  void update(const std::function<void(state::Status&)>& change, bool now = false);
  state::Status snapshot() const;

 private:
  void write();
  const Servers& servers_;
  state::Terminal& terminal_;
  mutable std::mutex mutex_;
  state::Status status_;
  postgres::FencingToken token_;
  std::optional<postgres::Connection> session_;
  base::Clock::time_point written_{};
  bool complained_ = false;
};

// Microseconds since 1970, for status and events.
std::int64_t now_us();

}  // namespace cutover::steps
