// Trying again after what time mends: lost connections, servers that restart, deadlocks. A full disk isn't
// mended by time, and trying again would fill it again: whoever makes room calls once more.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "replication/base/deadline.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/base/stop.h"
#include "replication/postgres/sqlstate.h"
#include "replication/snapshot/place.h"

namespace replication::snapshot {

// Runs `attempt` until it returns. After a failure `give_up` closes what was open; where it was a retryable
// one, it is tried again with growing pauses for 5 minutes, counted from the first failure. `doing` leads the
// error's message ("copying app.orders"), asked after the failure.
template <typename Attempt, typename GiveUp, typename Doing>
auto with_retries(const base::Stop& stop, Attempt attempt, GiveUp give_up, Doing doing) {
  constexpr base::milliseconds kBudget{300'000};
  constexpr base::milliseconds kBackoffMax{10'000};
  std::optional<base::Deadline> budget;
  base::milliseconds backoff{200};
  for (;;) {
    try {
      return attempt();
    } catch (const base::Stopped&) {
      give_up();
      throw;
    } catch (base::Error& error) {
      give_up();
      if (error.sqlstate() == postgres::sqlstate::kDiskFull) {
        error
            .with_hint("make room on the " + (error.server().empty() ? "server" : error.server()) +
                       "'s disk, then run the same command again: it goes on with what is left")
            .set_retryable(false);
      }
      if (!budget) {
        budget = base::Deadline::in(kBudget);
      }
      if (!error.retryable() || budget->expired()) {
        rethrow_at(error, doing());
      }
      base::log::warn(doing() + " is tried again: " + error.describe());
    }
    if (stop.wait(base::Deadline::in(backoff).sooner(*budget))) {
      throw base::Stopped();
    }
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

}  // namespace replication::snapshot
