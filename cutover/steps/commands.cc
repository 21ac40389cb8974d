// What a controller can be asked for, by its own verb or by another process through pgcutover.command.
#include "cutover/check/check.h"
#include "cutover/report/report.h"
#include "cutover/steps/compare_live.h"
#include "cutover/steps/controller.h"
#include "cutover/steps/failover.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/finish.h"
#include "cutover/steps/resync.h"
#include "cutover/steps/stale.h"
#include "cutover/steps/throttle.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/left_out.h"

namespace cutover::steps {
namespace {

using base::milliseconds;

constexpr milliseconds kSeen{15'000};
constexpr milliseconds kWayBack{10'000};

// The gates of whoever asks: a `run` that lives may have been started with others.
plan::Plan with_gates(const plan::Plan& plan, const std::map<std::string, std::string>& arguments) {
  plan::Plan changed = plan;
  const auto given = [&](const char* key) -> const std::string* {
    const auto found = arguments.find(key);
    return found == arguments.end() ? nullptr : &found->second;
  };
  const auto span = [&](const char* key, milliseconds& into) {
    if (const auto* text = given(key)) {
      into = plan::parse_duration(*text, key);
    }
  };
  span("max-pause", changed.gates.max_pause);
  span("max-lag", changed.gates.max_lag);
  span("lock-limit", changed.gates.lock_limit);
  if (const auto* word = given("cancel-blockers")) {
    changed.gates.cancel_blockers = *word == "yes";
  }
  if (const auto* word = given("unstreamed")) {
    for (const auto choice : {plan::Unstreamed::copy, plan::Unstreamed::refuse, plan::Unstreamed::defer}) {
      if (*word == plan::to_string(choice)) {
        changed.gates.unstreamed = choice;
      }
    }
  }
  if (const auto* word = given("verify-gate")) {
    changed.gates.verify = *word == "none" ? plan::VerifyGate::none : plan::VerifyGate::full;
  }
  changed.accepted.clear();
  for (const auto& [key, value] : arguments) {
    if (key.starts_with("accept.")) {
      changed.accepted.push_back(value);
    }
  }
  return changed;
}

std::string not_compared_text(Context& context) {
  constexpr std::size_t kNamed = 20;
  const auto content = catalog::load(context.servers.source(), context.plan.tables);
  std::size_t unlogged = 0;
  for (const auto& table : content.tables) {
    unlogged += table.unlogged && table.stores_rows() ? 1 : 0;
  }
  const auto columns = catalog::columns_left_out(content);
  return (columns.empty() ? ""
                          : "not compared, being left out (exclude-columns): " +
                                check::list_text(columns, kNamed) + "\n") +
         (unlogged == 0
              ? ""
              : std::to_string(unlogged) +
                    " unlogged tables, which no stream carries, are compared inside the pause only\n");
}

// Of both sides' tables: what a column gets by its DEFAULT when it is added never comes in the stream, so a
// comparison says nothing about tables that have another shape now.
std::string shape(Context& context) {
  return catalog::load(context.servers.source(), context.plan.tables).fingerprint + " " +
         catalog::load(context.servers.target(), context.plan.tables).fingerprint;
}

bool ends(const state::CommandRequest& request) {
  return request.verb == "finish" || request.verb == "cancel";
}

}  // namespace

Outcome Controller::execute(const state::CommandRequest& request) {
  base::log::info("command " + request.verb + " from " + request.asked_by);
  bool ending = false;
  try {
    if (request.verb == "switch" || request.verb == "rollback") {
      return do_hand_over(request.verb == "switch" ? Side::source : Side::target,
                          with_gates(plan_, request.arguments));
    }
    if (request.verb == "resync") {
      return do_resync(request.arguments);
    }
    if (request.verb == "verify") {
      return do_verify(request.arguments.contains("json"));
    }
    if (request.verb == "report") {
      const auto format = request.arguments.find("format");
      return do_report(format == request.arguments.end() ? "html" : format->second);
    }
    if (request.verb == "throttle") {
      return keep_limits(servers_.target(), context_.token, plan_, request);
    }
    if (ends(request)) {
      if (!only_trace_left_) {
        request.verb == "finish" ? require_finishable(context_) : require_cancellable(context_);
      }
      slot_watch_.end();
      if (link_) {
        link_->stop();
      }
      rehearse_ending(context_);
      ending = true;
      put_event(servers_.target(), context_.token, request.verb, "began", request.asked_by);
      // Told before the last trace of the migration goes: afterwards there is no table to answer in.
      Outcome told;
      const auto tell = [&](const std::string& text) {
        told = outcome(base::ExitCode::done, "", text);
        told.id = request.id;
        if (request.id != 0) {
          answer_command(servers_.target(), told);
          wait_until_seen(servers_.target(), request.id, base::Deadline::in(kSeen));
        }
      };
      if (only_trace_left_) {
        drop_last_trace(context_, tell);
      } else {
        request.verb == "finish" ? finish(context_, tell) : cancel(context_, tell);
      }
      ended_ = true;
      return told;
    }
    return outcome(base::ExitCode::usage, "the controller doesn't know the command " + request.verb);
  } catch (const base::NeedsOperator&) {
    throw;  // nothing that a command may go on after
  } catch (const base::Error& error) {
    if (ending) {
      ended_ = true;  // the stream is stopped and parts are gone: not a state to go on serving in
      ended_badly_ = error.describe();
    } else if (ends(request)) {
      link_.reset();  // stopped for an end that was refused: the next turn streams again
    }
    return outcome(error.exit_code(), error.describe());
  }
}

// The plan's gate: a comparison of both sides that was equal, made since the copy. The way back needs none,
// unless tables were changed where columns are left out: one that was left out while it was written, and has
// a name now that isn't, has values which never were in the stream.
void Controller::require_verified(const plan::Plan& plan, Side from) {
  if (plan.gates.verify == plan::VerifyGate::none ||
      (from == Side::target && context_.plan.tables.columns.exclude.empty())) {
    return;
  }
  const auto equal = read_fact(servers_.target(), "verify.equal");
  if (from == Side::source ? equal != "yes" : equal == "no") {
    throw base::StateError("not begun: no comparison of both sides was equal yet" +
                               (equal && equal->starts_with("not ") ? " (" + *equal + ")" : ""),
                           "`pgcutover verify` first, or gates: {verify: none} in the plan");
  }
  if (read_fact(servers_.target(), "verify.shape") != shape(context_)) {
    throw base::StateError(
        "not begun: tables were changed since both sides were found equal",
        from == Side::source
            ? "`pgcutover verify` again; what differs is mended by `pgcutover resync --table`"
            : "`pgcutover verify` again; what differs is streamed once it is written again on "
              "the target (UPDATE ... SET a = a); or gates: {verify: none} in the plan");
  }
}

void Controller::require_stream() const {
  if (!link_) {
    throw base::StateError("there is no stream between the two sides",
                           "`pgcutover status` says why; `pgcutover run` starts it");
  }
}

Outcome Controller::do_hand_over(Side from, const plan::Plan& plan) {
  require_stream();
  if (link_->from() != from) {
    throw base::StateError(std::string(to_string(other(from))) + " takes writes already: nothing to do",
                           "`pgcutover status` says where the migration stands");
  }
  rewrite_watch_.tend(from, true);
  publication_watch_.tend(from, true);
  require_verified(plan, from);
  publisher_.update([&](state::Status& status) {
    status.state = from == Side::source ? "switching" : "rolling-back";
    status.writes_go_to = "nobody";
  });
  Context context{plan, servers_, context_.token, context_.run};
  const auto held = slot_watch_.hold();
  keep_timeline(context_, other(from));  // before the position from which its stream will begin
  const auto result = hand_over(context, from, *link_, publication_watch_.digest(from));
  if (result.done) {
    try {
      turn_around(from);
    } catch (const base::Error& error) {  // done is done: the stream back is tried again by serve()
      base::log::error("the way back is not up yet: " + error.describe());
    }
    refresh_stale(context_, other(from));
  }
  auto reply = outcome(result.exit_code, result.message, "");
  reply.hint = result.hint;
  if (result.done) {
    reply.output = result.message + "\n";
    reply.message.clear();
  } else {
    reply.output = std::string(to_string(from)) + " takes writes; undone after " +
                   std::to_string(static_cast<std::int64_t>(result.pause_ms)) + " ms\n";
  }
  return reply;
}

void Controller::turn_around(Side from) {
  link_->stop();
  link_.reset();
  link_ = preparation_.start_link(other(from));
  changes_seen_ = 0;
  put_fact(servers_.target(), context_.token, "verify.equal", "not since the last hand-over");
  prove_way_back();
  base::fault_point("switch.after-reverse");
  publisher_.update([this](state::Status& status) { refresh_status(status); }, true);
}

// A marker there and back: the stream that rollback depends on works, and who looks at the status sees it
// working. The hand-over is done either way; a way back that is slow to come up is told, not undone.
void Controller::prove_way_back() {
  const Side from = link_->from();
  try {
    pass_marker(servers_.at(from), *link_, "way back " + random_hex(4), base::Deadline::in(kWayBack));
  } catch (const base::TimeoutError& error) {
    base::log::warn("the stream back from the " + std::string(to_string(from)) +
                    " is not up yet: " + error.message());
  }
}

Outcome Controller::do_resync(const std::map<std::string, std::string>& arguments) {
  require_stream();
  if (link_->from() != Side::source) {
    throw base::StateError("tables are copied from the source, and the target takes writes",
                           "`pgcutover rollback` first");
  }
  std::vector<std::string> patterns;
  for (const auto& [key, value] : arguments) {
    if (key.starts_with("table.")) {
      patterns.push_back(value);
    }
  }
  publication_watch_.tend(Side::source, true);  // what was changed there is mended by the same copy
  const auto resync = plan_resync(context_, patterns);
  create_fresh_tables(context_, resync);
  link_->stop();
  link_.reset();  // gone at once: whatever fails from here on, the next turn streams again
  base::fault_point("resync.stopped");
  begin_resync(context_, resync);
  publisher_.update([&](state::Status& status) {
    status.state = "copying";
    status.step = "resync";
    status.message = resync.text();
  });
  stream_from(Side::source);
  return outcome(base::ExitCode::done, "", resync.text() + "\n");
}

Outcome Controller::do_verify(bool as_json) {
  require_stream();
  const auto conflicts_before = std::to_string(last_conflict(servers_.at(other(link_->from()))));
  const auto compared_shape = shape(context_);
  rewrite_watch_.tend(link_->from(), true);  // what comes later counts as not compared
  const auto comparison = compare_live(context_, *link_, [this](std::int64_t done, std::int64_t total) {
    publisher_.update([&](state::Status& status) {
      status.progress = {
          .step = "verify", .done = done, .total = total, .unit = "tables", .seconds = 0, .current = ""};
    });
  });
  const bool equal = comparison.equal();
  put_fact(servers_.target(), context_.token, "verify.equal", equal ? "yes" : "no");
  put_fact(servers_.target(), context_.token, "verify.shape", compared_shape);
  put_fact(servers_.target(), context_.token, "verify.last", comparison_json(comparison));
  if (equal) {
    rewrite_watch_.settled();
    const std::string side(to_string(other(link_->from())));
    put_fact(servers_.target(), context_.token, "conflicts-settled." + side, conflicts_before);
  }
  put_event(servers_.target(), context_.token, "verify", equal ? "done" : "failed",
            std::to_string(comparison.tables.size()) + " tables compared");
  return outcome(
      equal ? base::ExitCode::done : base::ExitCode::data_differs, equal ? "" : "the two sides differ",
      as_json ? comparison_json(comparison) : comparison_text(comparison) + not_compared_text(context_));
}

Outcome Controller::do_report(const std::string& format) {
  const auto report = make_report(context_, publisher_.snapshot());
  return outcome(base::ExitCode::done, "",
                 format == "json" ? report::to_json(report) : report::to_html(report));
}

Outcome Controller::once(const state::CommandRequest& request) {
  if (!attach(false)) {
    throw base::StateError("there is no migration \"" + plan_.name + "\" on this target",
                           "`pgcutover check`, then `pgcutover run`");
  }
  if (!ends(request)) {
    refuse_when_ending();
  }
  const bool needs_stream = request.verb == "switch" || request.verb == "rollback" ||
                            request.verb == "verify" || request.verb == "resync";
  if (needs_stream) {
    if (!step_done(servers_.target(), "way-back")) {
      throw base::StateError("the migration is not ready for " + request.verb, "`pgcutover run` first");
    }
    open_link();
  }
  auto reply = execute(request);
  if (link_) {
    link_->stop();
  }
  if (needs_stream && reply.hint.empty()) {
    reply.hint = "no `pgcutover run` is alive: start it, so that the two sides stay in sync";
  }
  return reply;
}

}  // namespace cutover::steps
