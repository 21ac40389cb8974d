#include "replication/apply/applier.h"

#include <thread>

#include "replication/apply/control.h"
#include "replication/apply/worker.h"
#include "replication/base/stop.h"

namespace replication::apply {
namespace {

constexpr base::milliseconds kStopGrace{10'000};

}  // namespace

struct Applier::State {
  State(ApplierOptions given, stream::ChunkQueue& queue)
      : options(std::move(given)), worker(options, queue, control, stop) {}

  const ApplierOptions options;
  mutable Control control;
  base::Stop stop;
  Worker worker;
  std::thread thread;
};

Applier::Applier(ApplierOptions options, stream::ChunkQueue& queue)
    : state_(std::make_unique<State>(std::move(options), queue)) {}

Applier::~Applier() {
  stop();
}

void Applier::start() {
  state_->thread = std::thread([state = state_.get()] { state->worker.run(); });
}

void Applier::stop() {
  if (!state_->thread.joinable()) {
    return;
  }
  state_->control.stop();
  if (!state_->control.wait_ended(base::Deadline::in(kStopGrace))) {
    state_->stop.request();  // it hangs on the server: cancel what it waits for
  }
  state_->thread.join();
}

ApplyStats Applier::stats() const {
  return state_->control.stats();
}

Ledger Applier::tables() const {
  return state_->control.tables();
}

std::exception_ptr Applier::failure() const {
  return state_->control.failure();
}

base::Lsn Applier::start_lsn() const {
  return state_->control.start_lsn();
}

WaitResult Applier::wait_marker(const std::string& token, base::Deadline deadline,
                                base::Lsn* marker_end) const {
  return state_->control.wait_marker(token, deadline, marker_end);
}

WaitResult Applier::wait_durable(base::Lsn lsn, base::Deadline deadline) const {
  return state_->control.wait_durable(lsn, deadline);
}

WaitResult Applier::hold(base::Deadline deadline) {
  return state_->control.hold(deadline);
}

WaitResult Applier::run_until(base::Lsn lsn, base::Deadline deadline) {
  return state_->control.run_until(lsn, deadline);
}

void Applier::release() {
  state_->control.release();
}

}  // namespace replication::apply
