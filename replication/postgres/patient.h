// Statements that need a strong lock on a table in use: our wait must not become the application's (everybody
// queues behind a waiting ALTER TABLE), and two sessions that lock the same tables in another order must not
// end the work.
#pragma once

#include <functional>
#include <string_view>

#include "replication/postgres/connection.h"

namespace replication::postgres {

// Runs one statement, outside a transaction, with a short lock_timeout; where a lock isn't to be had or a
// deadlock was broken everything is given back and it is tried again, until `budget` is used up (the last
// error is thrown then). The statement itself, once it has its locks, may take as long as it needs.
Result exec_patiently(Connection& connection, std::string_view sql, base::Deadline budget);

// The same for `work`, several statements, inside a transaction that is begun and committed here: all of it
// is done again where a lock was in the way. The outcome of a COMMIT without an answer is a retryable Error.
void transact_patiently(Connection& connection, base::Deadline budget, const std::function<void()>& work);

}  // namespace replication::postgres
