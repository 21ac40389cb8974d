#include "replication/postgres/sqlstate.h"

namespace replication::postgres::sqlstate {

bool ends_session(std::string_view code) {
  return code.starts_with("08") || (code.starts_with("57P0") && code != "57P06");
}

bool retryable(std::string_view code) {
  return ends_session(code) || code.starts_with("40") || code.starts_with("53") ||
         code == kLockNotAvailable || code == kObjectInUse;
}

}  // namespace replication::postgres::sqlstate
