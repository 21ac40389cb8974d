// How many increments of headroom a sequence needs, from what was observed. Pure.
//
// need = peak rate x (window + rollback window) x safety + cache x sessions, at least a floor: 10,000
// increments, or a hundredth of what its limit leaves where that is less. Units: rates are increments a
// second, windows seconds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "sequences/sequences.h"

namespace sequences {

using Name = std::pair<std::string, std::string>;  // schema, name

struct HeadroomRule {
  std::int64_t fixed = 0;         // increments instead of the computed ones; 0 = compute
  double window_seconds = 3'600;  // how long both sides may have to live before the switch is through
  double rollback_window_seconds = 86'400;  // how long the way back shall stay open
  int safety = 2;                           // factor on what the rate says
};

// What was observed: the peak rate of each sequence that moved, and the peak number of sessions, each of
// which may keep CACHE values to itself.
struct Demand {
  std::map<Name, double> rates;  // increments a second
  std::int64_t sessions = 0;

  double rate_of(const Sequence& sequence) const;
};

// Increments. `left` is what the nearest limit leaves. Saturates instead of overflowing; never 0.
std::uint64_t needed_increments(const Sequence& sequence, const Demand& demand, std::uint64_t left,
                                const HeadroomRule& rule);

// What sessions may take at once into their CACHE while both sides live: a range below it is left by the
// first of them. That of the sessions seen and our own proof, at least ten; 0 where nothing is cached.
std::uint64_t cached_increments(const Sequence& sequence, const Demand& demand);

// "2,500 ids/s x (1h + 24h) x 2 + cache 50 x 8 sessions": for messages.
std::string need_text(const Sequence& sequence, const Demand& demand, const HeadroomRule& rule);

enum class Traffic {
  one_side,   // a hand-over: the closing side is fenced, what was never used stays unused
  both_sides  // both sides take writes: also sequences nobody has used get ranges of their own
};

// plan_bumps() with a need for each sequence. Where three times the need doesn't fit before the limit the
// plan refuses (finding "sequence-overflow", blocks) and the values are cut to a third of what is left, for
// who accepts it by name. With a fixed headroom the cut is a warning, as in the other plan_bumps.
BumpPlan plan_bumps(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening,
                    const Demand& demand, const HeadroomRule& rule, Traffic traffic = Traffic::one_side);

}  // namespace sequences
