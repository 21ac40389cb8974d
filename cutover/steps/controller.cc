#include "cutover/steps/controller.h"

#include <algorithm>
#include <chrono>
#include <unistd.h>

#include "cutover/check/check.h"
#include "cutover/report/report.h"
#include "cutover/steps/compare_live.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/finish.h"
#include "cutover/steps/takeover.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"
#include "replication/stream/marker.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

using base::milliseconds;
namespace stream = replication::stream;

constexpr milliseconds kTend{1'000};
constexpr milliseconds kAdvance{5'000};
constexpr milliseconds kIdle{200};
constexpr milliseconds kSeen{3'000};
constexpr milliseconds kServeBudget{300'000};
constexpr milliseconds kBackoff{500};
constexpr milliseconds kIdleSlot{10'000};
constexpr milliseconds kWayBack{10'000};

Outcome outcome(base::ExitCode code, std::string message, std::string output = {}) {
  Outcome result;
  result.finished = true;
  result.exit_code = static_cast<int>(code);
  result.message = std::move(message);
  result.output = std::move(output);
  return result;
}

// The gates of whoever asks: a `run` that lives may have been started with others.
plan::Plan with_gates(const plan::Plan& plan, const std::map<std::string, std::string>& arguments) {
  plan::Plan changed = plan;
  const auto span = [&](const char* key, milliseconds& into) {
    if (const auto found = arguments.find(key); found != arguments.end()) {
      into = plan::parse_duration(found->second, key);
    }
  };
  span("max-pause", changed.gates.max_pause);
  span("max-lag", changed.gates.max_lag);
  span("lock-limit", changed.gates.lock_limit);
  changed.gates.cancel_blockers = changed.gates.cancel_blockers || arguments.contains("cancel-blockers");
  if (arguments.contains("verify-gate-none")) {
    changed.gates.verify = plan::VerifyGate::none;
  }
  for (const auto& [key, value] : arguments) {
    if (key.starts_with("accept.")) {
      changed.accepted.push_back(value);
    }
  }
  return changed;
}

}  // namespace

base::Findings check_both(const plan::Plan& plan, Servers& servers, std::int64_t source_free_bytes) {
  check::CheckInput input{.source = servers.source(), .target = servers.target()};
  input.filter = plan.tables;
  input.keyless_full = plan.keyless_full;
  input.jobs = plan.copy_jobs;
  input.pg_bindir = plan.pg_bindir;
  input.accepted = plan.accepted;
  input.source_free_bytes = source_free_bytes;
  return check::run_checks(input);
}

Controller::Controller(const plan::Plan& plan, const ControllerOptions& options, const base::Stop& stop)
    : plan_(plan),
      options_(options),
      stop_(stop),
      servers_(plan, options.connect_timeout, stop),
      terminal_(options.interactive),
      publisher_(servers_, terminal_),
      context_{plan, servers_, {}, {}},
      preparation_(context_, publisher_),
      sequence_watch_(context_) {}

Controller::~Controller() = default;

void Controller::check_identity(const RunRecord& run) {
  if (run.name != plan_.name) {
    throw base::StateError("the migration on this target is named " + run.name + ", not " + plan_.name,
                           "give its own plan, or --name " + run.name);
  }
  require_same_servers(run, servers_);
}

// Nothing exists yet: check first, so that a refusal has changed nothing.
void Controller::begin_migration() {
  const auto findings = check_both(plan_, servers_, options_.source_free_bytes);
  publisher_.update([&](state::Status& status) { status.findings = findings; });
  if (check::blocks(findings)) {
    throw base::Error("not begun:\n" + state::findings_text(findings),
                      "mend what blocks, or accept it by name")
        .with_exit(base::ExitCode::findings);
  }
  if (catalog::load(servers_.source(), plan_.tables).tables.empty()) {
    throw base::UsageError("there is no table to move" +
                               std::string(plan_.tables.include.empty() ? "" : " that `include` matches"),
                           "see tables: {include, exclude} in the plan");
  }
  const auto source = catalog::server_facts(servers_.source());
  const auto target = catalog::server_facts(servers_.target());
  create_schema(servers_.source());
  create_schema(servers_.target());
  context_.token = take_over(servers_);
  context_.run = {random_hex(8),   plan_.name,     source.system_identifier, target.system_identifier,
                  source.database, target.database};
  // The target's record is the one that makes a migration begun: it is written last.
  put_fact(servers_.target(), context_.token, "extensions.before", extension_names(servers_.target()));
  write_run(servers_.source(), context_.run, context_.token);
  write_run(servers_.target(), context_.run, context_.token);
}

bool Controller::attach(bool may_begin) {
  auto& target = servers_.target();
  servers_.source();
  const auto run = read_run(target);
  if (!run && !may_begin) {
    return false;
  }
  if (!try_controller_lock(target)) {
    const auto holder = controller_lock_holder(target);
    if (!options_.takeover) {
      throw base::StateError(
          "another controller is at work: " + (holder ? holder->holder : std::string("unknown")),
          "see `pgcutover status`; if it is frozen or lost, call again with --takeover");
    }
    end_sessions(target, servers_.tag(), "", base::Deadline::in(milliseconds(15'000)));
    if (!try_controller_lock(target)) {
      throw base::StateError("another controller took the lock first", "see `pgcutover status`");
    }
  }
  if (run) {
    check_identity(*run);
    create_schema(servers_.source());  // tables that a newer version of this program adds
    create_schema(target);
    context_.run = *run;
    context_.token = take_over(servers_);
    refuse_old_commands(target);
    publisher_.set_token(context_.token);
    settle(context_);
  } else {
    begin_migration();
    publisher_.set_token(context_.token);
  }
  publisher_.update([&](state::Status& status) {
    status.name = plan_.name;
    status.controller.host = host_name();
    status.controller.pid = getpid();
    status.controller.epoch = context_.token.epoch();
    status.controller.since_us = now_us();
  });
  return true;
}

void Controller::open_link() {
  auto& target = servers_.target();
  for (const char* ending : {"finish", "cancel"}) {
    const auto events = read_events(target);
    if (std::any_of(events.begin(), events.end(), [&](const auto& event) { return event.step == ending; })) {
      throw base::StateError(std::string(ending) + " was begun and cut off",
                             std::string("call `pgcutover ") + ending + " --yes` again to complete it");
    }
  }
  const auto primary = primary_side(servers_.source(), target);
  const bool prepared = step_done(target, "way-back");
  switch_by_itself_ = !plan_.gates.manual && read_fence(target).switches == 0;
  if (prepared && primary) {
    link_ = preparation_.start_link(*primary);
    return;
  }
  link_ = preparation_.run(options_.until);
}

Outcome Controller::run() {
  attach(true);
  open_link();
  if (!options_.until.empty() && !step_done(servers_.target(), "way-back")) {
    return outcome(base::ExitCode::done, "stopped after step " + options_.until + ", as asked");
  }
  base::log::info("streaming from the " + std::string(to_string(link_->from())));
  try {
    serve();
  } catch (const base::Stopped&) {
    // Asked to stop while streaming: nothing is half done, a later run goes on from here.
  }
  if (ended_) {
    return ended_badly_.empty() ? outcome(base::ExitCode::done, "")
                                : outcome(base::ExitCode::unforeseen, ended_badly_);
  }
  const auto primary = link_->from();
  link_->stop();
  retire();
  return outcome(base::ExitCode::done, std::string(to_string(primary)) +
                                           " takes writes; stopped: call `pgcutover run` again to go on");
}

// A server that restarts or a network that fails is waited for; a lost controller's place is not fought over.
void Controller::serve() {
  auto budget = base::Deadline::in(kServeBudget);
  while (!ended_ && !stop_.requested()) {
    try {
      turn();
      budget = base::Deadline::in(kServeBudget);
    } catch (const base::Error& error) {
      if (!error.retryable() || budget.expired()) {
        throw;
      }
      base::log::warn(error.describe() + "; trying again");
      if (link_ && link_->failure()) {
        link_.reset();
      }
      stop_.wait(base::Deadline::in(kBackoff));
    }
  }
}

// Our sessions refuse work once a stop was requested; saying goodbye takes one of its own.
void Controller::retire() {
  try {
    Servers servers(plan_, options_.connect_timeout, base::Stop::never(), Who::reader);
    retire_status(servers.target());
  } catch (const base::Error& error) {
    base::log::debug("no goodbye: " + error.message());
  }
}

void Controller::turn() {
  keep_lock();
  if (!link_) {
    const auto primary = primary_side(servers_.source(), servers_.target());
    if (!primary) {
      throw base::NeedsOperator("neither side is the one that takes writes",
                                "`pgcutover run` settles a hand-over");
    }
    link_ = preparation_.start_link(*primary);
  }
  link_->check();
  if (const auto request = take_command(servers_.target(), context_.token)) {
    obey(*request);
  }
  if (switch_by_itself_ && !ended_) {
    switch_by_itself_ = false;
    base::log::info(do_hand_over(Side::source, plan_).output);
  }
  if (!ended_) {
    tend();
    servers_.target().wait_notification(base::Deadline::in(kIdle));
  }
}

// The lock is the session's: where that was lost, somebody else may have it now.
void Controller::keep_lock() {
  auto& target = servers_.target();
  if (target.backend_pid() == lock_session_) {
    return;
  }
  if (lock_session_ != 0 && !try_controller_lock(target)) {
    postgres::Transaction transaction(target);
    context_.token.assert_current(target);  // throws where another controller took over
    transaction.rollback();
    if (const auto holder = controller_lock_holder(target)) {
      target.exec("SELECT pg_terminate_backend(" + std::to_string(holder->pid) +
                  ")");  // our own lost session
    }
    throw base::Error("the controller's lock is still held by our lost session").set_retryable(true);
  }
  listen_for_commands(target);
  lock_session_ = target.backend_pid();
}

void Controller::obey(const state::CommandRequest& request) {
  const auto answer = [&](Outcome reply) {
    reply.id = request.id;
    answer_command(servers_.target(), reply);
  };
  try {
    auto reply = execute(request);
    if (!ended_ || !ended_badly_.empty()) {
      answer(std::move(reply));
    }
  } catch (const base::NeedsOperator& error) {
    answer(outcome(error.exit_code(), error.describe()));
    throw;
  }
}

void Controller::tend() {
  const auto now = base::Clock::now();
  if (now - tended_ < kTend) {
    return;
  }
  tended_ = now;
  for (const Side side : {Side::source, Side::target}) {  // whoever took over ends this one, also an idle one
    auto& connection = servers_.at(side);
    postgres::Transaction transaction(connection);
    context_.token.assert_current(connection);
    transaction.rollback();
  }
  stream::write_heartbeat(servers_.at(link_->from()));
  sequence_watch_.tend(link_->from());
  publisher_.update([this](state::Status& status) { refresh_status(status); }, true);
  if (now - advanced_ >= kAdvance) {
    advanced_ = now;
    advance_idle_slot();
  }
}

// The slot of the other direction: only our own apply writes there, so nothing before now will ever be
// wanted, and one that was dropped or lost behind our back is simply made again.
void Controller::advance_idle_slot() {
  const Side idle = other(link_->from());
  const auto name = slot_name(plan_.name, idle);
  auto& connection = servers_.at(idle);
  const auto slot = stream::slot_state(connection, name);
  if (slot && !slot->invalidated()) {
    stream::advance_slot(connection, name, catalog::insert_lsn(connection));
    return;
  }
  base::log::warn("the slot for the way back is " + std::string(slot ? "lost" : "gone") +
                  ": making it again");
  stream::drop_slot(connection, name, base::Deadline::in(kIdleSlot));
  preparation_.make_idle_slot(idle);
}

void Controller::refresh_status(state::Status& status) {
  const Side from = link_->from();
  const auto stats = link_->applier().stats();
  auto& near = servers_.at(from);
  const auto behind = catalog::insert_lsn(near).bytes_since(stats.applied_lsn);
  state::StreamStatus line;
  line.direction = direction_from(from);
  line.connected = link_->receiver().connected();
  line.received_lsn = link_->receiver().received_lsn().to_string();
  line.applied_lsn = stats.applied_lsn.to_string();
  line.confirmed_lsn = link_->receiver().confirmed_lsn().to_string();
  line.transactions = stats.transactions;
  line.changes = stats.changes;
  line.applied = stats.applied;
  line.compacted = stats.compacted;
  line.filtered = stats.filtered;
  line.conflicts = stats.conflicts;
  line.changes_per_second = static_cast<double>(stats.changes - changes_seen_);
  line.lag_seconds = stats.heartbeat_lag_seconds;
  line.lag_bytes = static_cast<std::int64_t>(behind);
  changes_seen_ = stats.changes;
  status.streams = {line};
  status.primary = to_string(from);
  status.writes_go_to = to_string(from);
  status.state = from == Side::source ? "ready" : "switched";
  status.step = from == Side::source ? "gate" : "reverse";
  status.progress = {};
  status.message = from == Side::source
                       ? "streaming; `pgcutover switch` when you are ready"
                       : "the way back is kept open; `pgcutover rollback` or `pgcutover finish`";
  status.slots.clear();
  for (const Side side : {Side::source, Side::target}) {
    if (const auto slot = stream::slot_state(servers_.at(side), slot_name(plan_.name, side))) {
      state::SlotStatus entry;
      entry.name = slot->name;
      entry.server = to_string(side);
      entry.wal_status = slot->wal_status;
      entry.retained_bytes = static_cast<std::int64_t>(slot->retained_bytes);
      entry.safe_bytes = slot->safe_wal_size.value_or(-1);
      status.slots.push_back(std::move(entry));
    }
  }
  sequence_watch_.show(status);
  status.switches.clear();
  for (const auto& [key, json] : read_facts(servers_.target(), "handover.")) {
    status.switches.push_back(state::from_json(json).switches.at(0));
  }
}

Outcome Controller::execute(const state::CommandRequest& request) {
  base::log::info("command " + request.verb + " from " + request.asked_by);
  bool ending = false;
  try {
    if (request.verb == "switch" || request.verb == "rollback") {
      return do_hand_over(request.verb == "switch" ? Side::source : Side::target,
                          with_gates(plan_, request.arguments));
    }
    if (request.verb == "verify") {
      return do_verify(request.arguments.contains("json"));
    }
    if (request.verb == "report") {
      const auto format = request.arguments.find("format");
      return do_report(format == request.arguments.end() ? "html" : format->second);
    }
    if (request.verb == "finish" || request.verb == "cancel") {
      request.verb == "finish" ? require_finishable(context_) : require_cancellable(context_);
      ending = true;
      if (link_) {
        link_->stop();
      }
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
      request.verb == "finish" ? finish(context_, tell) : cancel(context_, tell);
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
    }
    return outcome(error.exit_code(), error.describe());
  }
}

// The plan's gate: a comparison of both sides that was equal, made since the copy.
void Controller::require_verified(const plan::Plan& plan) {
  if (plan.gates.verify == plan::VerifyGate::none) {
    return;
  }
  if (read_fact(servers_.target(), "verify.equal") != "yes") {
    throw base::StateError("not begun: no comparison of both sides was equal yet",
                           "`pgcutover verify` first, or gates: {verify: none} in the plan");
  }
}

Outcome Controller::do_hand_over(Side from, const plan::Plan& plan) {
  if (!link_ || link_->from() != from) {
    throw base::StateError(std::string(to_string(other(from))) + " takes writes already: nothing to do",
                           "`pgcutover status` says where the migration stands");
  }
  if (from == Side::source) {
    require_verified(plan);
  }
  publisher_.update([&](state::Status& status) {
    status.state = from == Side::source ? "switching" : "rolling-back";
    status.writes_go_to = "nobody";
  });
  Context context{plan, servers_, context_.token, context_.run};
  const auto result = hand_over(context, from, *link_);
  if (result.done) {
    try {
      turn_around(from);
    } catch (const base::Error& error) {  // done is done: the stream back is tried again by serve()
      base::log::error("the way back is not up yet: " + error.describe());
    }
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

Outcome Controller::do_verify(bool as_json) {
  if (!link_) {
    throw base::StateError("there is no stream to verify", "`pgcutover run` first");
  }
  const auto conflicts_before = std::to_string(last_conflict(servers_.at(other(link_->from()))));
  const auto comparison = compare_live(context_, *link_, [this](std::int64_t done, std::int64_t total) {
    publisher_.update([&](state::Status& status) {
      status.progress = {
          .step = "verify", .done = done, .total = total, .unit = "tables", .seconds = 0, .current = ""};
    });
  });
  const bool equal = comparison.equal();
  put_fact(servers_.target(), context_.token, "verify.equal", equal ? "yes" : "no");
  put_fact(servers_.target(), context_.token, "verify.last", comparison_json(comparison));
  if (equal) {
    const std::string side(to_string(other(link_->from())));
    put_fact(servers_.target(), context_.token, "conflicts-settled." + side, conflicts_before);
  }
  put_event(servers_.target(), context_.token, "verify", equal ? "done" : "failed",
            std::to_string(comparison.tables.size()) + " tables compared");
  return outcome(equal ? base::ExitCode::done : base::ExitCode::data_differs,
                 equal ? "" : "the two sides differ",
                 as_json ? comparison_json(comparison) : comparison_text(comparison));
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
  const bool needs_stream =
      request.verb == "switch" || request.verb == "rollback" || request.verb == "verify";
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
