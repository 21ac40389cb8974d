#include "replication/postgres/patient.h"

#include <string>

#include "replication/base/error.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"

namespace replication::postgres {
namespace {

constexpr base::milliseconds kBetweenAttempts{200};
constexpr const char* kShortWait = "SET LOCAL lock_timeout = 300; ";

bool in_the_way(const base::Error& error) {
  return error.connection_usable() &&
         (error.sqlstate() == sqlstate::kLockNotAvailable || error.sqlstate() == sqlstate::kDeadlockDetected);
}

// Runs `attempt` until no lock is in its way.
template <typename Attempt>
auto again_and_again(Connection& connection, base::Deadline budget, Attempt attempt) {
  for (;;) {
    try {
      return attempt();
    } catch (const base::Error& error) {
      if (!in_the_way(error) || budget.expired()) {
        throw;
      }
    }
    connection.stop().wait(base::Deadline::in(kBetweenAttempts));
    connection.stop().check();
  }
}

}  // namespace

Result exec_patiently(Connection& connection, std::string_view sql, base::Deadline budget) {
  return again_and_again(connection, budget, [&] {
    // One round trip and one transaction: the setting goes with it, whatever happens.
    return connection.exec(std::string(kShortWait) + std::string(sql), base::Deadline::never());
  });
}

void transact_patiently(Connection& connection, base::Deadline budget, const std::function<void()>& work) {
  again_and_again(connection, budget, [&] {
    Transaction transaction(connection);
    connection.exec(kShortWait);
    work();
    transaction.commit_or_throw();
  });
}

}  // namespace replication::postgres
