#include "sequences/headroom.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sequences/arithmetic.h"

namespace sequences {
namespace {

constexpr std::uint64_t kFloor = 10'000;
constexpr std::uint64_t kFloorPart = 100;
constexpr std::int64_t kCaches = 10;  // sessions come and go, each takes a new one

std::string short_number(double value) {
  auto text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (!text.empty() && text.back() == '.') {
    text.pop_back();
  }
  return text;
}

}  // namespace

double Demand::rate_of(const Sequence& sequence) const {
  const auto found = rates.find({sequence.schema, sequence.name});
  return found == rates.end() ? 0 : found->second;
}

std::uint64_t needed_increments(const Sequence& sequence, const Demand& demand, std::uint64_t left,
                                const HeadroomRule& rule) {
  if (rule.fixed > 0) {
    return static_cast<std::uint64_t>(rule.fixed);
  }
  const double by_rate = std::max(0.0, demand.rate_of(sequence)) *
                         (std::max(0.0, rule.window_seconds) + std::max(0.0, rule.rollback_window_seconds)) *
                         std::max(1, rule.safety);
  const double by_cache =
      static_cast<double>(sequence.cache) * static_cast<double>(std::max<std::int64_t>(demand.sessions, 0));
  const double needed = std::ceil(by_rate + by_cache);
  constexpr double kMost = 9.0e18;  // beyond it a double doesn't convert to 64 bits; more than any room
  const auto computed =
      !(needed < kMost) ? std::numeric_limits<std::uint64_t>::max() : static_cast<std::uint64_t>(needed);
  const auto floor = std::max<std::uint64_t>(1, std::min(kFloor, left / kFloorPart));
  return std::max(computed, floor);
}

std::uint64_t cached_increments(const Sequence& sequence, const Demand& demand) {
  if (sequence.cache <= 1) {
    return 0;
  }
  std::uint64_t cached = 0;
  const auto caches = std::max(demand.sessions + 1, kCaches);
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(sequence.cache), static_cast<std::uint64_t>(caches),
                             &cached)) {
    return std::numeric_limits<std::uint64_t>::max();
  }
  return cached;
}

std::string need_text(const Sequence& sequence, const Demand& demand, const HeadroomRule& rule) {
  if (rule.fixed > 0) {
    const bool cached = cached_increments(sequence, demand) > static_cast<std::uint64_t>(rule.fixed);
    return "fixed at " + std::to_string(rule.fixed) +
           (cached ? ", at least cache " + std::to_string(sequence.cache) + " x " +
                         std::to_string(std::max(demand.sessions + 1, kCaches))
                   : "");
  }
  return short_number(demand.rate_of(sequence)) + " ids/s x (" + short_number(rule.window_seconds) + " s + " +
         short_number(rule.rollback_window_seconds) + " s) x " + std::to_string(rule.safety) + " + cache " +
         std::to_string(sequence.cache) + " x " + std::to_string(demand.sessions) + " sessions";
}

}  // namespace sequences
