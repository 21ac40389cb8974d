// Which values to set on both sides.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "replication/base/error.h"
#include "sequences/arithmetic.h"
#include "sequences/headroom.h"

namespace sequences {
namespace {

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

bool note_rights(const Sequence& closing, const Sequence& opening, base::Findings& findings) {
  for (const auto* sequence : {&closing, &opening}) {
    if (!sequence->settable) {
      findings.push_back(finding(base::Severity::blocks, "sequence-privilege", *sequence,
                                 "our role may not set the sequence " + sequence->display() +
                                     " on the side that " + (sequence == &closing ? "closes" : "opens") +
                                     feeds(*sequence),
                                 "GRANT UPDATE ON SEQUENCE " + sequence->qualified() +
                                     " to our role there; accepted by name, it is left as it is"));
      return false;
    }
  }
  return true;
}

void note_unlogged(const Sequence& closing, const Sequence& opening, base::Findings& findings) {
  if (closing.unlogged || opening.unlogged) {
    findings.push_back(finding(base::Severity::blocks, "sequence-unlogged", closing,
                               "sequence " + closing.display() +
                                   " is UNLOGGED: a crash of its server sets it back to its start, and ids "
                                   "would be handed out again" +
                                   feeds(closing),
                               "ALTER SEQUENCE " + closing.qualified() + " SET LOGGED on both sides"));
  }
}

// By column: the names of what feeds it.
std::map<std::string, std::set<std::string>> feeders(const std::vector<Sequence>& sequences) {
  std::map<std::string, std::set<std::string>> by_column;
  for (const auto& sequence : sequences) {
    for (const auto& column : sequence.used_by) {
      by_column[column].insert(sequence.display());
    }
  }
  return by_column;
}

// A default that was changed on one side only: each sequence would be set by what its namesake handed out,
// and the column's next id would be one that is there already.
void note_feeders(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening,
                  base::Findings& findings) {
  const auto here = feeders(closing);
  const auto join = [](const std::set<std::string>& names) {
    std::string text;
    for (const auto& name : names) {
      text += (text.empty() ? "" : ", ") + name;
    }
    return text;
  };
  for (const auto& [column, names] : feeders(opening)) {
    const auto found = here.find(column);
    if (found != here.end() && found->second != names) {
      findings.push_back({base::Severity::blocks, "sequence-differs", "", *names.begin(),
                          "column " + column + " is fed by " + join(found->second) +
                              " on the side that closes and by " + join(names) + " on the side that opens",
                          "ALTER TABLE ... ALTER COLUMN ... SET DEFAULT, or ALTER SEQUENCE ... OWNED BY, on "
                          "the side that opens"});
    }
  }
}

// What was handed out, or is there in the data, whichever is further.
std::int64_t reached_by(const Sequence& sequence) {
  return sequence.highest ? furthest(sequence.last_value, *sequence.highest, sequence.increment)
                          : sequence.last_value;
}

// Whether its ids are there although it says it was never used: a crash reset it.
bool lost_its_value(const Sequence& sequence) {
  return !sequence.is_called && sequence.highest &&
         !further(sequence.last_value, *sequence.highest, sequence.increment);
}

// Neither side has handed anything out as far as `closing` and `opening` tell, or the closing side's first
// value lies beyond everything the opening side has handed out: the next value is copied, not moved.
bool still_unused(const Sequence& closing, const Sequence& opening) {
  return !closing.is_called && !lost_its_value(closing) && !lost_its_value(opening) &&
         (!opening.is_called || further(closing.last_value, opening.last_value, closing.increment));
}

// What is left before the limit, and where that is counted from.
struct Left {
  std::uint64_t values = 0;
  std::int64_t limit = 0;
  std::int64_t reached = 0;
  bool by_opening = false;  // it is the opening side that is further

