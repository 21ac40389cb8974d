// How much the source has to carry besides us: what a copy gives way to.
//
// Looks over a session that its caller has; one thread. Nothing of this tool counts. How far behind a standby
// is: the server's own replay_lag, or the time since the source had WAL that the standby hasn't replayed,
// whichever is more; the first alone says nothing of a standby that stands still.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace cutover::steps {

namespace base = replication::base;
namespace postgres = replication::postgres;

// Limits of a copy; 0 = off.
struct CopyLimits {
  std::int64_t rate_mb = 0;          // rows, 10^6 bytes a second
  std::int64_t active_sessions = 0;  // of others
  base::milliseconds replica_lag{0};
  std::int64_t xmin_age = 0;  // transactions

  bool looks_at_source() const { return active_sessions > 0 || replica_lag.count() > 0 || xmin_age > 0; }
  bool operator==(const CopyLimits&) const = default;
};

class SourceLoad {
 public:
  // Why a copy has to rest, for people; empty = it hasn't to.
  std::string too_busy(postgres::Connection& source, const CopyLimits& limits);
  // Why no further table may be begun.
  static std::string too_old(postgres::Connection& source, const CopyLimits& limits);

 private:
  std::string lagging(postgres::Connection& source, base::milliseconds limit);
  base::milliseconds behind(base::Lsn replayed, base::Clock::time_point now) const;

  struct Seen {
    base::Clock::time_point at;
    base::Lsn lsn;
  };
  std::deque<Seen> seen_;  // where the source's WAL ended; a bounded time back
};

// Without it other roles' sessions show nothing: the limits would never be reached, silently. Throws
// StateError.
void require_sight(postgres::Connection& source);

}  // namespace cutover::steps
