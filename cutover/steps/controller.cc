#include "cutover/steps/controller.h"

#include <algorithm>
#include <unistd.h>

#include "cutover/check/check.h"
#include "cutover/steps/columns.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/finish.h"
#include "cutover/steps/reset.h"
#include "cutover/steps/settle.h"
#include "cutover/steps/stale.h"
#include "cutover/steps/takeover.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"

namespace cutover::steps {

using base::milliseconds;
namespace stream = replication::stream;

namespace {

// How long a server may take to notice that a controller was killed.
constexpr milliseconds kNoticed{3'000};
constexpr milliseconds kLook{100};

bool wait_for_controller_lock(postgres::Connection& target, milliseconds patience) {
  const auto deadline = base::Deadline::in(patience);
  while (!try_controller_lock(target)) {
    if (deadline.expired()) {
      return false;
    }
    target.stop().wait(base::Deadline::in(kLook));
    target.stop().check();
  }
  return true;
}

}  // namespace

Outcome outcome(base::ExitCode code, std::string message, std::string output) {
  Outcome result;
  result.finished = true;
  result.exit_code = static_cast<int>(code);
  result.message = std::move(message);
  result.output = std::move(output);
  return result;
}

base::Findings check_both(const plan::Plan& plan, Servers& servers, std::int64_t source_free_bytes,
                          bool reset_target) {
  check::CheckInput input{.source = servers.source(), .target = servers.target()};
  input.filter = plan.tables;
  input.content = plan.content;
  input.indexes_later = plan.indexes_later;
  input.reset_target = reset_target;
  input.keyless_full = plan.keyless_full;
  input.unlogged_data = plan.unlogged_data;
  input.copy_publications = plan.copy_publications;
  input.copy_subscriptions = plan.copy_subscriptions;
  input.create_roles = plan.create_roles;
  input.roles = plan.roles();
  input.failover_slots = plan.slot_failover;
  input.jobs = plan.copy_jobs;
  input.pg_bindir = plan.pg_bindir;
  input.accepted = plan.accepted;
  input.source_settings = servers.default_settings(Side::source, check::compared_settings());
  input.target_settings = servers.default_settings(Side::target, check::compared_settings());
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
      slot_watch_(context_, publisher_),
      preparation_(context_, publisher_, slot_watch_),
      sequence_watch_(context_),
      rewrite_watch_(context_),
      publication_watch_(context_) {}

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
  const auto findings = check_both(plan_, servers_, options_.source_free_bytes, options_.reset_target);
  publisher_.update([&](state::Status& status) { status.findings = findings; });
  if (check::blocks(findings)) {
    throw base::Error("not begun:\n" + state::findings_text(findings),
                      "mend what blocks, or accept it by name")
        .with_exit(base::ExitCode::findings);
  }
  if (plan_.content != plan::Content::schema_only &&
      catalog::load(servers_.source(), plan_.tables).tables.empty()) {
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
  if (options_.reset_target) {
    reset_target(servers_.target(), plan_);
  }
  put_fact(servers_.target(), context_.token, "public.before", public_schema_sql(servers_.target()));
  put_fact(servers_.target(), context_.token, "extensions.before", extension_names(servers_.target()));
  if (plan_.content != plan::Content::data_only) {
    if (const auto held = check::target_objects(servers_.target()).size(); held > 0) {  // accepted by name
      put_fact(servers_.target(), context_.token, "target.held", std::to_string(held));
    }
  }
  put_fact(servers_.target(), context_.token, "content", plan::to_string(plan_.content));
  put_roles(servers_.target(), context_.token, plan_.roles());
  write_run(servers_.source(), context_.run, context_.token);
  write_run(servers_.target(), context_.run, context_.token);
}

bool Controller::attach(bool may_begin) {
  servers_.learn_application_settings();
  auto& target = servers_.target();
  servers_.source();
  const auto run = read_run(target);
  if (!run && !may_begin) {
    return false;
  }
  if (!wait_for_controller_lock(target, options_.takeover ? milliseconds(0) : kNoticed)) {
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
    context_.run = *run;
    if (options_.reset_target) {
      base::log::warn("the migration has begun already: --reset-target drops nothing any more");
    }
    if (begun_ending(target) && !schema_exists(servers_.source())) {
      only_trace_left_ = true;  // nothing of the source's may be made again, nor be settled
      context_.token = take_over(servers_, {Side::target});
      return true;
    }
    create_schema(servers_.source());  // tables that a newer version of this program adds
    create_schema(target);
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

void Controller::refuse_when_ending() {
  if (const auto ending = begun_ending(servers_.target())) {
    throw base::StateError(*ending + " was begun and cut off",
                           "call `pgcutover " + *ending + " --yes` again to complete it");
  }
}

void Controller::open_link() {
  auto& target = servers_.target();
  refuse_when_ending();
  keep_columns(context_);
  const auto primary = primary_side(servers_.source(), target);
  const bool prepared = step_done(target, "way-back");
  switch_by_itself_ = !plan_.gates.manual && read_fence(target).switches == 0;
  if (prepared && primary) {
    stream_from(*primary);
    refresh_stale(context_, *primary);  // that a hand-over left behind which was cut off
    return;
  }
  link_ = preparation_.run(options_.until, [this] { keep_lock(); });
}

// What was begun is gone on with; another content would be another migration.
void Controller::require_same_content() {
  const auto begun = begun_content(servers_.target());
  if (begun != plan_.content) {
    throw base::StateError(
        "this migration was begun with content: " + std::string(plan::to_string(begun)) + ", not " +
            std::string(plan::to_string(plan_.content)),
        "call `pgcutover run` as it was called first, or `pgcutover cancel` to start over");
  }
  if (const auto roles = begun_roles(servers_.target()); roles != plan_.roles()) {
    const auto text = roles.text();
    throw base::StateError("this migration was begun with other names of roles: " +
                               (text.empty() ? "those of the source" : text),
                           "call `pgcutover run` with the roles.map that it was called with first, or "
                           "`pgcutover cancel` to start "
                           "over");
  }
}

// Nothing to stream: with the schema there, nothing of ours has to stay.
Outcome Controller::end_schema_only() {
  open_side(servers_.target(), context_.token, 0);
  base::fault_point("schema-only.after-open");
  drop_our_schemas(context_);
  return outcome(base::ExitCode::done, "", "the target has the schema; nothing of this migration is left\n");
}

Outcome Controller::run() {
  attach(true);
  require_same_content();
  refuse_when_ending();
  // Never where applications write already: a plain CREATE INDEX makes them wait.
  if (!plan_.indexes_later && read_fence(servers_.target()).state == FenceState::closed) {
    preparation_.build_indexes_left();
  }
  if (plan_.content != plan::Content::schema_only) {
    slot_watch_.begin(options_.source_free_bytes);
  }
  try {
    return prepare_and_serve();
  } catch (const stream::StreamLost& lost) {
    throw copy_again(slot_watch_.cause().value_or(lost), plan_, servers_, slot_watch_.side());
  }
}

Outcome Controller::prepare_and_serve() {
  open_link();
  if (!options_.until.empty()) {
    if (link_) {
      link_->stop();
    }
    retire();
    return outcome(base::ExitCode::done, "stopped after step " + options_.until + ", as asked");
  }
  if (plan_.content == plan::Content::schema_only) {
    return end_schema_only();
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
  std::string stopped = "stopped: call `pgcutover run` again to go on";
  if (link_) {
    stopped = std::string(to_string(link_->from())) + " takes writes; " + stopped;
    link_->stop();
  }
  retire();
  return outcome(base::ExitCode::done, stopped);
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

}  // namespace cutover::steps
