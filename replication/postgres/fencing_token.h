// The fencing token: at any time one controller may change state. Each controller that takes over raises
// `epoch` on both servers; every state-changing transaction checks its own epoch in the same transaction, so
// that a controller that was frozen and wakes up changes nothing.
//
// The row is pgcutover.controller on each server. assert_current takes a share lock on it until the
// transaction's end, which a take-over (an update of the row) has to wait for: call it last in long
// transactions.
#pragma once

#include <cstdint>
#include <string>

#include "replication/postgres/connection.h"

namespace replication::postgres {

class FencingToken {
 public:
  FencingToken() = default;
  explicit FencingToken(std::int64_t epoch) : epoch_(epoch) {}
  std::int64_t epoch() const { return epoch_; }

  // Inside a transaction. Throws StateError ("another controller took over") where the epoch isn't ours any
  // more.
  void assert_current(Connection& connection) const;
  // The same test as an SQL condition for single statements: "EXISTS (SELECT 1 FROM pgcutover.controller
  // ...)".
  std::string sql_condition() const;

  // The epoch that this server knows now, for a process that is no controller: whatever it does under this
  // token fails once a controller takes over.
  static FencingToken current(Connection& connection);

  // DDL (idempotent) of the schema pgcutover and the controller table.
  static std::string schema_sql();

 private:
  std::int64_t epoch_ = 0;
};

}  // namespace replication::postgres
