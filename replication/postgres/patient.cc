#include "replication/postgres/patient.h"

#include <string>

#include "replication/base/error.h"
#include "replication/postgres/sqlstate.h"

namespace replication::postgres {
namespace {

constexpr base::milliseconds kBetweenAttempts{200};

bool in_the_way(const base::Error& error) {
  return error.connection_usable() &&
         (error.sqlstate() == sqlstate::kLockNotAvailable || error.sqlstate() == sqlstate::kDeadlockDetected);
}

}  // namespace

Result exec_patiently(Connection& connection, std::string_view sql, base::Deadline budget) {
  for (;;) {
    try {
      // One round trip and one transaction: the setting goes with it, whatever happens.
      return connection.exec("SET LOCAL lock_timeout = 300; " + std::string(sql), base::Deadline::never());
    } catch (const base::Error& error) {
      if (!in_the_way(error) || budget.expired()) {
        throw;
      }
    }
    connection.stop().wait(base::Deadline::in(kBetweenAttempts));
    connection.stop().check();
  }
}

}  // namespace replication::postgres