  std::string text() const {
    return std::to_string(values) + " values left before its limit " + std::to_string(limit) +
           (by_opening ? ", since the side that opens is at " + std::to_string(reached) + " already" : "");
  }
};

void note_room(const Sequence& sequence, const Left& left, base::Findings& findings) {
  const std::string rest = left.text();
  if (left.values < 3) {
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

void note_overflow(const Sequence& sequence, const Demand& demand, const HeadroomRule& rule,
                   std::uint64_t need, const Left& left, base::Findings& findings) {
  findings.push_back(finding(
      base::Severity::blocks, "sequence-overflow", sequence,
      "sequence " + sequence.display() + " needs three ranges of " + std::to_string(need) + " values (" +
          need_text(sequence, demand, rule) + "), but has " + left.text() + feeds(sequence),
      "widen the column and the sequence on both sides (ALTER SEQUENCE ... AS bigint), or plan a smaller "
      "sequences: {window, rollback-window}; accepted by name, the ranges are cut to a third of what is "
      "left"));
}

struct Wish {
  const Demand& demand;
  const HeadroomRule& rule;
  Traffic traffic = Traffic::one_side;
};

void note_cut(const Sequence& sequence, const Wish& wish, std::uint64_t need, const Left& left,
              base::Findings& findings) {
  const bool as_fixed = wish.rule.fixed > 0 && need <= static_cast<std::uint64_t>(wish.rule.fixed);
  if (as_fixed || left.values < 3) {
    note_room(sequence, left, findings);
  } else {
    note_overflow(sequence, wish.demand, wish.rule, need, left, findings);
  }
}

Bump plan_one(const Sequence& closing, const Sequence& opening, const Wish& wish, base::Findings& findings) {
  Bump bump;
  bump.schema = closing.schema;
  bump.name = closing.name;
  bump.from = bump.target_value = bump.source_value = closing.last_value;
  bump.is_called = closing.is_called;
  bump.increment = closing.increment;
  bump.cycle = closing.cycle;
  if (closing.cycle) {
    findings.push_back(
        finding(base::Severity::warns, "sequence-cycles", closing,
                "sequence " + closing.display() +
                    " is set to CYCLE: it repeats its values, so no range can be kept free" + feeds(closing),
                "nothing to do where its values need not be unique; else ALTER SEQUENCE ... NO CYCLE"));
    return bump;
  }
  const bool live = wish.traffic == Traffic::both_sides;
  if (!live && still_unused(closing, opening)) {
    // Where both are unused the further first value wins: what somebody set on the opening side is not taken
    // back.
    bump.target_value = furthest(closing.last_value, opening.last_value, closing.increment);
    bump.source_value = bump.target_value;
    return bump;
  }
  // From here on somebody has handed out values, or will on both sides: each side gets values of its own.
  bump.is_called = true;
  bump.from = reached_by(closing);
  const auto reached = furthest(bump.from, reached_by(opening), closing.increment);
  const auto limit = limit_of(closing, opening);
  const auto left = room(reached, limit, closing.increment);
  auto need = needed_increments(closing, wish.demand, left, wish.rule);
  if (live) {
    need = std::max(need, cached_increments(closing, wish.demand));
  }
  const auto step = std::min(need, left / 3);
  bump.clipped = step < need;
  if (bump.clipped) {
    note_cut(closing, wish, need, {left, limit, reached, reached != bump.from}, findings);
  }
  const auto margin = closing.is_called || lost_its_value(closing) || live
                          ? step
                          : 0;  // nothing was handed out: nothing to stay clear of
  bump.target_value =
      furthest(advance(bump.from, margin, closing.increment), reached_by(opening), closing.increment);
  bump.source_value = advance(bump.target_value, step, closing.increment);
  if (live) {
    bump.source_end =
        advance(bump.source_value, std::min(step, room(bump.source_value, limit, closing.increment)),
                closing.increment);
  }
  return bump;
}

}  // namespace

BumpPlan plan_bumps(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening,
                    std::int64_t headroom) {
  if (headroom < 1) {
    throw base::UsageError("sequence headroom " + std::to_string(headroom) + " is not a positive number",
                           "both sides need ids of their own, or there is no way back");
  }
  HeadroomRule rule;
  rule.fixed = headroom;
  return plan_bumps(closing, opening, Demand{}, rule);
}

BumpPlan plan_bumps(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening,
                    const Demand& demand, const HeadroomRule& rule, Traffic traffic) {
  const Wish wish{demand, rule, traffic};
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
    note_unlogged(sequence, other, plan.findings);
    if (note_rights(sequence, other, plan.findings) && sequence.increment == other.increment &&
        sequence.cycle == other.cycle) {
      plan.bumps.push_back(plan_one(sequence, other, wish, plan.findings));
    }
  }
  note_feeders(closing, opening, plan.findings);
  for (const auto& [name, sequence] : there) {
    plan.findings.push_back(
        finding(base::Severity::warns, "sequence-only-there", *sequence,
                "sequence " + sequence->display() + " exists only on the side that opens" + feeds(*sequence),
                "nothing to do where the application doesn't expect it on both sides"));
  }
  return plan;
}

}  // namespace sequences
