// What a controller does while it lives: stream, tend, and obey whoever asks.
#include <algorithm>

#include "cutover/steps/controller.h"
#include "cutover/steps/failover.h"
#include "cutover/steps/patience.h"
#include "cutover/steps/resync.h"
#include "cutover/steps/settle.h"
#include "cutover/steps/stale.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"
#include "replication/stream/marker.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

using base::milliseconds;
namespace stream = replication::stream;

constexpr milliseconds kTend{1'000};
constexpr milliseconds kAdvance{5'000};
constexpr milliseconds kIdle{200};
constexpr milliseconds kServeBudget{300'000};
constexpr milliseconds kSpooledBudget{24 * 3'600'000};  // the spool goes on meanwhile
constexpr milliseconds kIdleSlot{10'000};
constexpr std::size_t kTablesMax = 500;

// The most changed tables.
void add_tables(const replication::apply::Ledger& ledger, state::StreamStatus& line) {
  for (const auto& [table, counts] : ledger) {
    line.tables.push_back({.table = table,
                           .received = counts.received,
                           .applied = counts.applied(),
                           .compacted = counts.folded,
                           .filtered = counts.filtered,
                           .echoes = counts.echoed,
                           .conflicts = counts.conflicts});
  }
  std::stable_sort(line.tables.begin(), line.tables.end(),
                   [](const auto& a, const auto& b) { return a.received > b.received; });
  if (line.tables.size() > kTablesMax) {
    line.tables_left_out = static_cast<std::int64_t>(line.tables.size() - kTablesMax);
    line.tables.resize(kTablesMax);
  }
}

}  // namespace

// A server that restarts or a network that fails is waited for; a lost controller's place is not fought over.
void Controller::serve() {
  Patience patience(plan_.spool_directory.empty() ? kServeBudget : kSpooledBudget, stop_);
  while (!ended_ && !stop_.requested()) {
    patience.attempt([this] { turn(); },
                     [this] {
                       if (link_ && link_->failure()) {
                         link_.reset();
                       }
                     });
  }
}

void Controller::turn() {
  keep_lock();
  slot_watch_.begin(options_.source_free_bytes);
  slot_watch_.check();
  if (!link_) {
    const auto primary = primary_side(servers_.source(), servers_.target());
    if (!primary) {
      throw base::NeedsOperator("neither side is the one that takes writes",
                                "`pgcutover run` settles a hand-over");
    }
    stream_from(*primary);
  }
  link_->check();
  if (const auto request = take_command(servers_.target(), context_.token)) {
    obey(*request);
  }
  if (switch_by_itself_ && !ended_) {
    switch_by_itself_ = false;
    base::log::info(do_hand_over(Side::source, plan_).output);
  }
  if (!ended_ && link_) {  // a command that failed may have left none: the next turn makes it
    tend();
    servers_.target().wait_notification(base::Deadline::in(kIdle));
  }
}

// A copy that was begun while streaming comes first: what is half copied can't take changes.
void Controller::stream_from(Side primary) {
  if (!resync_pending(context_)) {
    link_ = preparation_.start_link(primary);
    return;
  }
  slot_watch_.guard([this] { copy_resync(context_, publisher_, slot_watch_.stop()); });
  auto link = preparation_.start_link(primary);
  base::fault_point("resync.streaming");
  preparation_.reach_consistency(*link);
  end_resync(context_);
  link_ = std::move(link);  // not before: nothing may be obeyed while the way back lacks a table
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
    base::log::error(error.describe());
    try {
      answer(outcome(error.exit_code(), error.describe()));
    } catch (const base::Error& unanswered) {  // what happened matters more than that it couldn't be told
      base::log::warn("the command could not be answered: " + unanswered.describe());
    }
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
  const auto arrived = link_->heartbeat_arrived();
  stream::write_heartbeat(servers_.at(link_->from()), arrived);
  if (arrived != 0) {
    keep_heartbeat(context_, link_->from(), arrived);
  }
  sequence_watch_.tend(link_->from());
  rewrite_watch_.tend(link_->from());
  publication_watch_.tend(link_->from());
  adopt_new_partitions();
  publisher_.update([this](state::Status& status) { refresh_status(status); }, true);
  if (now - advanced_ >= kAdvance) {
    advanced_ = now;
    advance_idle_slot();
  }
}

void Controller::adopt_new_partitions() {
  if (!rewrite_watch_.new_tables()) {
    return;
  }
  try {
    adopt_partitions(context_, link_->from());
    rewrite_watch_.took_new_tables();
  } catch (const base::Error& error) {
    const bool gone = error.sqlstate() == postgres::sqlstate::kUndefinedTable;
    if ((!gone && error.sqlstate() != postgres::sqlstate::kLockNotAvailable) || !error.connection_usable()) {
      throw;
    }
    base::log::info("a new partition is " + std::string(gone ? "gone" : "in use") +
                    ", trying again: " + error.message());
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
  line.counted_from_lsn = stats.counted_from_lsn.to_string();
  line.counted_since_us = stats.counted_since_us;
  add_tables(link_->applier().tables(), line);
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
  if (from == Side::source && preparation_.indexes_left()) {
    status.message =
        "streaming; secondary indexes are left for later: stop this run and call `pgcutover run --indexes "
        "now`";
  }
  if (!stats.waiting_for.empty()) {
    status.message = waiting_message(stats);
  }
  std::erase_if(status.findings, [](const base::Finding& finding) {
    return finding.id == "table-rewritten" || finding.id == "schema-change-followed" ||
           finding.id == "publication-changed" || finding.id == "matview-stale" ||
           finding.id == "columns-left-out";
  });
  for (auto& finding : stale_findings(servers_.target())) {
    status.findings.push_back(std::move(finding));
  }
  for (auto& finding : rewrite_watch_.findings()) {
    status.findings.push_back(std::move(finding));
  }
  for (auto& finding : publication_findings(context_, from)) {
    status.findings.push_back(std::move(finding));
  }
  for (const auto& statement : link_->followed()) {
    status.findings.push_back({base::Severity::warns, "schema-change-followed",
                               std::string(to_string(other(from))), "", "was run here: " + statement,
                               "`pgcutover verify` before the switch"});
  }
  slot_watch_.show(status);
  sequence_watch_.show(status);
  status.switches.clear();
  for (const auto& [key, json] : read_facts(servers_.target(), "handover.")) {
    status.switches.push_back(state::from_json(json).switches.at(0));
  }
}

}  // namespace cutover::steps
