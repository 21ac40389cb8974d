#include "cutover/steps/settle.h"

#include "cutover/steps/attempt_record.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/sequence_watch.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"

namespace cutover::steps {
namespace {

using base::fault_point;
using base::milliseconds;

constexpr milliseconds kFinish{15'000};

}  // namespace

traffic::Guard traffic_guard(Context& context) {
  traffic::Guard guard;
  guard.epoch = context.token.epoch();
  guard.assert_epoch = [&context] {
    auto& target = context.servers.target();
    postgres::Transaction transaction(target);
    context.token.assert_current(target);
    transaction.rollback();
  };
  return guard;
}

void finish_handover(Context& context, Side from, traffic::TrafficSet& traffic) {
  const Side to = other(from);
  auto& closed = context.servers.at(from);
  std::string trouble;
  try {
    set_lost_again(context, to);
    open_side(context.servers.at(to), context.token, read_fence(closed).switches);
    fault_point("switch.after-open");
    traffic.move_all(destination(to), base::Deadline::in(kFinish));
    fault_point("switch.after-move");
  } catch (const base::StateError&) {
    throw;  // another controller is at it
  } catch (const base::Error& error) {
    trouble = error.describe();
  }
  // Released whatever happened: held clients are worse off than clients that get an error.
  traffic.release_all(base::Deadline::in(kFinish));
  fault_point("switch.after-release");
  if (!trouble.empty()) {
    throw base::NeedsOperator("authority has passed to the " + std::string(to_string(to)) +
                                  ", but not all of the rest could be done: " + trouble,
                              "make what is named reachable and call `pgcutover run`, which finishes it");
  }
  set_closed_sequences(context, from);
  clear_attempt(closed, context.token);
}

std::optional<Side> primary_side(postgres::Connection& source, postgres::Connection& target) {
  const auto source_state = read_fence(source).state;
  const auto target_state = read_fence(target).state;
  if (source_state != FenceState::closed && target_state == FenceState::closed) {
    return Side::source;
  }
  if (source_state == FenceState::closed && target_state != FenceState::closed) {
    return Side::target;
  }
  return std::nullopt;
}

namespace {

void settle_sides(Context& context) {
  traffic::TrafficSet traffic(context.plan, traffic_guard(context), context.servers.stop());
  for (const Side side : {Side::source, Side::target}) {
    auto& connection = context.servers.at(side);
    const auto fence = read_fence(connection);
    if (fence.state == FenceState::fencing || fence.state == FenceState::fenced) {
      base::log::warn("a hand-over from the " + std::string(to_string(side)) +
                      " was cut off before its point of no return: undoing it");
      undo_attempt(connection, context.token);
    }
  }
  const auto source = read_fence(context.servers.source());
  const auto target = read_fence(context.servers.target());
  if (source.state == FenceState::closed && target.state == FenceState::closed) {
    if (source.switches == target.switches) {
      throw base::NeedsOperator(
          "both sides are closed and neither record says which one gave up its authority",
          "read pgcutover.fence on both servers; `pgcutover unfence` reopens the source");
    }
    const Side from = source.switches > target.switches ? Side::source : Side::target;
    base::log::warn("a hand-over from the " + std::string(to_string(from)) +
                    " was cut off after its point of no return: finishing it");
    finish_handover(context, from, traffic);
    return;
  }
  if (source.state == FenceState::open && target.state == FenceState::open &&
      source.switches + target.switches > 0) {
    throw base::NeedsOperator(
        "both sides take writes: the source was reopened while the target was",
        "decide which one is right, keep everybody out of the other one; this migration can't go on");
  }
  for (const Side side : {Side::source, Side::target}) {
    const auto& fence = side == Side::source ? source : target;
    if (!fence.attempt) {
      continue;
    }
    if (fence.state == FenceState::closed) {
      finish_handover(context, side, traffic);
    } else {
      traffic.release_all(base::Deadline::in(kFinish));
      clear_attempt(context.servers.at(side), context.token);
    }
  }
}

}  // namespace

void settle(Context& context) {
  settle_sides(context);
  complete_cut_off_record(context);
}

}  // namespace cutover::steps
