// The session on the server that is written to: opened with apply's settings, opened again after a loss.
//
// Before a session is used again, the row of pgcutover.progress tells what became of the transaction that was
// under way; a backend of ours that may still be running it is ended first. One thread.
#pragma once

#include <optional>
#include <string>

#include "replication/apply/applier.h"
#include "replication/apply/progress.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

class TargetSession {
 public:
  TargetSession(const ApplierOptions& options, const base::Stop& stop) : options_(options), stop_(stop) {}

  // Opens where there is no usable connection; true where it did.
  bool ensure_open();
  postgres::Connection& connection() { return *connection_; }
  bool usable() const { return connection_ && connection_->usable(); }
  void close() { connection_.reset(); }
  // The settled progress row. StateError where it is missing or belongs to another epoch.
  Progress progress();

 private:
  void end_predecessor();

  const ApplierOptions& options_;
  const base::Stop& stop_;
  std::optional<postgres::Connection> connection_;
  std::string backend_pid_, backend_start_;  // of the last session
};

}  // namespace replication::apply
