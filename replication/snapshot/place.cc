#include "replication/snapshot/place.h"

namespace replication::snapshot {

void rethrow_at(base::Error& error, const std::string& place) {
  if (error.sqlstate()
          .empty()) {  // one of ours, which says what it is about; its type may matter to the caller
    error.at(place);
    throw;
  }
  throw base::Error(place + ": " + error.message(), error.hint())
      .on(error.server())
      .at(error.where())
      .with_sqlstate(error.sqlstate())
      .with_exit(error.exit_code())
      .set_retryable(error.retryable())
      .set_connection_usable(error.connection_usable());
}

}  // namespace replication::snapshot
