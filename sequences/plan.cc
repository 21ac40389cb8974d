// The arithmetic of headroom. All of it in unsigned 64 bits, which wrap where signed ones would overflow: a
// sequence may run from -2^63 to 2^63-1, and the distance between the two doesn't fit a signed number.
#include <algorithm>
#include <map>
#include <utility>

#include "replication/base/error.h"
#include "sequences/sequences.h"

namespace sequences {
namespace {

using Name = std::pair<std::string, std::string>;

bool further(std::int64_t value, std::int64_t than, std::int64_t increment) {
  return increment > 0 ? value > than : value < than;
}

std::int64_t furthest(std::int64_t one, std::int64_t other, std::int64_t increment) {
  return further(one, other, increment) ? one : other;
}

// The last value that may ever be handed out: the nearest of all limits known on both sides.
std::int64_t limit_of(const Sequence& one, const Sequence& other) {
  const bool up = one.increment > 0;
  std::int64_t limit = up ? std::min(one.maximum, other.maximum) : std::max(one.minimum, other.minimum);
  for (const auto column : {one.column_limit, other.column_limit}) {
    if (column != 0) {
      limit = up ? std::min(limit, column) : std::max(limit, column);
    }
  }
  return limit;
}

// Increments that fit between `from` and `limit`.
std::uint64_t room(std::int64_t from, std::int64_t limit, std::int64_t increment) {
  if (!further(limit, from, increment)) {
    return 0;
  }
  const auto low = static_cast<std::uint64_t>(increment > 0 ? from : limit);
  const auto high = static_cast<std::uint64_t>(increment > 0 ? limit : from);
  const auto step =
      increment > 0 ? static_cast<std::uint64_t>(increment) : 0 - static_cast<std::uint64_t>(increment);
  return (high - low) / step;
}

std::int64_t advance(std::int64_t from, std::uint64_t increments, std::int64_t increment) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(from) +
                                   increments * static_cast<std::uint64_t>(increment));
}

base::Finding finding(base::Severity severity, std::string id, const Sequence& sequence, std::string message,
                      std::string remedy) {
  return {.severity = severity,
          .id = std::move(id),
          .server = "",
          .object = sequence.display(),
          .message = std::move(message),
          .remedy = std::move(remedy)};
}

std::string feeds(const Sequence& sequence) {
  std::string text;
  for (const auto& column : sequence.used_by) {
    text += (text.empty() ? ", which feeds " : ", ") + column;
  }
  return text;
}

void note_differences(const Sequence& closing, const Sequence& opening, base::Findings& findings) {
  const auto differs = [&](base::Severity severity, const std::string& what, std::int64_t here,
                           std::int64_t there) {
    if (here != there) {
      findings.push_back(finding(severity, "sequence-differs", closing,
                                 "sequence " + closing.display() + " has " + what + " " +
                                     std::to_string(here) + " on the side that closes and " +
                                     std::to_string(there) + " on the side that opens",
                                 "ALTER SEQUENCE on the side that opens"));
    }
  };
  differs(base::Severity::blocks, "increment", closing.increment, opening.increment);
  differs(base::Severity::blocks, "cycle", closing.cycle ? 1 : 0, opening.cycle ? 1 : 0);
  differs(base::Severity::warns, "minimum", closing.minimum, opening.minimum);
  differs(base::Severity::warns, "maximum", closing.maximum, opening.maximum);
}

// Neither side has handed anything out as far as `closing` and `opening` tell, or the closing side's first
// value lies beyond everything the opening side has handed out: the next value is copied, not moved.
bool still_unused(const Sequence& closing, const Sequence& opening) {
  return !closing.is_called &&
         (!opening.is_called || further(closing.last_value, opening.last_value, closing.increment));
}

void note_room(const Sequence& sequence, std::uint64_t left, std::int64_t limit, base::Findings& findings) {
  const std::string rest = std::to_string(left) + " values left before its limit " + std::to_string(limit);
  if (left < 3) {
    findings.push_back(
        finding(base::Severity::blocks, "sequence-exhausted", sequence,
                "sequence " + sequence.display() + " has " + rest + feeds(sequence),
                "widen the column and the sequence on both sides (ALTER SEQUENCE ... AS bigint)"));
  } else {
    findings.push_back(finding(base::Severity::warns, "sequence-near-limit", sequence,
                               "sequence " + sequence.display() + " has only " + rest + feeds(sequence) +
                                   ": the headroom is cut to a third of it",
                               "widen the column and the sequence on both sides, or ask for less headroom"));
  }
}

Bump plan_one(const Sequence& closing, const Sequence& opening, std::uint64_t headroom,
              base::Findings& findings) {
  Bump bump{.schema = closing.schema,
            .name = closing.name,
            .from = closing.last_value,
            .target_value = closing.last_value,
            .source_value = closing.last_value,
            .is_called = closing.is_called,
            .clipped = false,
            .increment = closing.increment,
            .cycle = closing.cycle};
  if (closing.cycle) {
    return bump;
  }
  if (still_unused(closing, opening)) {
    // Where both are unused the further first value wins: what somebody set on the opening side is not taken
    // back.
    bump.target_value = furthest(closing.last_value, opening.last_value, closing.increment);
    bump.source_value = bump.target_value;
    return bump;
  }
  // From here on somebody has handed out values: both sides get values of their own.
  bump.is_called = true;
  const auto reached = furthest(closing.last_value, opening.last_value, closing.increment);
  const auto limit = limit_of(closing, opening);
  const auto left = room(reached, limit, closing.increment);
  const auto step = std::min(headroom, left / 3);
  bump.clipped = step < headroom;
  if (bump.clipped) {
    note_room(closing, left, limit, findings);
  }
  const auto margin = closing.is_called ? step : 0;  // nothing was handed out: nothing to stay clear of
  bump.target_value =
      furthest(advance(closing.last_value, margin, closing.increment), opening.last_value, closing.increment);
  bump.source_value = advance(bump.target_value, step, closing.increment);
  return bump;
}

}  // namespace

BumpPlan plan_bumps(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening,
                    std::int64_t headroom) {
  if (headroom < 1) {
    throw base::UsageError("sequence headroom " + std::to_string(headroom) + " is not a positive number",
                           "both sides need ids of their own, or there is no way back");
  }
  BumpPlan plan;
  std::map<Name, const Sequence*> there;
  for (const auto& sequence : opening) {
    there.emplace(Name{sequence.schema, sequence.name}, &sequence);
  }
  for (const auto& sequence : closing) {
    const auto found = there.find({sequence.schema, sequence.name});
    if (found == there.end()) {
      plan.findings.push_back(
          finding(base::Severity::blocks, "sequence-missing", sequence,
                  "sequence " + sequence.display() + " is missing on the side that opens" + feeds(sequence),
                  "create it there, or drop it on the side that closes"));
      continue;
    }
    const Sequence& other = *found->second;
    there.erase(found);
    note_differences(sequence, other, plan.findings);
    if (sequence.increment == other.increment && sequence.cycle == other.cycle) {
      plan.bumps.push_back(plan_one(sequence, other, static_cast<std::uint64_t>(headroom), plan.findings));
    }
  }
  for (const auto& [name, sequence] : there) {
    plan.findings.push_back(
        finding(base::Severity::warns, "sequence-only-there", *sequence,
                "sequence " + sequence->display() + " exists only on the side that opens" + feeds(*sequence),
                "nothing to do where the application doesn't expect it on both sides"));
  }
  return plan;
}

}  // namespace sequences
