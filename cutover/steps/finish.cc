#include "cutover/steps/finish.h"

#include "cutover/steps/conflicts.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/publisher.h"
#include "cutover/steps/reset.h"
#include "cutover/steps/stale.h"
#include "replication/apply/quiet.h"
#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/snapshot/roles.h"
#include "replication/stream/publication.h"
#include "replication/stream/slot.h"
#include "sequences/ledger.h"

namespace cutover::steps {
namespace {

using base::fault_point;
using base::milliseconds;
namespace stream = replication::stream;

constexpr milliseconds kDrop{30'000};
constexpr int kConflictsMax = 1'000;  // in a report, of each side

void drop_stream_objects(Context& context) {
  for (const Side side : {Side::source, Side::target}) {
    auto& connection = context.servers.at(side);
    postgres::Transaction transaction(connection);
    context.token.assert_current(connection);
    transaction.rollback();
    for (const auto& left :
         replication::apply::wake_tables(connection, context.token, base::Deadline::in(kDrop))) {
      base::log::warn("not put back on the " + std::string(to_string(side)) + ": " + left);
    }
    stream::drop_slot(connection, slot_name(context.plan.name, side), base::Deadline::in(kDrop));
    stream::drop_publication(connection, publication_name(context.plan.name, side));
  }
}

enum class Drop { rehearse, commit };

void drop_schema(postgres::Connection& connection, const postgres::FencingToken& token, Drop drop) {
  if (!schema_exists(connection)) {
    return;  // a call that was cut off came this far
  }
  postgres::Transaction transaction(connection);
  token.assert_current(connection);
  connection.exec("DROP SCHEMA pgcutover CASCADE");
  if (drop == Drop::rehearse) {
    transaction.rollback();
    return;
  }
  transaction.commit_or_throw();
}

std::string reopen_text(postgres::Connection& closed) {
  std::string text;
  if (const auto grants = read_fence(closed).connect_grants) {
    for (const auto& statement : grant_statements(closed.database(), *grants)) {
      text += "  " + statement + ";\n";
    }
  }
  return text;
}

}  // namespace

void require_finishable(Context& context) {
  if (!primary_side(context.servers.source(), context.servers.target())) {
    throw base::StateError("a hand-over is not settled yet", "call `pgcutover run` first");
  }
  if (read_fence(context.servers.source()).switches == 0) {
    throw base::StateError("nothing was switched yet: there is nothing to finish",
                           "`pgcutover switch` first, or `pgcutover cancel` to give up");
  }
}

void require_cancellable(Context& context) {
  const auto source = read_fence(context.servers.source());
  const auto target = read_fence(context.servers.target());
  if (source.state != FenceState::open || source.switches != 0 || target.switches != 0) {
    throw base::StateError("authority has moved between the servers: this can't be cancelled any more",
                           "`pgcutover rollback`, then `pgcutover finish`");
  }
}

std::optional<std::string> begun_ending(postgres::Connection& target) {
  for (const auto& event : read_events(target)) {
    if (event.step == "finish" || event.step == "cancel") {
      return event.step;
    }
  }
  return std::nullopt;
}

void rehearse_ending(Context& context) {
  for (const Side side : {Side::source, Side::target}) {
    drop_schema(context.servers.at(side), context.token, Drop::rehearse);
  }
}

void drop_last_trace(Context& context, const Tell& tell) {
  auto& target = context.servers.target();
  tell(begun_ending(target).value_or("finish") + " is completed: nothing of this migration is left\n");
  drop_schema(target, context.token, Drop::commit);
}

void drop_our_schemas(Context& context) {
  drop_schema(context.servers.source(), context.token, Drop::commit);
  fault_point("schema-only.after-source-schema");
  drop_schema(context.servers.target(), context.token, Drop::commit);
}

void finish(Context& context, const Tell& tell) {
  require_finishable(context);
  const auto primary = primary_side(context.servers.source(), context.servers.target());
  const Side closed = other(*primary);
  const std::string reopen = reopen_text(context.servers.at(closed));
  for (const auto& view : stale_matviews(context.servers.target(), *primary)) {
    base::log::warn(stale_text(view, *primary) + "; " + stale_remedy(view, *primary));
  }
  drop_stream_objects(context);
  fault_point("finish.after-slots");
  for (const Side side : {Side::source, Side::target}) {
    restore_identities(context, side);
  }
  // The source's schema first: as long as the target's is there, a repeated call knows what is left to do.
  drop_schema(context.servers.source(), context.token, Drop::commit);
  fault_point("finish.after-source-schema");
  tell("finished: " + std::string(to_string(*primary)) + " takes writes; the " +
       std::string(to_string(closed)) + " stays closed" +
       (reopen.empty() ? std::string("\n") : ". To open it for other uses:\n" + reopen));
  drop_schema(context.servers.target(), context.token, Drop::commit);
}

namespace {

// All of it was put there by us: the target was found empty, or with empty tables. Returns how it is left.
std::string empty_target(Context& context) {
  auto& target = context.servers.target();
  if (begun_content(target) == plan::Content::data_only) {
    restore_identities(context, Side::target);
    if (step_done(target, "schema")) {  // before that nothing of ours can be in the tables
      empty_tables(target, context.plan.tables);
    }
    return "its tables are there and empty, as they were found";
  }
  if (const auto held = read_fact(target, "target.held")) {
    return "it held " + *held +
           " object(s) before the migration began, so nothing was dropped: drop by hand what came with it";
  }
  drop_everything(target, read_fact(target, "extensions.before").value_or("{plpgsql}"));
  // Before a role of ours that owns it goes: DROP OWNED would take the schema along.
  try {
    put_back_public_schema(target, read_fact(target, "public.before").value_or(""));
  } catch (const base::Error& error) {
    base::log::warn("not put back on the target: schema public: " + error.message());
  }
  return "it is empty, as it was found";
}

}  // namespace

void cancel(Context& context, const Tell& tell) {
  require_cancellable(context);
  drop_stream_objects(context);
  fault_point("cancel.after-slots");
  restore_identities(context, Side::source);
  auto& connection = context.servers.target();
  std::string left_as = "nothing had been brought there";
  if (step_done(connection, "close-target")) {
    left_as = empty_target(context);
    for (const auto& left : replication::snapshot::undo_roles_and_settings(connection)) {
      base::log::warn("not taken back on the target: " + left);
    }
  }
  if (read_fence(connection).state == FenceState::closed) {
    open_side(connection, context.token, 0);
  }
  drop_schema(context.servers.source(), context.token, Drop::commit);
  fault_point("cancel.after-source-schema");
  tell("cancelled: source takes writes as before; the target is open: " + left_as + "\n");
  drop_schema(connection, context.token, Drop::commit);
}

namespace {

// One line a sequence and hand-over: what had been handed out, and where each side goes on.
std::vector<report::SequenceRecord> sequence_records(Context& context) {
  const auto ledger = sequences::read_ledger(context.servers.target());
  std::vector<report::SequenceRecord> records;
  for (const auto& range : ledger) {
    if (!range.opens || !range.is_called) {
      continue;
    }
    const bool target_opens = range.server == to_string(Side::target);
    const auto end = range.until.value_or(range.start);
    records.push_back({range.display(), range.handed_out, target_opens ? range.start : end,
                       target_opens ? end : range.start, false});
  }
  return records;
}

}  // namespace

report::Report make_report(Context& context, const state::Status& status) {
  report::Report report;
  auto& target = context.servers.target();
  report.name = context.plan.name;
  report.who = context.servers.source().user();
  report.host = this_process();
  report.made_us = now_us();
  report.plan_text = plan::redacted_text(context.plan);
  report.status = status;
  for (const Side side : {Side::target, Side::source}) {
    auto& connection = context.servers.at(side);
    for (const auto& event : read_events(connection)) {
      if (event.kind == "began") {
        report.steps.push_back({event.step, "began", event.message, event.at_us, 0});
        continue;
      }
      report.steps.push_back({event.step, event.kind, event.message, 0, event.at_us});
    }
    for (const auto& conflict : read_conflicts(connection, "0", kConflictsMax)) {
      report.conflicts.push_back(conflict);
    }
    const auto fence = read_fence(connection);
    if (fence.marker_lsn) {
      report.fences.push_back({std::string(to_string(side)),
                               "table locks, marker, CONNECT taken away, sessions ended", "",
                               fence.marker_lsn->to_string(), 0, 0, 0});
    }
  }
  report.sequences = sequence_records(context);
  if (const auto copied = read_fact(target, kCopySummary)) {
    report.copied = report::from_json(*copied).copied;
  }
  if (const auto verified = read_fact(target, "verify.last")) {
    const auto last = report::from_json(*verified);
    report.verify = last.verify;
    report.verified_us = last.made_us;
  }
  return report;
}

}  // namespace cutover::steps
