#include "cutover/cli/sequences_verb.h"

#include <algorithm>
#include <iostream>
#include <map>

#include "cutover/cli/watch.h"
#include "cutover/state/sequence_list.h"
#include "cutover/steps/sequence_watch.h"
#include "cutover/steps/store.h"
#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "sequences/details.h"
#include "sequences/headroom.h"
#include "sequences/ledger.h"
#include "sequences/rate.h"

namespace cutover::cli {
namespace {

namespace postgres = replication::postgres;
using base::ExitCode;
using sequences::Name;
using sequences::Sequence;
using steps::Side;

constexpr base::milliseconds kBumpWait{30'000};  // for another bump to end

// The servers that were given, with what was seen on each.
struct Seen {
  Side side = Side::source;
  std::vector<Sequence> sequences;
  sequences::RateObserver observer;
  std::map<Name, double> rates;
};

class SequencesVerb {
 public:
  SequencesVerb(const Invocation& invocation, const base::Stop& stop)
      : invocation_(invocation),
        stop_(stop),
        // No controller: whoever takes over leaves these sessions alone, and its epoch stops what they would
        // set.
        servers_(invocation.plan, invocation.connect_timeout, stop, steps::Who::reader) {
    for (const Side side : {Side::source, Side::target}) {
      if (!(side == Side::source ? invocation.plan.source : invocation.plan.target).empty()) {
        seen_.emplace_back();
        seen_.back().side = side;
      }
    }
  }

  int run();

 private:
  int list();
  int plan(bool bump);
  int watch();
  void look_at_ranges();
  void issue_new(bool nearly);
  void issue_in_migration();
  void look();  // values, and the rate over the interval
  void measure();
  sequences::BumpPlan make_plan();
  void refuse_in_migration();
  void drop_issued(sequences::BumpPlan& plan);
  void set(const sequences::BumpPlan& plan);
  void share();
  int print(const state::SequenceList& list) const;
  bool both() const { return seen_.size() == 2; }
  postgres::Connection& at(const Seen& seen) { return servers_.at(seen.side); }

  const Invocation& invocation_;
  const base::Stop& stop_;
  steps::Servers servers_;
  std::vector<Seen> seen_;
  sequences::Demand demand_;
};

int SequencesVerb::print(const state::SequenceList& list) const {
  std::cout << (invocation_.json ? state::to_json(list) : state::to_text(list)) << std::flush;
  const bool blocks =
      std::any_of(list.findings.begin(), list.findings.end(),
                  [](const base::Finding& finding) { return finding.severity == base::Severity::blocks; });
  return static_cast<int>(blocks ? ExitCode::findings : ExitCode::done);
}

void SequencesVerb::look() {
  for (auto& seen : seen_) {
    seen.sequences = sequences::inventory(at(seen));
    seen.rates = seen.observer.look(seen.sequences, base::Clock::now());
  }
}

// What a migration has stored, and what one interval shows.
void SequencesVerb::measure() {
  look();
  stop_.wait(base::Deadline::in(invocation_.interval));
  stop_.check();
  look();
  for (auto& seen : seen_) {
    demand_ = sequences::merged(std::move(demand_), sequences::stored_demand(at(seen)));
    demand_ = sequences::merged(std::move(demand_), {seen.rates, 0});
  }
}

int SequencesVerb::list() {
  look();
  state::SequenceList list;
  for (auto& seen : seen_) {
    auto& connection = at(seen);
    sequences::add_mentions(connection, seen.sequences);
    sequences::add_highest_ids(connection, seen.sequences);
    const auto demand = sequences::stored_demand(connection);
    list.sessions += demand.sessions;
    const std::string server(to_string(seen.side));
    for (const auto& one : seen.sequences) {
      list.sequences.push_back({server, one.display(), one.last_value, one.is_called, one.increment,
                                one.minimum, one.maximum, one.column_limit, one.cache, one.cycle, one.used_by,
                                one.mentioned_in, one.highest, demand.rate_of(one)});
      if (one.unlogged) {
        list.findings.push_back(
            {base::Severity::warns, "sequence-unlogged", server, one.display(),
             "sequence " + one.display() + " is UNLOGGED: a crash of the server sets it back to its start",
             "ALTER SEQUENCE " + one.qualified() + " SET LOGGED"});
      }
      // The next value of an unused sequence is the one it is at.
      const auto ahead =
          one.highest ? (one.increment > 0 ? *one.highest > one.last_value : *one.highest < one.last_value) ||
                            (!one.is_called && *one.highest == one.last_value)
                      : false;
      if (ahead && !one.cycle) {
        list.findings.push_back({base::Severity::warns, "sequence-behind-data", server, one.display(),
                                 "sequence " + one.display() + " is at " + std::to_string(one.last_value) +
                                     ", but the id " + std::to_string(*one.highest) + " is there already",
                                 "its next values will collide: `pgcutover sequences bump`, or setval"});
      }
    }
    for (const auto& key : sequences::keys_without_sequence(connection)) {
      list.other_keys.push_back({server, key.column, key.type, std::string(sequences::to_string(key.kind)),
                                 key.primary, sequences::needs_no_headroom(key.kind)});
    }
  }
  return print(list);
}

sequences::BumpPlan SequencesVerb::make_plan() {
  for (auto& seen : seen_) {
    sequences::add_highest_ids(at(seen), seen.sequences);
    sequences::count_abandoned(seen.sequences, sequences::read_ledger(at(seen)),
                               std::string(to_string(seen.side)));
  }
  auto plan = sequences::plan_bumps(seen_.front().sequences, seen_.back().sequences, demand_,
                                    steps::headroom_rule(invocation_.plan), sequences::Traffic::both_sides);
  for (auto& finding : plan.findings) {
    if (finding.id == "sequence-cycles") {
      finding.severity = base::Severity::blocks;  // two live sides would hand out the same values
      finding.remedy =
          "ALTER SEQUENCE ... NO CYCLE; or leave it as it is: --accept sequence-cycles:" + finding.object;
    }
    if (invocation_.plan.accepts(finding)) {
      finding.severity = base::Severity::warns;
    }
  }
  // Nothing that could be shared: accepted by name, these are left as they are.
  std::erase_if(plan.bumps, [](const sequences::Bump& bump) {
    return bump.cycle || bump.target_value == bump.source_value;
  });
  return plan;
}

// A pair of ranges that is in force is left alone: bumping twice is bumping once.
void SequencesVerb::drop_issued(sequences::BumpPlan& plan) {
  std::map<Name, std::vector<sequences::Range>> in_force;
  for (auto& seen : seen_) {
    const auto ledger = sequences::read_ledger(at(seen));
    std::map<Name, const sequences::Range*> newest;
    for (const auto& range : ledger) {
      if (range.server == to_string(seen.side)) {
        newest[{range.schema, range.name}] = &range;
      }
    }
    for (const auto& sequence : seen.sequences) {
      const auto range = newest.find({sequence.schema, sequence.name});
      if (range == newest.end() || !range->second->is_called) {
        continue;
      }
      const auto state = sequences::usage(*range->second, sequence, 0, true).state;
      if (state == sequences::RangeState::fine || state == sequences::RangeState::half_used) {
        in_force[range->first].push_back(*range->second);
      }
    }
  }
  std::erase_if(plan.bumps, [&](const sequences::Bump& bump) {
    const auto found = in_force.find({bump.schema, bump.name});
    // Ranges that were given to one server at a time may meet.
    return found != in_force.end() && found->second.size() == seen_.size() &&
           !(both() && sequences::overlap(found->second.front(), found->second.back()));
  });
}

void SequencesVerb::refuse_in_migration() {
  for (auto& seen : seen_) {
    if (steps::read_run(at(seen))) {
      throw base::StateError("a migration is under way on the " + std::string(to_string(seen.side)) +
                                 ": it sets the sequences itself",
                             "`pgcutover sequences watch` shows its ranges; with --yes it issues new ones "
                             "where no `run` lives");
    }
  }
}

void SequencesVerb::set(const sequences::BumpPlan& plan) {
  if (plan.bumps.empty()) {
    share();
    return;
  }
  for (auto& seen : seen_) {
    if (!steps::schema_exists(at(seen))) {
      base::log::info("making the schema pgcutover on the " + std::string(to_string(seen.side)) +
                      " for the ledger of ranges; DROP SCHEMA pgcutover CASCADE when you are done with it");
    }
    steps::create_schema(at(seen));
  }
  std::map<Side, postgres::FencingToken> tokens;
  for (auto& seen : seen_) {
    tokens[seen.side] = postgres::FencingToken::current(at(seen));
  }
  refuse_in_migration();  // one that began since would have raised the epochs; from here on it does
  // The source first: it is in use, and its old values must be behind us before the target begins.
  for (auto& seen : seen_) {
    auto& connection = at(seen);
    sequences::bump_live(connection, plan.bumps,
                         seen.side == Side::source ? sequences::Side::closes : sequences::Side::opens,
                         tokens.at(seen.side));
    base::fault_point("bump.after-source");
  }
  share();
}

// Also where nothing is left to set: a bump before this one may have died before it came to this.
void SequencesVerb::share() {
  if (!both() || !steps::schema_exists(servers_.source()) || !steps::schema_exists(servers_.target())) {
    return;
  }
  sequences::share_ledger(servers_.source(), postgres::FencingToken::current(servers_.source()),
                          servers_.target(), postgres::FencingToken::current(servers_.target()));
}

int SequencesVerb::plan(bool bump) {
  if (bump) {
    refuse_in_migration();
    for (auto& seen : seen_) {
      sequences::lock_bumps(at(seen), base::Deadline::in(kBumpWait + invocation_.interval));
    }
  }
  measure();
  auto plan = make_plan();
  drop_issued(plan);
  base::fault_point("bump.after-plan");
  state::SequenceList list;
  list.findings = plan.findings;
  list.sessions = demand_.sessions;
  const bool blocks =
      std::any_of(plan.findings.begin(), plan.findings.end(),
                  [](const base::Finding& finding) { return finding.severity == base::Severity::blocks; });
  const bool done = bump && !blocks;
  if (done) {
    set(plan);
  }
  std::map<Name, const Sequence*> by_name;
  for (const auto& sequence : seen_.front().sequences) {
    by_name[{sequence.schema, sequence.name}] = &sequence;
  }
  for (const auto& one : plan.bumps) {
    state::BumpLine line;
    line.sequence = one.schema + "." + one.name;
    line.from = one.from;
    for (const auto& seen : seen_) {
      (seen.side == Side::target ? line.target_value : line.source_value) =
          seen.side == Side::target ? one.target_value : one.source_value;
    }
    line.clipped = one.clipped;
    line.need = sequences::need_text(*by_name.at({one.schema, one.name}), demand_,
                                     steps::headroom_rule(invocation_.plan));
    line.done = done;
    list.bumps.push_back(std::move(line));
  }
  if (plan.bumps.empty() && !invocation_.json && !blocks) {
    std::cout << "nothing to set: every sequence has a range with room left\n";
  }
  return print(list);
}

void add_range_finding(const state::SequenceRangeStatus& range, base::Findings& findings) {
  if (range.state != to_string(sequences::RangeState::fine)) {
    findings.push_back(
        {base::Severity::warns, "sequence-range", range.server, range.sequence,
         "the range of " + range.sequence + " on the " + range.server + " is " + range.state,
         range.state == to_string(sequences::RangeState::outside)
             ? "find who calls setval, then `pgcutover sequences bump`"
         : range.state == to_string(sequences::RangeState::used_up)
             ? "`pgcutover sequences bump` issues a new pair, `watch --yes` by itself; ids behind the end "
               "may "
               "have been handed out on the other side too"
             : "`pgcutover sequences bump` issues a new pair once 80 % are used; `watch --yes` "
               "does it by itself; while a migration is under way `run` does, or `watch --yes` where none "
               "lives"});
  }
}

// The rollback window while no controller lives: what `run` would do at its looks.
void SequencesVerb::issue_in_migration() {
  if (!both()) {
    return;
  }
  const auto issued = steps::issue_without_controller(servers_, invocation_.plan);
  if (issued.value_or(0) > 0) {
    base::log::info("new ranges of ids issued for " + std::to_string(*issued) + " sequence(s)");
  }
}

// A bump that doesn't get through is tried again at the next look.
void SequencesVerb::issue_new(bool nearly) {
  try {
    const bool migration = std::any_of(
        seen_.begin(), seen_.end(), [&](const Seen& seen) { return steps::read_run(at(seen)).has_value(); });
    if (migration) {
      for (auto& seen : seen_) {
        sequences::lock_bumps(at(seen), base::Deadline::in(kBumpWait));
      }
      issue_in_migration();
    } else if (nearly) {
      plan(true);
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    if (!error.connection_usable()) {
      throw;
    }
    base::log::warn("no new ranges: " + error.describe());
  }
  for (auto& seen : seen_) {
    sequences::unlock_bumps(at(seen));
  }
}

void SequencesVerb::look_at_ranges() {
  look();
  state::SequenceList list;
  for (auto& seen : seen_) {
    auto& connection = at(seen);
    const auto ledger = sequences::read_ledger(connection);
    // A side that gave its authority away must not move; without a migration both sides live.
    const bool open = !steps::schema_exists(connection) ||
                      connection.one_value("SELECT state FROM pgcutover.fence WHERE id = 1") != "closed";
    for (const auto& sequence : seen.sequences) {
      const auto* range =
          sequences::current_range(ledger, sequence.schema, sequence.name, std::string(to_string(seen.side)));
      if (range == nullptr || !range->is_called || sequence.cycle) {
        continue;
      }
      const auto rate = seen.rates.find({sequence.schema, sequence.name});
      list.ranges.push_back(steps::range_status(
          sequences::usage(*range, sequence, rate == seen.rates.end() ? 0 : rate->second, open)));
    }
  }
  std::stable_sort(list.ranges.begin(), list.ranges.end(),
                   [](const auto& a, const auto& b) { return a.used_share > b.used_share; });
  for (const auto& range : list.ranges) {
    add_range_finding(range, list.findings);
  }
  print(list);
  if (invocation_.yes) {
    issue_new(std::any_of(list.ranges.begin(), list.ranges.end(), [](const auto& range) {
      return range.state == "nearly-used" || range.state == "used-up";
    }));
  }
}

// It outlives a server that restarts: whoever leaves it running counts on the next pair of ranges.
int SequencesVerb::watch() {
  bool looked = false;
  const auto once = [&] {
    try {
      look_at_ranges();
      looked = true;
    } catch (const base::Error& error) {
      const bool away = error.retryable() || dynamic_cast<const base::UnreachableError*>(&error) != nullptr;
      if (!looked || !away) {
        throw;
      }
      servers_.close();  // also the session that is well: it may hold the lock of bumps
      base::log::warn(error.describe() + "; looking again");
    }
  };
  cli::watch(invocation_.interval, stop_, once);
  return static_cast<int>(ExitCode::done);
}

int SequencesVerb::run() {
  if (invocation_.action == "list") {
    return list();
  }
  if (invocation_.action == "watch") {
    return watch();
  }
  const bool bump = invocation_.action == "bump";
  if (bump && !invocation_.yes) {
    throw base::UsageError("sequences bump needs --yes: it sets sequences on live servers",
                           "`pgcutover sequences plan` shows what it would set");
  }
  return plan(bump);
}

}  // namespace

int sequences_verb(const Invocation& invocation, const base::Stop& stop) {
  return SequencesVerb(invocation, stop).run();
}

}  // namespace cutover::cli
