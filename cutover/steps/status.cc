#include "cutover/steps/status.h"

#include <set>

#include "cutover/steps/conflicts.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/slot_watch.h"
#include "cutover/steps/store.h"
#include "cutover/traffic/traffic.h"
#include "replication/apply/progress.h"
#include "replication/apply/quiet.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"

namespace cutover::steps {
namespace {

using base::milliseconds;

constexpr int kConflictsMax = 20;  // shown of each side

std::string version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000);
}

// The server's part of the status, and its fence where it has one.
std::optional<Fence> look_at(Servers& servers, Side side, state::ServerStatus& status) {
  status.address = servers.info(side, "status").describe();
  try {
    auto& connection = servers.at(side);
    const auto facts = catalog::server_facts(connection);
    status.reachable = true;
    status.database = facts.database;
    status.version = version_text(facts.version);
    status.database_bytes = facts.database_bytes;
    if (schema_exists(connection)) {
      const auto fence = read_fence(connection);
      status.takes_writes = fence.state == FenceState::open;
      return fence;
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::warn(error.describe());
  }
  return std::nullopt;
}

// What a comparison hasn't found repaired since, of both sides that answer.
void add_conflicts(Servers& servers, Side side, state::Status& status) {
  try {
    const auto settled = read_fact(servers.target(), "conflicts-settled." + std::string(to_string(side)));
    for (auto& conflict : read_conflicts(servers.at(side), settled.value_or("0"), kConflictsMax)) {
      status.conflicts.push_back(std::move(conflict));
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::warn("the conflicts on the " + std::string(to_string(side)) +
                    " could not be read: " + error.describe());
  }
}

void add_spool(Servers& servers, const std::string& run, state::Status& status) {
  try {
    if (auto finding = spool_finding(servers, run)) {
      status.findings.push_back(std::move(*finding));
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::warn("what a spool holds could not be asked: " + error.describe());
  }
}

// Between runs nobody else says that calling `run` again is of no use.
void add_lost_slot(Servers& servers, const plan::Plan& plan, Side from, state::Status& status) {
  try {
    if (!step_done(servers.target(), "slot")) {
      return;
    }
    if (auto finding = lost_slot_finding(servers, plan, from)) {
      if (!status.controller.alive) {
        status.message = "the stream can't go on: " + finding->remedy;
      }
      status.findings.push_back(std::move(*finding));
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::warn("the slot could not be asked for: " + error.describe());
  }
}

// The controller reports the tables under way; the others are as the catalog and the record of the copy say.
void add_tables(const plan::Plan& plan, Servers& servers, state::Status& status) {
  auto& list = status.copy.tables;
  if (status.state != "copying") {
    list.clear();  // of a report that is older than the copy's end
  }
  std::set<std::string> known;
  for (const auto& table : list) {
    known.insert(table.table);
  }
  std::vector<state::CopyTableStatus> copied;
  const auto rows = servers.target().exec(
      "SELECT schema, name, rows, bytes, (extract(epoch FROM done_at) * 1000000)::bigint FROM "
      "pgcutover.table_copy ORDER BY done_at, schema, name");
  for (int row = 0; row < rows.rows(); ++row) {
    state::CopyTableStatus table;
    table.table = rows.text(row, 0) + "." + rows.text(row, 1);
    table.state = "copied";
    table.rows = rows.integer(row, 2);
    table.sent_bytes = rows.integer(row, 3);
    table.since_us = rows.integer(row, 4);
    if (known.insert(table.table).second) {
      copied.push_back(std::move(table));
    }
  }
  if (status.state == "copying") {
    for (const auto& table : catalog::load(servers.source(), plan.tables).tables) {
      if (table.stores_rows() && !known.contains(table.display())) {
        state::CopyTableStatus waiting;
        waiting.table = table.display();
        waiting.state = "waiting";
        waiting.bytes_total = table.bytes;
        list.push_back(std::move(waiting));
      }
    }
  }
  list.insert(list.end(), copied.begin(), copied.end());
}

std::string writes_go_to(const std::optional<Fence>& source, const std::optional<Fence>& target) {
  if (!source && !target) {
    return "unknown";
  }
  const bool source_open = source && source->state == FenceState::open;
  const bool target_open = target && target->state == FenceState::open;
  if (source_open != target_open) {
    return source_open ? "source" : "target";
  }
  return source_open ? "source" : "nobody";
}

// A target that answers isn't lost: opening the source beside it would make two primaries.
void refuse_living_target(Servers& servers) {
  try {
    servers.target();
  } catch (const base::UnreachableError&) {
    return;
  }
  throw base::StateError(
      "the target answers: it is not lost",
      "`pgcutover rollback` moves back without loss; where it can't be saved, stop that server first");
}

}  // namespace

state::Status read_live_status(const plan::Plan& plan, Servers& servers) {
  state::ServerStatus source_status;
  state::ServerStatus target_status;
  const auto source = look_at(servers, Side::source, source_status);
  const auto target = look_at(servers, Side::target, target_status);
  state::Status status;
  status.state = "none";
  if (target && read_run(servers.target())) {
    if (const auto json = read_status(servers.target())) {
      status = state::from_json(*json);
    } else {
      status.state = "preparing";
    }
    status.controller.alive = controller_lock_holder(servers.target()).has_value();
    if (!status.controller.alive) {
      status.message = "no controller is alive: `pgcutover run` goes on from here";
    }
  } else if (source && read_run(servers.source())) {
    status.state = "unknown";
    status.message = "only the source can be asked";
  }
  if (source && target && status.state != "none") {
    try {
      add_tables(plan, servers, status);
    } catch (const base::Stopped&) {
      throw;
    } catch (const base::Error& error) {
      base::log::warn("how far each table is could not be read: " + error.describe());
    }
    add_conflicts(servers, Side::target, status);
    add_conflicts(servers, Side::source, status);
    if (const auto primary = primary_side(servers.source(), servers.target())) {
      add_lost_slot(servers, plan, *primary, status);
    }
    if (source->state != FenceState::closed) {  // else the slot is kept for later, and advanced unread
      add_spool(servers, plan.name, status);
    }
  }
  if (status.state == "none") {
    status.message = "there is no migration here, or it is finished: nothing is known about who takes writes";
  }
  status.name = plan.name;
  status.source = source_status;
  status.target = target_status;
  status.writes_go_to = status.state == "none" ? "unknown" : writes_go_to(source, target);
  status.primary = status.writes_go_to;
  return status;
}

std::string unfence(const plan::Plan& plan, Servers& servers, bool target_lost) {
  auto& source = servers.source();
  const auto run = read_run(source);
  const auto facts = catalog::server_facts(source);
  if (!run || run->name != plan.name || run->source_system != facts.system_identifier ||
      run->source_database != facts.database) {
    throw base::StateError("this server is not the source of a migration named " + plan.name,
                           "give the source it was begun with, under its name");
  }
  const auto fence = read_fence(source);
  if (fence.state == FenceState::closed && !target_lost) {
    throw base::StateError(
        "the source has passed its authority on to the target: opening it would make two primaries",
        "`pgcutover rollback` moves back without loss; if the target is lost for good: "
        "`pgcutover rollback --target-lost`");
  }
  if (fence.state == FenceState::open && !fence.attempt) {
    return "source takes writes: there was nothing to unfence\n";
  }
  if (fence.state == FenceState::closed) {
    refuse_living_target(servers);
  }
  // With the source alone the epoch can only be raised here; it is the server whose state changes.
  postgres::FencingToken token(
      source.one_row("UPDATE pgcutover.controller SET epoch = epoch + 1, holder = 'unfence' RETURNING epoch")
          .integer(0, 0));
  std::string text;
  if (fence.state == FenceState::closed) {
    const auto row = source.exec(
        "SELECT applied_lsn::text, updated_at::text FROM pgcutover.progress WHERE direction = 'reverse'");
    replication::apply::adopt_progress(source, "reverse", token.epoch());  // no stream writes here any more
    open_side(source, token, fence.switches + 1);
    text = "source takes writes again. Lost: everything committed on the target after LSN " +
           (row.rows() > 0 ? row.text(0, 0) + " (" + row.text(0, 1) + ")" : std::string("unknown")) +
           "; how many rows that is nobody knows\n";
  } else {
    undo_attempt(source, token);
    text = "source takes writes\n";
  }
  traffic::TrafficSet traffic(plan, {}, servers.stop());
  if (fence.state == FenceState::closed) {
    traffic.move_all(traffic::Destination::source, base::Deadline::in(milliseconds(15'000)));
  }
  traffic.release_all(base::Deadline::in(milliseconds(15'000)));
  clear_attempt(source, token);
  try {
    for (const auto& left :
         replication::apply::wake_tables(source, token, base::Deadline::in(milliseconds(15'000)))) {
      text += "not put back: " + left + "\n";
    }
  } catch (const base::Error& error) {  // what matters is done
    base::log::warn("triggers that slept while the stream wrote here are not all awake: " + error.describe());
  }
  return text;
}

}  // namespace cutover::steps
