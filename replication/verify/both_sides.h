// Runs the same on both sides at the same time.
#pragma once

#include <future>
#include <utility>

#include "replication/verify/side.h"

namespace replication::verify {

// `action` is called with each side, the target's on a thread of its own. Returns after both have ended, also
// where one of them throws; the source's exception goes first.
template <typename Action>
auto on_both_sides(Side& source, Side& target, const Action& action) {
  auto on_target = std::async(std::launch::async, [&] { return action(target); });
  auto from_source = action(source);  // where this throws, the future's destructor waits for the other side
  auto from_target = on_target.get();
  return std::pair(std::move(from_source), std::move(from_target));
}

}  // namespace replication::verify
