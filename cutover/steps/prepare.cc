#include "cutover/steps/prepare.h"

#include <algorithm>
#include <chrono>

#include "cutover/check/check.h"
#include "cutover/steps/failover.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/patience.h"
#include "cutover/steps/publication_watch.h"
#include "cutover/steps/schema_changes.h"
#include "cutover/steps/stale.h"
#include "cutover/steps/takeover.h"
#include "replication/apply/progress.h"
#include "replication/apply/quiet.h"
#include "replication/apply/twins.h"
#include "replication/base/check.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/changes.h"
#include "replication/catalog/quick_load.h"
#include "replication/catalog/server.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/schema.h"
#include "replication/stream/marker.h"
#include "replication/stream/publication.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

using base::fault_point;
using base::milliseconds;
namespace snapshot = replication::snapshot;
namespace stream = replication::stream;

constexpr milliseconds kSlotWait{600'000};
constexpr milliseconds kStepBudget{300'000};
constexpr milliseconds kLostSessions{15'000};
constexpr milliseconds kWake{3'000};  // on the side that applications use; nothing depends on it
constexpr milliseconds kQuiet{60'000};

constexpr int kSlotTries = 3;

void say_waiting(const std::string& blockers) {
  base::log::warn("the slot waits for transactions that were open before it: " + blockers);
}

// Tables that were changed while a slot was made; those whose shape was and that aren't migrated don't
// matter.
catalog::Changes changes_meanwhile(const catalog::Catalog& before, const catalog::Catalog& after,
                                   const catalog::TableFilter& migrated) {
  auto found = catalog::changes(before, after);
  std::erase_if(found.shapes, [&](const auto& name) {
    const auto table = std::find_if(after.tables.begin(), after.tables.end(),
                                    [&](const auto& one) { return one.display() == name; });
    return !migrated.matches(table->filter_name());
  });
  return found;
}

std::string listed(const catalog::Changes& changes) {
  constexpr std::size_t kShown = 5;
  auto names = changes.shapes;
  names.insert(names.end(), changes.files.begin(), changes.files.end());
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return text + (names.size() > kShown ? " and " + std::to_string(names.size() - kShown) + " more" : "");
}

}  // namespace

std::string assign_xid(postgres::Connection& connection) {
  // An id that is assigned now is above that of every transaction the slot may not have seen.
  return connection.one_value(connection.server_version() >= 130000 ? "SELECT pg_current_xact_id()::text"
                                                                    : "SELECT txid_current()::text");
}

Preparation::Preparation(Context& context, Publisher& publisher, SlotWatch& slot_watch)
    : context_(context), publisher_(publisher), slot_watch_(slot_watch) {}

const catalog::Catalog& Preparation::source_catalog() {
  if (!catalog_) {
    catalog_ = catalog::load(source(), context_.plan.tables);
  }
  return *catalog_;
}

bool Preparation::begin(const std::string& step, const std::string& state) {
  if (step_done(target(), step)) {
    return false;
  }
  put_event(target(), context_.token, step, "began", "");
  publisher_.update(
      [&](state::Status& status) {
        status.state = state;
        status.step = step;
        status.progress = {.step = step, .done = 0, .total = -1, .unit = "", .seconds = 0, .current = ""};
      },
      true);
  return true;
}

void Preparation::done(const std::string& step, const std::string& message) {
  put_event(target(), context_.token, step, "done", message);
  base::log::info("step " + step + " done" + (message.empty() ? "" : ": " + message));
}

// Before the slot, so that no position in the WAL that we decode lacks the publication.
void Preparation::publish() {
  if (!begin("publish", "preparing")) {
    return;
  }
  set_identities(context_, source_catalog(), Side::source);
  catalog_.reset();
  const auto tables = source_catalog().published(source().server_major());
  stream::ensure_publication(source(), publication_name(context_.plan.name, Side::source), tables);
  RewriteWatch(context_).tend(Side::source, true);
  done("publish", std::to_string(tables.size()) + " tables published");
  fault_point("run.after-prepare-source");
}

void Preparation::close_target() {
  if (!begin("close-target", "preparing")) {
    return;
  }
  close_from_the_start(target(), context_.token);
  done("close-target", "only our role may connect");
  fault_point("run.after-prepare-target");
}

// A server that waits for older transactions before a slot is consistent forgets what others committed in the
// first part of that wait when it decodes those that span the end of it: their changes come with the columns
// that a table or a composite type had before, or end the stream where a table's file is another one or an
// enum label is new (PostgreSQL 12 to 18). Every transaction after them may be decoded by the same stale
// columns. So a slot counts only if no table, and no type of a column, changed meanwhile.
stream::CreatedSlot Preparation::create_slot(const std::string& name) {
  for (int tries = 1;; ++tries) {
    stream::drop_slot(source(), name, base::Deadline::in(milliseconds(30'000)));
    slot_session_.emplace(context_.servers.open(Side::source, "slot", postgres::SessionKind::replication));
    keep_timeline(context_, Side::source);
    keep_publication(context_, Side::source);
    const auto before = catalog::load_without_sizes(source(), {});
    auto created = stream::create_slot(*slot_session_, source(), name, false, base::Deadline::in(kSlotWait),
                                       say_waiting, context_.plan.slot_failover);
    const auto changed =
        changes_meanwhile(before, catalog::load_without_sizes(source(), {}), context_.plan.tables);
    if (changed.none()) {
      return created;
    }
    catalog_.reset();  // the schema is compared with what the tables are now
    const auto what =
        "tables or types of their columns changed while the slot was made, so that the server may decode "
        "them wrongly: " +
        listed(changed);
    if (tries < kSlotTries) {
      base::log::warn(what + "; it is made again");
    } else if (changed.shapes.empty()) {  // not silently wrong: such a stream ends with an error
      base::log::warn(what + "; going on, since they were only created, truncated or rewritten");
      return created;
    } else {
      slot_session_.reset();
      stream::drop_slot(source(), name, base::Deadline::in(milliseconds(30'000)));
      throw base::Error(what,
                        "hold back schema changes, or end the transactions that the slot waits for, "
                        "until the copy has begun; then call run again")
          .on(source().server());
    }
  }
}

// A slot that exists without our record of it was made by a run that died before anything was copied: made
// again.
void Preparation::make_slot() {
  if (!begin("slot", "preparing")) {
    return;
  }
  const auto name = slot_name(context_.plan.name, Side::source);
  const auto created = create_slot(name);
  const auto xid = assign_xid(source());
  replication::apply::init_progress(target(), "forward", created.consistent_point, context_.token.epoch(),
                                    true);
  put_fact(target(), context_.token, "slot.xid", xid);
  put_fact(target(), context_.token, "slot.consistent-point", created.consistent_point.to_string());
  snapshot_ = created.snapshot_name;
  spool_.reset();
  done("slot", name + " from " + created.consistent_point.to_string());
  fault_point("run.after-slot");
}

LinkOptions Preparation::link_options(Side from) {
  auto& publisher_side = context_.servers.at(from);
  const auto tables = catalog::load(publisher_side, context_.plan.tables).tables;
  LinkOptions options;
  options.from = from;
  options.run = context_.plan.name;
  options.binary =
      publisher_side.server_version() >= 140000 &&
      std::all_of(tables.begin(), tables.end(), [](const auto& table) { return table.streams_binary(); });
  options.left_out = context_.plan.tables.columns;
  options.stop_at_conflict = context_.plan.stop_at_conflict;
  options.system_identifier = from == Side::source ? context_.run.source_system : context_.run.target_system;
  options.lineage = follow_failover(context_, from);
  options.token = context_.token;
  options.schema_changes = std::make_shared<SchemaChanges>(context_, from);
  return options;
}

// Triggers and rules that would fire for what the stream writes sleep on the side that receives, and on that
// side only. For applications nothing changes by it, so it needn't happen inside the pause.
void Preparation::quiet_receiver(Side from) {
  auto& receiver = context_.servers.at(other(from));
  try {
    for (const auto& left : replication::apply::wake_tables(context_.servers.at(from), context_.token,
                                                            base::Deadline::in(kWake))) {
      base::log::warn("not put back on the " + std::string(to_string(from)) + ": " + left);
    }
  } catch (const base::Error& error) {
    if (error.sqlstate() != postgres::sqlstate::kLockNotAvailable) {
      throw;
    }
    base::log::warn("triggers that slept while the stream wrote to the " + std::string(to_string(from)) +
                    " go on sleeping, since their tables are in use: " + error.describe() +
                    "; they are woken at the latest by finish");
  }
  const auto tables = catalog::load(receiver, context_.plan.tables).tables;
  for (const auto& item :
       replication::apply::quiet_tables(receiver, tables, context_.token, base::Deadline::in(kQuiet))) {
    base::log::info(item + " sleeps on the " + std::string(to_string(other(from))) +
                    " while the stream writes there");
  }
}

std::unique_ptr<Link> Preparation::start_link(Side from) {
  slot_watch_.need(from);
  quiet_receiver(from);
  auto options = link_options(from);
  if (from == Side::target) {
    postgres::Transaction transaction(source());
    replication::apply::pair_back(target(), std::string(direction_from(Side::source)), source(),
                                  std::string(direction_from(from)));
    context_.token.assert_current(source());
    transaction.commit_or_throw();
  }
  if (from == Side::source) {
    for (const auto& pending : snapshot::pending_snapshots(target())) {
      options.filters.push_back({pending.schema, pending.name, pending.snapshot, pending.marker});
    }
    ensure_spool();
    options.spool = spool_.get();
    options.applied = applied_on_target();
  } else {
    spool_.reset();
  }
  return std::make_unique<Link>(context_.servers, options);
}

// A marker that was written now comes behind the markers of every table's snapshot: once it was applied, each
// filter has done its work and the two sides are consistent.
void Preparation::reach_consistency(Link& link) {
  const std::string token = "caught up " + random_hex(4);
  stream::write_marker(source(), token);
  while (link.applier().wait_marker(token, base::Deadline::in(milliseconds(500))) !=
         replication::apply::WaitResult::reached) {
    link.check();
    context_.servers.stop().check();
    const auto stats = link.applier().stats();
    const auto behind = catalog::insert_lsn(source()).bytes_since(stats.applied_lsn);
    publisher_.update([&](state::Status& status) {
      status.progress = {.step = "catch-up",
                         .done = stats.changes,
                         .total = -1,
                         .unit = "changes",
                         .seconds = 0,
                         .current = state::bytes_text(static_cast<std::int64_t>(behind)) + " of WAL behind"};
      if (!stats.waiting_for.empty()) {
        status.message = waiting_message(stats);
      }
    });
  }
  for (const auto& pending : snapshot::pending_snapshots(target())) {
    snapshot::mark_filter_passed(target(), pending.marker);
  }
}

void Preparation::catch_up(Link& link) {
  if (begin("catch-up", "catching-up")) {
    reach_consistency(link);
    done("catch-up", "");
  }
  fault_point("run.after-catch-up");
}

// What needs both sides consistent: foreign keys, matviews, statistics.
void Preparation::restore_rest() {
  if (!begin("foreign-keys", "catching-up")) {
    return;
  }
  auto content = source_catalog();
  if (context_.plan.content == plan::Content::data_only) {
    content.foreign_keys.clear();  // those that are there were never switched off for their owner
  } else if (context_.plan.content == plan::Content::schema_only) {
    content.matviews.clear();
  }
  const auto [violated, stale] =
      snapshot::finish_tables(context_.servers.info(Side::target, "restore"), context_.token, content,
                              context_.plan.index_jobs, slot_watch_.stop());
  for (const auto& key : violated) {
    base::log::warn("foreign key " + key + " is violated by the source's own data: it stays NOT VALID");
  }
  // Nobody is let in on them: each switch tries again, and is refused where that fails.
  note_stale(context_, Side::target, stale);
  std::string not_refreshed;
  for (const auto& view : stale) {
    base::log::warn(stale_text(view, Side::target) + "; " + stale_remedy(view, Side::target));
    not_refreshed += "; " + stale_text(view, Side::target);
  }
  done("foreign-keys", std::to_string(content.foreign_keys.size()) + " foreign keys, " +
                           std::to_string(violated.size()) + " not valid" +
                           (violated.empty() ? "" : ": " + check::list_text(violated, 10)) + not_refreshed);
  fault_point("run.after-foreign-keys");
}

// Unlike create_slot(), this doesn't ask what changed while the slot was made. Decoded wrongly is only what
// spans the end of that, or begins later but before the next change of any catalog: as long as this side is
// closed, that is what our own apply writes, and nobody wants it back. Opening the side is such a change
// (open_side() grants CONNECT), and commits before an application's first transaction there.
void Preparation::make_idle_slot(Side idle) {
  auto session = context_.servers.open(idle, "slot");
  stream::ensure_slot(session, context_.servers.at(idle), slot_name(context_.plan.name, idle),
                      base::Deadline::in(kSlotWait), say_waiting,
                      context_.plan.slot_failover && session.server_major() >= 17);
}

void Preparation::require_same_structure(const catalog::Catalog& target_tables, Keys keys) {
  const auto differences = structure_differences(source_catalog(), target_tables, "target", keys);
  if (!differences.empty()) {
    throw base::Error(
        "the target's tables are not like the source's: " + differences.front() +
            (differences.size() > 1 ? " (and " + std::to_string(differences.size() - 1) + " more)" : ""),
        "make them equal, or start over: pgcutover cancel, then run")
        .on("target");
  }
}

// Made long before the pause: a slot waits for every open transaction of its cluster.
void Preparation::make_way_back() {
  const auto tables = catalog::load(target(), context_.plan.tables);
  require_same_structure(tables, Keys::compared);
  stream::ensure_publication(target(), publication_name(context_.plan.name, Side::target),
                             tables.published(target().server_major()));
  make_idle_slot(Side::target);
  if (begin("way-back", "catching-up")) {
    done("way-back", slot_name(context_.plan.name, Side::target));
  }
  fault_point("run.after-reverse-ready");
}

// Of what may have been lost with a server, so that the step begins as in a run of its own.
void Preparation::let_go() {
  throttle_->end_copy();
  indexes_.reset();  // it points into the catalog
  catalog_.reset();
  slot_session_.reset();
  snapshot_.clear();
}

std::unique_ptr<Link> Preparation::run(const std::string& until, const std::function<void()>& keep_place) {
  throttle_.emplace(context_, publisher_);
  std::unique_ptr<Link> link;
  const std::pair<const char*, std::function<void()>> steps[] = {
      {"publish", [&] { publish(); }},
      {"close-target", [&] { close_target(); }},
      {"slot", [&] { make_slot(); }},
      {"schema",
       [&] {
         if (context_.plan.content != plan::Content::schema_only) {
           ensure_spool();  // from here on the source needn't keep its WAL for us
         }
         restore_schema();
       }},
      {"copy", [&] { copy(); }},
      {"indexes", [&] { restore_indexes(); }},
      {"catch-up",
       [&] {
         link.reset();
         link = start_link(Side::source);
         catch_up(*link);
       }},
      {"foreign-keys", [&] { restore_rest(); }},
      {"way-back", [&] { make_way_back(); }},
  };
  const auto wanted = steps_of(context_.plan.content);
  for (const auto& [id, execute] : steps) {
    Patience patience(kStepBudget, context_.servers.stop());
    bool done = std::ranges::find(wanted, id, &StepInfo::id) == wanted.end();
    bool again = false;
    while (!done) {
      context_.servers.stop().check();
      done = patience.attempt(
          [&, &step = execute] {  // clang 14 can't capture the binding itself
            keep_place();
            if (again) {  // a session that we lost may still be at work there, and commit
              end_sessions(target(), "", context_.servers.tag(), base::Deadline::in(kLostSessions));
            }
            slot_watch_.guard(step);
          },
          [&] {
            again = true;
            let_go();
          });
    }
    if (until == id) {
      break;
    }
  }
  throttle_.reset();
  return link;
}

}  // namespace cutover::steps
