// A transaction: rolled back unless committed. The outcome of a COMMIT whose answer never came is a value of
// its own: the caller has to ask the server what happened, never to try again.
#pragma once

#include <string_view>

#include "replication/postgres/connection.h"

namespace replication::postgres {

enum class CommitOutcome {
  committed,
  in_doubt,  // the connection was lost between sending COMMIT and its answer
};

class Transaction {
 public:
  // `begin` is the opening statement, e.g. "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".
  explicit Transaction(Connection& connection, std::string_view begin = "BEGIN");
  ~Transaction();  // ROLLBACK where neither commit nor rollback was called; never throws
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  // Throws where the server refuses (deferred constraint, serialization): then nothing was committed.
  [[nodiscard]] CommitOutcome commit();
  // For work that is repeated after a lost connection anyway: in_doubt becomes a retryable Error.
  void commit_or_throw();
  void rollback();

 private:
  Connection& connection_;
  bool open_ = true;
};

}  // namespace replication::postgres
