#include "cutover/steps/unstreamed.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <span>

#include "cutover/state/status.h"
#include "replication/base/log.h"
#include "replication/postgres/as_applications.h"
#include "replication/postgres/copy.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/copy_stream.h"
#include "replication/snapshot/schema.h"
#include "replication/stream/marker.h"
#include "replication/verify/table_sql.h"

namespace cutover::steps {
namespace {

using base::Deadline;
using base::milliseconds;
namespace snapshot = replication::snapshot;

constexpr milliseconds kReach{60'000};  // outside the pause: a marker, a lock
constexpr std::size_t kBlockBytes = std::size_t{128} << 10;
constexpr std::size_t kObjectsNamed = 5;

std::string digest(postgres::Connection& connection, const replication::verify::TableSql& sql,
                   Deadline deadline) {
  const auto row = connection.exec(sql.digest(), deadline);
  return row.text(0, 0) + " " + row.text(0, 1);
}

bool alike(postgres::Connection& from, postgres::Connection& to, const catalog::Table& table,
           Deadline deadline) {
  const replication::verify::TableSql sql(table);
  auto there = std::async(std::launch::async, [&] { return digest(to, sql, deadline); });
  const auto here = digest(from, sql, deadline);
  return here == there.get();
}

// Somebody reads it, on a side that nobody uses yet: not for long, or a person has to know. Whoever waits for
// this lock makes later readers wait.
void lock(postgres::Connection& to, const catalog::Table& table, Deadline deadline) {
  try {
    to.exec("LOCK TABLE ONLY " + table.qualified() + " IN ACCESS EXCLUSIVE MODE",
            Deadline::in(kReach).sooner(deadline));
  } catch (const base::TimeoutError&) {
    throw base::TimeoutError("unlogged table " + table.display() + " on the " + to.server() +
                                 " is in use there and can't be copied again",
                             "pg_blocking_pids() there says who; let that session end, then try again")
        .on(to.server())
        .at(table.display());
  }
}

// Foreign keys may point at it from other unlogged tables: then it can't be truncated alone.
void empty(postgres::Connection& to, const catalog::Table& table, Deadline deadline) {
  const bool referenced = to.one_value(
                              "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' "
                              "AND confrelid = pg_catalog.to_regclass($1) AND conrelid <> confrelid)",
                              {table.qualified()}) == "t";
  to.exec((referenced ? "DELETE FROM ONLY " : "TRUNCATE ONLY ") + table.qualified(), deadline);
}

void copy_rows(postgres::Connection& from, postgres::Connection& to, const catalog::Table& table,
               const postgres::FencingToken& token, Deadline deadline) {
  const postgres::AsApplications as_applications(to, postgres::Computes::rows);
  postgres::Transaction transaction(to);
  to.exec("SET LOCAL session_replication_role = replica");
  lock(to, table, deadline);
  empty(to, table, deadline);
  {
    postgres::CopyIn in(to, snapshot::copy_in_sql(table, false));
    postgres::CopyOut out(from, snapshot::copy_out_sql(table));
    std::vector<char> block(kBlockBytes);
    std::size_t filled = 0;
    while (const auto bytes = out.read(std::span(block).subspan(filled), deadline)) {
      filled += bytes;
      if (filled == block.size()) {
        in.write(block, deadline);
        filled = 0;
      }
    }
    in.write(std::span(block).first(filled), deadline);
    if (const auto stored = in.finish(deadline); stored != out.rows()) {
      throw base::Error("the " + to.server() + " stored " + std::to_string(stored) + " of " +
                            std::to_string(out.rows()) + " rows",
                        "look for triggers on the table that are enabled ALWAYS or for REPLICA")
          .on(to.server())
          .at(table.display());
    }
  }
  token.assert_current(to);
  transaction.commit_or_throw();
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

std::vector<catalog::Table> unlogged_tables(const plan::Plan& plan, const catalog::Catalog& content) {
  std::vector<catalog::Table> tables;
  if (plan.unlogged_data) {
    std::ranges::copy_if(content.tables, std::back_inserter(tables),
                         [](const catalog::Table& table) { return table.unlogged && table.stores_rows(); });
  }
  return tables;
}

std::vector<std::string> Unstreamed::Changed::names(const std::vector<base::Oid>& objects) const {
  std::vector<std::string> all;
  for (const auto* table : tables) {
    all.push_back("unlogged table " + table->display());
  }
  std::string oids;
  for (std::size_t i = 0; i < std::min(objects.size(), kObjectsNamed); ++i) {
    oids += (oids.empty() ? "" : ", ") + std::to_string(objects[i]);
  }
  if (!objects.empty()) {
    all.push_back(std::to_string(objects.size()) + " large objects (" + oids +
                  (objects.size() > kObjectsNamed ? "..." : "") + ")");
  }
  for (const auto& name : matviews) {
    all.push_back("materialized view " + name);
  }
  return all;
}

// REFRESH sets relispopulated in the view's row of pg_class whatever it was: the row's xmin is that of the
// last REFRESH, or of a later ALTER or GRANT. VACUUM and ANALYZE write that row in place.
Unstreamed::Matviews Unstreamed::matviews(Context& context) const {
  const auto rows = context.servers.at(from_).exec(R"(
    SELECT n.nspname, c.relname, c.oid::text || ' ' || c.xmin::text
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'm' AND c.relispopulated
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                        WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid
                          AND e.objsubid = 0 AND e.deptype = 'e'))");
  Matviews states;
  for (int row = 0; row < rows.rows(); ++row) {
    if (context.plan.tables.matches(rows.text(row, 0) + "." + rows.text(row, 1))) {
      states[postgres::quote_qualified(rows.view(row, 0), rows.view(row, 1))] = rows.text(row, 2);
    }
  }
  return states;
}

// In the order in which they depend on each other; those that had no rows before come last.
std::vector<std::string> Unstreamed::refreshed_since(Context& context) const {
  auto now = matviews(context);
  std::vector<std::string> names;
  const auto changed = [&](const std::string& name, const std::string& state) {
    const auto before = seen_.find(name);
    return before == seen_.end() || before->second != state;
  };
  for (const auto& name : content_.matviews) {
    if (const auto state = now.find(name); state != now.end()) {
      if (changed(name, state->second)) {
        names.push_back(name);
      }
      now.erase(state);
    }
  }
  for (const auto& [name, state] : now) {
    if (changed(name, state)) {
      names.push_back(name);
    }
  }
  return names;
}

Unstreamed::Changed Unstreamed::look(Context& context, postgres::Connection& to, Deadline deadline) const {
  Changed changed;
  if (context.plan.unlogged_data) {
    for (const auto& table : content_.tables) {
      if (table.unlogged && table.stores_rows() && !alike(context.servers.at(from_), to, table, deadline)) {
        changed.tables.push_back(&table);
      }
    }
  }
  changed.matviews = refreshed_since(context);
  return changed;
}

void Unstreamed::refresh(Context& context, Link& link) {
  auto& from = context.servers.at(from_);
  auto to = context.servers.open(other(from_), "refresh");
  to.exec("SET synchronous_commit = on");
  seen_ = matviews(context);
  // What a REFRESH that ended before has read is there before we refresh.
  pass_marker(from, link, "refresh " + random_hex(4), Deadline::in(kReach));
  for (const auto* table : look(context, to, Deadline::never()).tables) {
    copy_rows(from, to, *table, context.token, Deadline::never());
    base::log::info("unlogged table " + table->display() + " was copied again");
  }
  auto roles = begun_roles(context.servers.target());
  objects_ = snapshot::LargeObjects(from_ == Side::target ? roles.inverse() : std::move(roles));
  objects_.refresh(from, to);
  stale_ = snapshot::refresh_matviews(to, content_.matviews);
  note_stale(context, other(from_), stale_);
  for (const auto& view : stale_) {
    if (context.plan.gates.unstreamed != plan::Unstreamed::defer) {
      throw base::Error("not begun: " + stale_text(view, other(from_)),
                        stale_remedy(view, other(from_)) +
                            "; or --unstreamed defer, which leaves it behind as it is there, by name")
          .on(to.server())
          .at(view.name)
          .with_exit(base::ExitCode::findings);
    }
  }
  // What was changed in that time: quickly over, and little is left for the pause.
  objects_.refresh(from, to);

  const auto began = base::Clock::now();
  look(context, to, Deadline::never());
  objects_.changed(from, to);
  const std::chrono::duration<double> took = base::Clock::now() - began;
  // Synchronous: what was seen of large objects is durable behind it; see LargeObjects.
  replication::stream::write_marker(from, "looked " + random_hex(4));
  if (took * 2 <= context.plan.gates.max_pause) {
    return;
  }
  unlookable_ = took.count();
  if (context.plan.gates.unstreamed != plan::Unstreamed::defer) {
    throw base::Error(
        "not begun: comparing unlogged tables and large objects takes " + state::seconds_text(took.count()) +
            ", more than half of max-pause",
        "a longer --max-pause; tables: {unlogged: no-data} or SET LOGGED; or --unstreamed defer, "
        "which leaves behind what changes in the last moment")
        .with_exit(base::ExitCode::findings);
  }
}

std::vector<std::string> Unstreamed::settle(Context& context, Deadline deadline) {
  auto& from = context.servers.at(from_);
  auto& to = context.servers.at(other(from_));
  const auto choice = context.plan.gates.unstreamed;
  if (unlookable_) {
    const Changed changed{{}, refreshed_since(context)};
    auto names = changed.names({});
    names.push_back(
        "what changed in unlogged tables and large objects since they were copied before the pause");
    std::ranges::move(leave_behind(changed.matviews), std::back_inserter(names));
    return names;
  }
  const auto changed = look(context, to, deadline);
  if (choice == plan::Unstreamed::copy) {
    for (const auto* table : changed.tables) {
      copy_rows(from, to, *table, context.token, deadline);
    }
    objects_.refresh(from, to, deadline);
    for (const auto& view : snapshot::refresh_matviews(to, changed.matviews, deadline)) {
      throw base::Error(stale_text(view, other(from_)), stale_remedy(view, other(from_)))
          .on(to.server())
          .at(view.name);
    }
    if (const auto names = changed.names({}); !names.empty()) {
      base::log::info("copied again under the fence: " + joined(names));
    }
    return {};
  }
  auto names = changed.names(objects_.changed(from, to, deadline));
  if (choice == plan::Unstreamed::refuse && !names.empty()) {
    throw base::Error("changed on the " + std::string(to_string(from_)) +
                          " since it was copied, and no stream carries it: " + joined(names),
                      "try again when nobody writes them; or --unstreamed copy, which copies them inside the "
                      "pause, or --unstreamed defer, which leaves them behind")
        .on(to_string(from_));
  }
  std::ranges::move(leave_behind(changed.matviews), std::back_inserter(names));
  return names;
}

// Those that changed, and those that couldn't be refreshed before the pause. Returns how these are named.
std::vector<std::string> Unstreamed::leave_behind(const std::vector<std::string>& changed) {
  std::vector<std::string> names;
  for (const auto& view : stale_) {
    names.push_back(stale_text(view, other(from_)));
  }
  for (const auto& name : changed) {
    if (std::ranges::find(stale_, name, &StaleMatview::name) == stale_.end()) {
      stale_.push_back({name, "left behind, as asked, with what it held before the pause"});
    }
  }
  return names;
}

}  // namespace cutover::steps
