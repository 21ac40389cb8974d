#include "cutover/steps/handover.h"

#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "cutover/state/status.h"
#include "cutover/steps/attempt_record.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/gates.h"
#include "cutover/steps/guardian.h"
#include "cutover/steps/publication_watch.h"
#include "cutover/steps/publisher.h"
#include "cutover/steps/sequence_watch.h"
#include "cutover/steps/settle.h"
#include "cutover/steps/unstreamed.h"
#include "cutover/traffic/traffic.h"
#include "replication/base/check.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/quick_load.h"
#include "replication/catalog/server.h"
#include "replication/postgres/quote.h"
#include "replication/stream/publication_marks.h"
#include "sequences/sequences.h"

namespace cutover::steps {
namespace {

using base::fault_point;
using base::milliseconds;

double elapsed_ms(base::Clock::time_point since) {
  return std::chrono::duration<double, std::milli>(base::Clock::now() - since).count();
}

std::string verb_of(Side from) {
  return from == Side::source ? "switch" : "rollback";
}

class Handover {
 public:
  Handover(Context& context, Side from, Link& link, const catalog::Catalog& content, Unstreamed& unstreamed,
           std::set<std::string> sequences, std::map<Side, std::string> published)
      : outside_(context),
        servers_(context.servers.for_pause(context.plan.gates.max_pause)),
        context_{context.plan, servers_, context.token, context.run},
        from_(from),
        to_(other(from)),
        link_(link),
        attempt_(random_hex(8)),
        traffic_(context.plan, traffic_guard(context_), context.servers.stop()),
        catalog_(content),
        unstreamed_(unstreamed),
        sequences_(std::move(sequences)),
        published_(std::move(published)),
        deadline_(base::Deadline::in(context.plan.gates.max_pause)) {}

  HandoverResult run();

 private:
  postgres::Connection& from() { return context_.servers.at(from_); }
  postgres::Connection& to() { return context_.servers.at(to_); }

  void hold();
  void lock();
  void drain();
  void fence();
  void set_sequences();
  void prove();
  bool pass();
  void finish();
  void undo(const std::string& why);
  void record(const HandoverResult& result);
  std::string left_behind_text() const;

