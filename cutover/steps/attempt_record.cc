#include "cutover/steps/attempt_record.h"

#include "cutover/steps/fence.h"
#include "cutover/steps/publisher.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

constexpr std::string_view kPending = "handover-pending";

Side side_of(std::string_view direction) {  // that closes
  return direction == "switch" ? Side::source : Side::target;
}

}  // namespace

void begin_record(Context& context, const AttemptRecord& record) {
  state::Status holder;  // the one JSON shape everybody reads
  state::SwitchStatus entry;
  entry.direction = record.direction;
  entry.at_us = record.began_us;
  entry.message = record.left_behind;
  holder.switches.push_back(entry);
  for (const auto& view : record.stale) {
    holder.findings.push_back({base::Severity::warns, "matview-stale", "", view.name, view.reason, ""});
  }
  put_fact(context.servers.target(), context.token, kPending, state::to_json(holder));
}

void complete_record(Context& context, const state::SwitchStatus& entry,
                     const std::vector<StaleMatview>& stale) {
  state::Status holder;
  holder.switches.push_back(entry);
  auto& target = context.servers.target();
  postgres::Transaction transaction(target);
  put_fact(target, context.token, "handover." + std::to_string(entry.at_us), state::to_json(holder));
  put_fact(target, context.token, kPending, "");
  put_event(target, context.token, entry.direction, entry.outcome, entry.message);
  if (entry.outcome == "done" && !stale.empty()) {
    note_stale(context, other(side_of(entry.direction)), stale);
  }
  transaction.commit_or_throw();
}

void complete_cut_off_record(Context& context) {
  const auto json = read_fact(context.servers.target(), kPending);
  if (!json || json->empty()) {
    return;
  }
  const auto pending = state::from_json(*json);
  auto entry = pending.switches.at(0);
  const Side from = side_of(entry.direction);
  const auto fence = read_fence(context.servers.at(from));
  const bool passed = fence.state == FenceState::closed;
  const auto began_us = entry.at_us;
  entry.outcome = passed ? "done" : "undone";
  entry.at_us = now_us();
  if (passed) {
    const auto seconds = static_cast<double>(entry.at_us - began_us) / 1e6;
    entry.pause_ms = seconds * 1000;
    entry.message = std::string(to_string(other(from))) + " takes writes; cut off and finished later, " +
                    state::seconds_text(seconds) + " after it began" +
                    (entry.message.empty() ? "" : "; " + entry.message);
    entry.fence_lsn = fence.marker_lsn ? fence.marker_lsn->to_string() : "";
  } else {
    entry.message = "cut off before the point of no return";
  }
  std::vector<StaleMatview> stale;
  for (const auto& finding : pending.findings) {
    stale.push_back({finding.object, finding.message});
  }
  complete_record(context, entry, stale);
}

}  // namespace cutover::steps
