// The arithmetic of sequences, for this room only: unsigned 64 bits, which wrap where signed ones would
// overflow. A sequence may run from -2^63 to 2^63-1, and the distance between the two doesn't fit a signed
// number.
#pragma once

#include <algorithm>
#include <cstdint>

#include "sequences/sequences.h"

namespace sequences {

inline bool further(std::int64_t value, std::int64_t than, std::int64_t increment) {
  return increment > 0 ? value > than : value < than;
}

inline std::int64_t furthest(std::int64_t one, std::int64_t other, std::int64_t increment) {
  return further(one, other, increment) ? one : other;
}

// Increments that fit between `from` and `limit`.
inline std::uint64_t room(std::int64_t from, std::int64_t limit, std::int64_t increment) {
  if (!further(limit, from, increment)) {
    return 0;
  }
  const auto low = static_cast<std::uint64_t>(increment > 0 ? from : limit);
  const auto high = static_cast<std::uint64_t>(increment > 0 ? limit : from);
  const auto step =
      increment > 0 ? static_cast<std::uint64_t>(increment) : 0 - static_cast<std::uint64_t>(increment);
  return (high - low) / step;
}

inline std::int64_t advance(std::int64_t from, std::uint64_t increments, std::int64_t increment) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(from) +
                                   increments * static_cast<std::uint64_t>(increment));
}

// The last value that may ever be handed out: the nearest of all limits known on both sides.
inline std::int64_t limit_of(const Sequence& one, const Sequence& other) {
  const bool up = one.increment > 0;
  std::int64_t limit = up ? std::min(one.maximum, other.maximum) : std::max(one.minimum, other.minimum);
  for (const auto column : {one.column_limit, other.column_limit}) {
    if (column != 0) {
      limit = up ? std::min(limit, column) : std::max(limit, column);
    }
  }
  return limit;
}

}  // namespace sequences
