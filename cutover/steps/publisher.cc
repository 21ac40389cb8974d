#include "cutover/steps/publisher.h"

#include <chrono>

#include "cutover/steps/store.h"
#include "replication/base/error.h"
#include "replication/base/log.h"

namespace cutover::steps {

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Publisher::Publisher(const Servers& servers, state::Terminal& terminal)
    : servers_(servers), terminal_(terminal) {}

void Publisher::set_token(const postgres::FencingToken& token) {
  const std::lock_guard lock(mutex_);
  token_ = token;
}

void Publisher::update(const std::function<void(state::Status&)>& change, bool now) {
  const std::lock_guard lock(mutex_);
  change(status_);
  status_.at_us = now_us();
  if (!status_.state.empty()) {
    terminal_.show(status_.state, state::progress_line(status_));
  }
  const bool has_table = token_.epoch() > 0;  // before the migration is begun there is nowhere to write to
  if (has_table && (now || base::Clock::now() - written_ >= std::chrono::seconds(1))) {
    written_ = base::Clock::now();
    write();
  }
}

void Publisher::write() {
  try {
    if (!session_ || !session_->usable()) {
      session_.reset();
      session_.emplace(servers_.open(Side::target, "status"));
    }
    put_status(*session_, token_, state::to_json(status_));
    complained_ = false;
  } catch (const base::Error& error) {
    if (!complained_) {
      base::log::warn("the status could not be written: " + error.describe());
    }
    complained_ = true;
  }
}

state::Status Publisher::snapshot() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace cutover::steps