  Context& outside_;  // before and after the pause: patient sessions
  Servers servers_;
  Context context_;  // inside it: no statement may outlast the budget
  const Side from_, to_;
  Link& link_;
  const std::string attempt_;
  traffic::TrafficSet traffic_;
  const catalog::Catalog& catalog_;  // of `from`, from before the gates
  Unstreamed& unstreamed_;
  const std::set<std::string> sequences_;        // the same
  const std::map<Side, std::string> published_;  // digests of the publications, the same
  base::Deadline deadline_;
  base::Clock::time_point held_at_;
  const std::int64_t began_us_ = now_us();
  std::optional<postgres::Connection> locks_;
  std::int64_t changes_at_marker_ = 0;
  base::Lsn opposite_start_;
  HandoverResult result_;
};

void Handover::hold() {
  held_at_ = base::Clock::now();
  deadline_ = base::Deadline::in(context_.plan.gates.max_pause);
  traffic_.hold_all(deadline_);
}

// In a session of its own that dies with us: nobody has to remember to unlock.
void Handover::lock() {
  const auto& gates = context_.plan.gates;
  const auto idle_limit = std::to_string((gates.max_pause + milliseconds(60'000)).count());
  locks_.emplace(context_.servers.open(from_, "fence", postgres::SessionKind::sql,
                                       {{"idle_in_transaction_session_timeout", idle_limit}}));
  if (locks_->server_version() >= 140000) {
    locks_->exec("SET client_connection_check_interval = 1000");
  }
  try {
    locks_->exec("SET deadlock_timeout = 50");  // autovacuum yields to whoever waits longer than this
  } catch (const base::Error& error) {
    base::log::debug("without the right to shorten deadlock_timeout: " + error.message());
  }
  LockOptions options;
  options.cancel_blockers = gates.cancel_blockers;
  auto tables = catalog_.published(from().server_major());
  for (auto& table : unlogged_tables(context_.plan, catalog_)) {  // they are looked at under the fence
    tables.push_back(std::move(table));
  }
  lock_tables(*locks_, from(), tables, options, base::Deadline::in(gates.lock_limit).sooner(deadline_));
}

std::string Handover::left_behind_text() const {
  std::string text = "left behind on the " + std::string(to_string(from_)) + ", as asked: ";
  for (const auto& name : result_.left_behind) {
    text += (&name == &result_.left_behind.front() ? "" : ", ") + name;
  }
  return text;
}

// With writers locked out the catalog can't gain a table that nobody looked at, and the marker's commit comes
// after every commit on the published tables.
void Handover::drain() {
  const auto now = catalog::load_without_sizes(from(), context_.plan.tables);
  if (now.fingerprint != catalog_.fingerprint) {
    throw base::Error(
        "the schema of the " + std::string(to_string(from_)) + " changed while the switch began",
        "let schema changes end first, then try again")
        .on(to_string(from_));
  }
  std::map<base::Oid, base::Oid> files;
  for (const auto& table : catalog_.tables) {
    files.emplace(table.oid, table.filenode);
  }
  for (const auto& table : now.tables) {  // what a rewrite computes isn't in the stream
    if (const auto before = files.find(table.oid);
        before != files.end() && before->second != table.filenode && !table.unlogged) {
      throw base::Error("table " + table.display() + " on the " + std::string(to_string(from_)) +
                            " was rewritten or truncated while the switch began",
                        "let that end first, then try again")
          .on(to_string(from_));
    }
  }
  // What was written before the locks is behind us, and no table leaves a publication under them.
  for (const auto& [side, digest] : published_) {
    const auto name = publication_name(context_.plan.name, side);
    if (replication::stream::publication_digest(context_.servers.at(side), name) != digest) {
      throw base::Error(
          "publication " + postgres::quote_identifier(name) + " on the " + std::string(to_string(side)) +
              " was changed while the " + verb_of(from_) + " began",
          "let that end first, then try again; `pgcutover status` says which tables it concerns")
          .on(to_string(side));
    }
  }
  result_.fence_lsn = pass_marker(from(), link_, "fence " + attempt_, deadline_);
  changes_at_marker_ = link_.applier().stats().changes;
}

void Handover::fence() {
  result_.sessions_ended = close_connections(from(), context_.token, attempt_, result_.fence_lsn, deadline_);
  result_.left_behind = unstreamed_.settle(context_, deadline_);
  if (!result_.left_behind.empty()) {  // now: whoever finishes this in our place can't know it
    begin_record(context_, {verb_of(from_), began_us_, left_behind_text(), unstreamed_.stale()});
    put_event(to(), context_.token, "unstreamed", "left behind", left_behind_text());
    base::log::warn(left_behind_text());
  }
}

void Handover::set_sequences() {
  const auto plan = plan_sequences(context_, from_);
  for (const auto& finding : plan.findings) {
    if (finding.severity == base::Severity::blocks && !context_.plan.accepts(finding)) {
      throw base::Error(finding.message, finding.remedy).on(finding.server).at(finding.object);
    }
    // The other side's namesake would be opened with the value of whenever it was copied.
    if (finding.id == "sequence-only-there" && sequences_.contains(finding.object)) {
      throw base::Error("sequence " + finding.object + " on the " + std::string(to_string(from_)) +
                            " was dropped while the " + verb_of(from_) + " began",
                        "drop it on the other side too, or create it again, then try again")
          .on(to_string(from_));
    }
  }
  sequences::apply_bumps(to(), plan.bumps, sequences::Side::opens, context_.token);
}

// Nothing may have come between the two markers; and what was applied must survive a crash of the side that
// opens before the other one gives up its authority.
void Handover::prove() {
  pass_marker(from(), link_, "proof " + attempt_, deadline_);
  const auto stats = link_.applier().stats();
  if (stats.changes != changes_at_marker_) {
    throw base::Error(
        std::to_string(stats.changes - changes_at_marker_) +
            " row change(s) came through the fence after the marker",
        "a session that CONNECT can't keep out writes: look for superuser sessions and scheduled jobs")
        .on(to_string(from_));
  }
  to().exec("SET synchronous_commit = on");
  put_event(to(), context_.token, verb_of(from_), "began", "drained at " + result_.fence_lsn.to_string());
  opposite_start_ = catalog::insert_lsn(to());
}

bool Handover::pass() {
  const auto outcome = pass_authority(from(), context_.token, attempt_, from_, opposite_start_);
  if (outcome == postgres::CommitOutcome::committed) {
    return true;
  }
  base::log::warn("the answer to the deciding COMMIT was lost: asking the server");
  return !undo_attempt(from(), context_.token);  // waits for the old session's transaction, if it still runs
}

// Reverse order, each part whether or not it was reached, nothing skipped because another part failed. What
// can't be undone here stays recorded in the fence's row, and the guardian and the next controller try again.
void Handover::undo(const std::string& why) {
  base::log::warn(verb_of(from_) + " is being undone: " + why);
  std::string trouble;
  const auto attempt = [&](const auto& part) {
    try {
      part();
    } catch (const base::StateError&) {
      throw;  // another controller took over while this one was frozen: what is held now is its business
    } catch (const std::exception& error) {
      trouble += (trouble.empty() ? "" : "; ") + std::string(error.what());
    }
  };
  locks_.reset();
  Servers servers(context_.plan, milliseconds(5'000), base::Stop::never());
  attempt([&] {
    if (!undo_attempt(servers.at(from_), context_.token)) {
      throw base::NeedsOperator("authority was passed already: `pgcutover run` will finish the " +
                                verb_of(from_));
    }
  });
  traffic::TrafficSet release(context_.plan, {}, base::Stop::never());
  attempt([&] { release.release_all(base::Deadline::in(milliseconds(15'000))); });
  if (trouble.empty()) {
    attempt([&] { clear_attempt(servers.at(from_), context_.token); });
  }
  if (!trouble.empty()) {
    throw base::NeedsOperator(
        "the " + verb_of(from_) + " failed (" + why + ") and could not be undone: " + trouble,
        "make the servers and poolers reachable and call `pgcutover run`: it settles this first; "
        "or `pgcutover unfence` with the source alone");
  }
}

void Handover::record(const HandoverResult& result) {
  state::SwitchStatus entry;
  entry.direction = verb_of(from_);
  entry.outcome = result.done ? "done" : "undone";
  entry.pause_ms = std::round(result.pause_ms * 10) / 10;
  entry.at_us = now_us();
  entry.fence_lsn = result.fence_lsn.to_string();
  entry.message = result.message;
  try {
    // Also after a stop request; and a line that can't be written must not make of a done switch a failed
    // one.
    Servers servers(context_.plan, milliseconds(5'000), base::Stop::never());
    Context context{context_.plan, servers, context_.token, context_.run};
    complete_record(context, entry, unstreamed_.stale());
  } catch (const base::Error& error) {
    base::log::error("the hand-over could not be recorded: " + error.describe());
  }
}

// Behind the point of no return: what fails here is said to be open, never to be undone.
void Handover::finish() {
  try {
    fault_point("switch.after-commit");
    locks_.reset();
    finish_handover(outside_, from_, traffic_);
  } catch (const base::NeedsOperator&) {
    throw;
  } catch (const base::Error& error) {
    throw base::NeedsOperator("authority has passed to the " + std::string(to_string(to_)) +
                                  ", but the rest is not done: " + error.describe(),
                              "`pgcutover run` finishes it; `pgcutover status` says who takes writes");
  }
}

HandoverResult Handover::run() {
  held_at_ = base::Clock::now();
  from();
  to();  // both control sessions stand before anything is held
  begin_record(context_, {verb_of(from_), began_us_});
  Guardian guardian(context_, from_);
  bool passed = false;
  try {
    fault_point("switch.before-hold");
    begin_attempt(from(), context_.token, attempt_);
    hold();
    fault_point("switch.after-hold");
    lock();
    fault_point("switch.after-lock");
    drain();
    fault_point("switch.after-drain");
    fence();
    fault_point("switch.after-fence");
    set_sequences();
    prove();
    fault_point("switch.after-sequences");
    if (deadline_.expired()) {
      throw base::TimeoutError("the pause's budget of " + plan::duration_text(context_.plan.gates.max_pause) +
                               " was used up");
    }
    fault_point("switch.before-commit");
    passed = pass();
    if (!passed) {
      throw base::Error("the deciding COMMIT did not happen");
    }
  } catch (const base::Error& error) {
    undo(error.message());
    guardian.disarm();
    result_.pause_ms = elapsed_ms(held_at_);
    result_.message = error.message();
    result_.hint = error.hint();
    result_.exit_code = dynamic_cast<const base::Stopped*>(&error) != nullptr ? base::ExitCode::interrupted
                                                                              : base::ExitCode::rolled_back;
    record(result_);
    return result_;
  }
  finish();
  result_.pause_ms = elapsed_ms(held_at_);
  result_.done = true;
  guardian.disarm();
  result_.message = std::string(to_string(to_)) + " takes writes; write pause " +
                    std::to_string(std::llround(result_.pause_ms)) + " ms";
  if (!result_.left_behind.empty()) {
    result_.message += "; " + left_behind_text();
  }
  record(result_);
  return result_;
}
}  // namespace

HandoverResult hand_over(Context& context, Side from, Link& link, const std::string& published) {
  const auto fence = read_fence(context.servers.at(from));
  const auto opposite = read_fence(context.servers.at(other(from)));
  if (fence.state != FenceState::open || opposite.state != FenceState::closed) {
    throw base::StateError("the " + std::string(to_string(from)) + " does not take writes: nothing to " +
                               verb_of(from) + " from",
                           "`pgcutover status` says where the migration stands");
  }
  // Loaded before the gates look at it: what changes from here on is noticed under the locks.
  const auto content = catalog::load(context.servers.at(from), context.plan.tables);
  std::set<std::string> sequences;
  for (const auto& sequence : sequences::inventory(context.servers.at(from))) {
    sequences.insert(sequence.display());
  }
  auto published_back = keep_publication(context, other(from));  // before the gates look whether it is whole
  for (const auto& finding : handover_findings(context, from, link)) {
    if (finding.severity == base::Severity::blocks) {
      throw base::Error("not begun: " + finding.message, finding.remedy)
          .on(finding.server)
          .at(finding.object)
          .with_exit(base::ExitCode::findings);
    }
    base::log::warn(finding.id + ": " + finding.message);
  }
  if (published_back.empty()) {  // they made it
    published_back = keep_publication(context, other(from));
  }
  Unstreamed unstreamed(content, from);
  unstreamed.refresh(context, link);
  return Handover(context, from, link, content, unstreamed, std::move(sequences),
                  {{from, published}, {other(from), published_back}})
      .run();
}

}  // namespace cutover::steps
