// The failure after which the stream has to begin anew: see Applier::failure().
#pragma once

#include <string>

#include "replication/base/error.h"

namespace replication::apply {

// What was applied or under way on the target is gone there and no longer in memory here: only a new stream
// from the target's position has it. Retryable by whoever owns both the receiver and apply.
struct StreamMustRestart : base::Error {
  StreamMustRestart(const std::string& what, const std::string& server)
      : Error(what + "; the stream must be started again",
              "start again: it begins at the target's position, which the slot still has") {
    on(server);
    set_retryable(true);
  }
};

}  // namespace replication::apply
