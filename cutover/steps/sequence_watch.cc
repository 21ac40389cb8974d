#include "cutover/steps/sequence_watch.h"

#include <algorithm>
#include <chrono>

#include "cutover/steps/fence.h"
#include "replication/base/log.h"
#include "sequences/details.h"

namespace cutover::steps {
namespace {

constexpr base::milliseconds kEvery{30'000};
constexpr base::milliseconds kCloser{5'000};
constexpr std::size_t kShown = 50;
constexpr const char* kFinding = "sequence-range";

using sequences::RangeState;

// The peaks stored on both servers.
sequences::Demand observed_demand(Servers& servers) {
  return sequences::merged(sequences::stored_demand(servers.source()),
                           sequences::stored_demand(servers.target()));
}

// `used` is what the open side has.
int issue_pairs(Servers& servers, const plan::Plan& plan, Side closed,
                const std::vector<sequences::Sequence>& used, const postgres::FencingToken& closed_token,
                const postgres::FencingToken& open_token) {
  auto& here = servers.at(closed);
  auto& open = servers.at(other(closed));
  const auto bumps = sequences::plan_closed(used, sequences::inventory(here), sequences::read_ledger(open),
                                            open.server(), observed_demand(servers), headroom_rule(plan));
  // The closed side first: where we die in between, it is further away than the open side's range says.
  sequences::apply_bumps(here, bumps, sequences::Side::closes, closed_token);
  sequences::extend_ranges(open, bumps, open_token);
  sequences::share_ledger(open, open_token, here, closed_token);
  return static_cast<int>(bumps.size());
}

}  // namespace

sequences::HeadroomRule headroom_rule(const plan::Plan& plan) {
  sequences::HeadroomRule rule;
  rule.fixed = plan.sequence_headroom;
  rule.window_seconds = std::chrono::duration<double>(plan.sequence_window).count();
  rule.rollback_window_seconds = std::chrono::duration<double>(plan.sequence_rollback_window).count();
  rule.safety = plan.sequence_safety;
  return rule;
}

sequences::BumpPlan plan_sequences(Context& context, Side from) {
  const auto read = [&](Side side) {
    auto& connection = context.servers.at(side);
    auto all = sequences::inventory(connection);
    sequences::add_highest_ids_of_unlogged(connection, all);
    sequences::count_abandoned(all, sequences::read_ledger(connection), std::string(to_string(side)));
    return all;
  };
  return sequences::plan_bumps(read(from), read(other(from)), observed_demand(context.servers),
                               headroom_rule(context.plan));
}

void set_lost_again(Context& context, Side closed) {
  auto& connection = context.servers.at(closed);
  const bool any = connection
                       .one_row(
                           "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relkind = 'S' AND "
                           "relpersistence = 'u')")
                       .boolean(0, 0);
  if (!any || read_fence(connection).state != FenceState::closed) {
    return;
  }
  sequences::apply_bumps(connection,
                         sequences::lost_values(sequences::inventory(connection),
                                                sequences::read_ledger(connection), connection.server()),
                         sequences::Side::opens, context.token);
}

int set_closed_sequences(Context& context, Side closed) {
  return issue_pairs(context.servers, context.plan, closed,
                     sequences::inventory(context.servers.at(other(closed))), context.token, context.token);
}

std::optional<int> issue_without_controller(Servers& servers, const plan::Plan& plan) {
  // The tokens first: whoever takes over after this look makes what follows fail.
  const auto source = postgres::FencingToken::current(servers.source());
  const auto target = postgres::FencingToken::current(servers.target());
  const auto fence_of_source = read_fence(servers.source());
  const auto fence_of_target = read_fence(servers.target());
  const auto open = primary_side(servers.source(), servers.target());
  const bool settled = !fence_of_source.attempt && !fence_of_target.attempt;
  if (controller_lock_holder(servers.target()) || !open || !settled ||
      fence_of_source.switches + fence_of_target.switches == 0) {
    return std::nullopt;
  }
  const bool source_closed = *open == Side::target;
  return issue_pairs(servers, plan, other(*open), sequences::inventory(servers.at(*open)),
                     source_closed ? source : target, source_closed ? target : source);
}

state::SequenceRangeStatus range_status(const sequences::Usage& usage) {
  return {.sequence = usage.range.display(),
          .server = usage.range.server,
          .start = usage.range.start,
          .has_until = usage.range.until.has_value(),
          .until = usage.range.until.value_or(0),
          .at = usage.at,
          .used_share = usage.used_share,
          .seconds_left = usage.seconds_left,
          .state = std::string(sequences::to_string(usage.state))};
}

void SequenceWatch::tend(Side open) {
  const auto now = base::Clock::now();
  // A switch and a rollback may come between two looks: the side alone wouldn't tell.
  const int switches =
      read_fence(context_.servers.source()).switches + read_fence(context_.servers.target()).switches;
  if (switches != switches_) {
    switches_ = switches;
    looks_ = 0;
    observer_ = {};
    told_.clear();
  }
  if (looks_ > 0 && now - looked_ < (close_look_ || looks_ < 2 ? kCloser : kEvery)) {
    return;
  }
  looked_ = now;
  ++looks_;
  try {
    look(open);
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::StateError&) {
    throw;  // overtaken
  } catch (const base::Error& error) {
    if (!error.connection_usable()) {
      throw;
    }
    base::log::warn("the sequences could not be looked at: " + error.describe());
  }
}

void SequenceWatch::look(Side open) {
  auto& connection = context_.servers.at(open);
  const auto now = sequences::inventory(connection);
  const auto rates = observer_.look(now, base::Clock::now(), sequences::count_reads(connection));
  sequences::store_rates(connection, rates, sequences::count_sessions(connection), context_.token);
  ranges_.clear();
  findings_.clear();
  close_look_ = false;
  // Before the first hand-over the closed side is a copy in the making: nothing to set or to watch there.
  if (switches_ > 0) {
    look_at_ranges(open, now, rates);
  }
}

void SequenceWatch::look_at_ranges(Side open, const std::vector<sequences::Sequence>& now,
                                   const std::map<sequences::Name, double>& rates) {
  auto& closed = context_.servers.at(other(open));
  const auto watch = [&](const std::vector<sequences::Sequence>& all,
                         const std::vector<sequences::Range>& ledger, bool is_open) {
    std::map<sequences::Name, const sequences::Range*> newest;
    for (const auto& range : ledger) {
      if (range.server == to_string(is_open ? open : other(open)) && range.is_called) {
        newest[{range.schema, range.name}] = &range;
      }
    }
    for (const auto& sequence : all) {
      const auto range = newest.find({sequence.schema, sequence.name});
      if (range == newest.end() || sequence.cycle) {
        continue;
      }
      const auto rate = rates.find(range->first);
      const auto seen = usage(*range->second, sequence, rate == rates.end() ? 0 : rate->second, is_open);
      close_look_ = close_look_ || (is_open && seen.state != RangeState::fine);
      if (is_open || seen.state != RangeState::fine) {
        ranges_.push_back(range_status(seen));
        tell(seen);
      }
    }
  };
  // Of what happened before a new pair is issued, and that pair for no more than that: an alarm must not be
  // covered by the remedy.
  const auto ledger = sequences::read_ledger(context_.servers.at(open));
  watch(now, ledger, true);
  watch(sequences::inventory(closed), ledger, false);
  std::stable_sort(ranges_.begin(), ranges_.end(),
                   [](const auto& a, const auto& b) { return a.used_share > b.used_share; });
  if (ranges_.size() > kShown) {
    ranges_.resize(kShown);
  }
  if (const int issued =
          issue_pairs(context_.servers, context_.plan, other(open), now, context_.token, context_.token);
      issued > 0) {
    base::log::info("new ranges of ids issued for " + std::to_string(issued) + " sequence(s)");
  }
}

void SequenceWatch::tell(const sequences::Usage& usage) {
  const auto key = usage.range.server + " " + usage.range.display();
  const bool changed = told_[key] != usage.state;
  told_[key] = usage.state;
  if (usage.state == RangeState::fine) {
    return;
  }
  const bool outside = usage.state == RangeState::outside;
  base::Finding finding;
  finding.severity = base::Severity::warns;
  finding.id = kFinding;
  finding.server = usage.range.server;
  finding.object = usage.range.display();
  finding.message = (outside                              ? "ids outside of the range: "
                     : usage.state == RangeState::used_up ? "the range of ids is used up: "
                                                          : "the range of ids is in use: ") +
                    state::range_text(range_status(usage));
  finding.remedy =
      outside ? "find who calls setval or writes to a closed server; a hand-over sets both sides again"
              : "nothing to do: a new pair of ranges is issued at 80 %, or at once where it is used up";
  if (changed) {
    base::log::warn(finding.id + ": " + finding.message);
  }
  findings_.push_back(std::move(finding));
}

void SequenceWatch::show(state::Status& status) const {
  status.sequence_ranges = ranges_;
  std::erase_if(status.findings, [](const base::Finding& finding) { return finding.id == kFinding; });
  status.findings.insert(status.findings.end(), findings_.begin(), findings_.end());
}

}  // namespace cutover::steps
