#include "cutover/cli/verbs.h"

#include <cstdio>
#include <fcntl.h>
#include <iostream>
#include <unistd.h>

#include "cutover/check/check.h"
#include "cutover/cli/journal_verb.h"
#include "cutover/cli/plan_text.h"
#include "cutover/cli/sequences_verb.h"
#include "cutover/cli/watch.h"
#include "cutover/state/status.h"
#include "cutover/steps/controller.h"
#include "cutover/steps/guardian.h"
#include "cutover/steps/status.h"
#include "cutover/steps/store.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"

namespace cutover::cli {
namespace {

using base::ExitCode;
using base::milliseconds;

constexpr milliseconds kPoll{100};
constexpr milliseconds kComeBack{20'000};

int code(ExitCode value) {
  return static_cast<int>(value);
}

steps::ControllerOptions controller_options(const Invocation& invocation) {
  steps::ControllerOptions options;
  options.connect_timeout = invocation.connect_timeout;
  options.takeover = invocation.takeover;
  options.source_free_bytes = invocation.source_free_bytes;
  options.until = invocation.until;
  options.reset_target = invocation.reset_target;
  options.interactive = !invocation.json && invocation.log_format == base::log::Format::text &&
                        state::Terminal::stderr_is_terminal();
  return options;
}

int print_reply(const steps::Outcome& reply, const std::string& file) {
  if (!reply.output.empty() && !file.empty()) {
    std::FILE* out = std::fopen(file.c_str(), "w");
    const bool written = out != nullptr &&
                         std::fwrite(reply.output.data(), 1, reply.output.size(), out) == reply.output.size();
    if (out == nullptr || std::fclose(out) != 0 || !written) {
      throw base::Error("can't write " + file, "choose another --output");
    }
  } else {
    std::cout << reply.output << std::flush;
  }
  if (!reply.message.empty()) {
    std::cerr << "pgcutover: " << (reply.exit_code == 0 ? "" : "error: ") << reply.message << "\n";
  }
  if (!reply.hint.empty()) {
    std::cerr << "HINT: " << reply.hint << "\n";
  }
  return reply.exit_code;
}

int check(const Invocation& invocation, const base::Stop& stop) {
  steps::Servers servers(invocation.plan, invocation.connect_timeout, stop, steps::Who::reader);
  const auto findings =
      steps::check_both(invocation.plan, servers, invocation.source_free_bytes, invocation.reset_target);
  std::cout << (invocation.json ? state::findings_json(findings) : state::findings_text(findings))
            << std::flush;
  return code(check::blocks(findings) ? ExitCode::findings : ExitCode::done);
}

int show_plan(const Invocation& invocation, const base::Stop& stop) {
  steps::Servers servers(invocation.plan, invocation.connect_timeout, stop, steps::Who::reader);
  std::cout << plan_text(invocation.plan, servers, invocation.reset_target) << std::flush;
  return code(ExitCode::done);
}

// Destructive verbs are asked for twice: by name, and with --yes or an answer at a terminal.
void confirm(const Invocation& invocation, const std::string& what) {
  if (invocation.yes) {
    return;
  }
  if (isatty(0) == 0 || isatty(2) == 0) {
    throw base::UsageError(invocation.verb + " needs --yes where nobody can be asked", what);
  }
  std::cerr << what << "\nGo on? [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  if (answer != "y" && answer != "yes") {
    throw base::UsageError(invocation.verb + " was not confirmed: nothing was changed");
  }
}

int run(const Invocation& invocation, const base::Stop& stop) {
  if (invocation.reset_target) {
    confirm(invocation, "--reset-target " +
                            std::string(invocation.plan.content == plan::Content::data_only
                                            ? "empties the tables of the target's database"
                                            : "drops everything in the target's database") +
                            " (" + invocation.plan.target.describe() +
                            ") before the migration begins; `pgcutover check --reset-target` lists it");
  }
  steps::Controller controller(invocation.plan, controller_options(invocation), stop);
  return print_reply(controller.run(), "");
}

int status(const Invocation& invocation, const base::Stop& stop) {
  steps::Servers servers(invocation.plan, invocation.connect_timeout, stop, steps::Who::reader);
  const auto look = [&] {
    const auto live = steps::read_live_status(invocation.plan, servers);
    std::cout << (invocation.json ? state::to_json(live) + "\n" : state::render_text(live)) << std::flush;
  };
  if (invocation.watch) {
    watch(invocation.interval, stop, look);
  } else {
    look();
  }
  return code(ExitCode::done);
}

state::CommandRequest request_of(const Invocation& invocation) {
  state::CommandRequest request;
  request.verb = invocation.verb;
  request.asked_by = steps::this_process();
  if (invocation.json) {
    request.arguments["json"] = "yes";
  }
  if (invocation.verb == "switch" || invocation.verb == "rollback") {
    const auto& gates = invocation.plan.gates;
    request.arguments["max-pause"] = plan::duration_text(gates.max_pause);
    request.arguments["max-lag"] = plan::duration_text(gates.max_lag);
    request.arguments["lock-limit"] = plan::duration_text(gates.lock_limit);
    request.arguments["cancel-blockers"] = gates.cancel_blockers ? "yes" : "no";
    request.arguments["unstreamed"] = plan::to_string(gates.unstreamed);
    request.arguments["verify-gate"] = gates.verify == plan::VerifyGate::none ? "none" : "full";
    for (std::size_t i = 0; i < invocation.plan.accepted.size(); ++i) {
      request.arguments["accept." + std::to_string(i)] = invocation.plan.accepted[i];
    }
  }
  for (std::size_t i = 0; i < invocation.tables.size(); ++i) {
    request.arguments["table." + std::to_string(i)] = invocation.tables[i];
  }
  if (invocation.verb == "throttle") {
    request.arguments.insert(invocation.limits.begin(), invocation.limits.end());
  }
  if (invocation.verb == "report") {
    request.arguments["format"] = invocation.format.empty() ? "html" : invocation.format;
  }
  return request;
}

// Sends the command to the controller that lives and waits for its answer.
int ask_controller(const Invocation& invocation, replication::postgres::Connection& target,
                   const base::Stop& stop) {
  const auto id = steps::send_command(target, request_of(invocation));
  if (invocation.no_wait) {
    std::cout << "asked the controller: command " << id << "\n";
    return code(ExitCode::done);
  }
  // A command that nobody waits for any more must not be carried out later: it is withdrawn, also after a
  // signal.
  const replication::postgres::Connection::Uninterrupted guard(target);
  const auto deadline =
      invocation.timeout.count() > 0 ? base::Deadline::in(invocation.timeout) : base::Deadline::never();
  while (true) {
    const bool alive = steps::controller_lock_holder(target).has_value();
    if (const auto reply = steps::read_reply(target, id)) {
      return print_reply(*reply, invocation.output);
    }
    if (!alive) {
      steps::withdraw_command(target, id);
      throw base::Error(
          "the controller ended before it answered " + invocation.verb + ": its outcome is open",
          "`pgcutover status` says who takes writes; `pgcutover run` settles what was under way");
    }
    if (stop.requested() || deadline.expired()) {
      const std::string why = stop.requested() ? "interrupted" : "no answer from the controller in time";
      const bool withdrawn = steps::withdraw_command(target, id);
      throw base::Error(why + (withdrawn ? ": the command was withdrawn, nothing was done"
                                         : ": the controller is at it already and goes on"),
                        "`pgcutover status` says what it does")
          .with_exit(stop.requested() ? ExitCode::interrupted : ExitCode::unforeseen);
    }
    stop.wait(base::Deadline::in(kPoll));
  }
}

// One whose session was lost a moment ago (the target restarted) is given the time to come back.
bool controller_lives(replication::postgres::Connection& target, const base::Stop& stop) {
  const auto deadline = base::Deadline::in(kComeBack);
  while (!steps::controller_lock_holder(target)) {
    if (deadline.expired() || stop.requested() || !steps::status_is_fresh(target)) {
      return false;
    }
    stop.wait(base::Deadline::in(kPoll));
  }
  return true;
}

int command(const Invocation& invocation, const base::Stop& stop) {
  {
    steps::Servers servers(invocation.plan, invocation.connect_timeout, stop, steps::Who::reader);
    auto target = servers.open(steps::Side::target, "command");
    const auto run = steps::read_run(target);
    if (run && run->name != invocation.plan.name) {
      throw base::StateError(
          "the migration on this target is named " + run->name + ", not " + invocation.plan.name,
          "give its own plan, or --name " + run->name);
    }
    if (run && !invocation.takeover && controller_lives(target, stop)) {
      steps::require_same_servers(*run, servers);
      return ask_controller(invocation, target, stop);
    }
  }
  steps::Controller controller(invocation.plan, controller_options(invocation), stop);
  return print_reply(controller.once(request_of(invocation)), invocation.output);
}

int unfence(const Invocation& invocation, const base::Stop& stop) {
  confirm(invocation,
          invocation.target_lost
              ? "this reopens the source; what was committed on the target meanwhile is lost"
              : "this gives up an attempt to switch and lets everybody connect to the source again");
  steps::Servers servers(invocation.plan, invocation.connect_timeout, stop);
  std::cout << steps::unfence(invocation.plan, servers, invocation.target_lost) << std::flush;
  return code(ExitCode::done);
}

}  // namespace

int execute(const Invocation& invocation, const base::Stop& stop) {
  const auto& verb = invocation.verb;
  check::require_known_ids(invocation.plan.accepted);
  if (verb == "help" || verb == "version") {
    std::cout << invocation.text << std::flush;
    return code(ExitCode::done);
  }
  if (verb == "list-fault-points") {
    for (const auto& name : base::fault_points()) {
      std::cout << name << "\n";
    }
    return code(ExitCode::done);
  }
  if (verb == "guardian") {
    return steps::guardian_main();
  }
  if (verb == "check") {
    return check(invocation, stop);
  }
  if (verb == "plan") {
    return show_plan(invocation, stop);
  }
  if (verb == "run") {
    return run(invocation, stop);
  }
  if (verb == "status") {
    return status(invocation, stop);
  }
  if (verb == "journal") {
    return journal_verb(invocation, stop);
  }
  if (verb == "sequences") {
    return sequences_verb(invocation, stop);
  }
  if (verb == "unfence" || (verb == "rollback" && invocation.target_lost)) {
    return unfence(invocation, stop);
  }
  if (verb == "finish") {
    confirm(invocation,
            "this drops slots, publications and the tool's tables: there is no way back afterwards");
  }
  if (verb == "cancel") {
    confirm(invocation, "this ends the migration and empties the target again");
  }
  return command(invocation, stop);
}

}  // namespace cutover::cli
