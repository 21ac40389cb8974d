#include "replication/postgres/transaction.h"

#include "replication/base/check.h"
#include "replication/base/error.h"

namespace replication::postgres {

Transaction::Transaction(Connection& connection, std::string_view begin) : connection_(connection) {
  connection_.exec(begin);
}

Transaction::~Transaction() {
  if (!open_ || !connection_.usable()) {
    return;
  }
  try {
    rollback();
  } catch (const base::Error&) {
    connection_.close();  // a session in an unknown state is of no use to anybody
  }
}

CommitOutcome Transaction::commit() {
  PGCUTOVER_CHECK(open_, "commit of a transaction that has ended");
  open_ = false;
  // From here on the answer decides; a stop request must not make an outcome unknown that a moment later is
  // known.
  const Connection::Uninterrupted guard(connection_);
  try {
    const Result result = connection_.exec("COMMIT");
    if (result.command_tag() != "COMMIT") {
      throw base::Error("the server rolled back at COMMIT: a statement of the transaction had failed")
          .on(connection_.server());
    }
    return CommitOutcome::committed;
  } catch (const base::TimeoutError&) {
    connection_.close();
    return CommitOutcome::in_doubt;
  } catch (const base::Error& error) {
    if (!error.connection_usable()) {
      return CommitOutcome::in_doubt;
    }
    throw;
  }
}

void Transaction::commit_or_throw() {
  if (commit() == CommitOutcome::in_doubt) {
    throw base::Error("the connection was lost at COMMIT: its outcome is not known here")
        .on(connection_.server())
        .with_sqlstate("08007")
        .set_retryable(true)
        .set_connection_usable(false);
  }
}

void Transaction::rollback() {
  if (open_) {
    open_ = false;
    const Connection::Uninterrupted guard(connection_);
    connection_.exec("ROLLBACK");
  }
}

}  // namespace replication::postgres
