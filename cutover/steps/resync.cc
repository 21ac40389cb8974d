#include "cutover/steps/resync.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "cutover/steps/copy_teller.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/publication_watch.h"
#include "cutover/steps/throttle.h"
#include "replication/apply/twins.h"
#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/schema.h"
#include "replication/stream/publication.h"

namespace cutover::steps {
namespace {

namespace snapshot = replication::snapshot;
namespace stream = replication::stream;

constexpr std::string_view kState = "resync";
constexpr std::string_view kFresh = "resync.new.";  // a fact for each table that is taken in
constexpr base::milliseconds kPublish{120'000};

const catalog::Table& root_of(const catalog::Catalog& content, const catalog::Table& table) {
  const auto* root = table.partition ? content.find(table.root) : nullptr;
  return root == nullptr ? table : *root;
}

// By itself or with its root; `published` is sorted.
bool streamed(const catalog::Catalog& content, const std::vector<std::string>& published,
              const catalog::Table& table) {
  return std::ranges::binary_search(published, root_of(content, table).qualified()) ||
         std::ranges::binary_search(published, table.qualified());
}

// Tables that nobody asked for stay out, also where the plan's filter would let them in.
std::vector<catalog::Table> streamed_tables(const catalog::Catalog& content,
                                            const std::vector<std::string>& published) {
  std::vector<catalog::Table> tables;
  std::ranges::copy_if(content.tables, std::back_inserter(tables),
                       [&](const auto& table) { return streamed(content, published, table); });
  return tables;
}

// Between tables that are moved: the others aren't on the target, and theirs follow when they are taken in.
std::vector<catalog::ForeignKey> streamed_keys(const catalog::Catalog& content,
                                               const std::vector<std::string>& published) {
  std::set<std::string> names;
  for (const auto& table : streamed_tables(content, published)) {
    names.insert(table.qualified());
    names.insert(root_of(content, table).qualified());  // before 13 only its leaves are published
  }
  std::vector<catalog::ForeignKey> keys;
  std::ranges::copy_if(content.foreign_keys, std::back_inserter(keys), [&](const auto& key) {
    return names.contains(key.table) && (key.to_extension || names.contains(key.references));
  });
  return keys;
}

std::vector<catalog::Table> fresh_tables(Context& context, const catalog::Catalog& content) {
  const auto noted = read_facts(context.servers.target(), kFresh);
  std::vector<catalog::Table> tables;
  for (const auto& table : content.tables) {
    const auto note = noted.find(std::string(kFresh) + table.qualified());
    if (note != noted.end() && note->second == "yes") {
      tables.push_back(table);
    }
  }
  return tables;
}

// A partition goes where its root goes; what was restored before isn't restored again.
catalog::TableFilter only(const catalog::Catalog& content, const std::vector<catalog::Table>& tables) {
  catalog::TableFilter filter;
  for (const auto& table : tables) {
    filter.include.push_back(catalog::literal_pattern(root_of(content, table).display()));
  }
  return filter;
}

// Partitions of a table that is on the target already take their indexes and constraints from it: a dump
// would make them twice. The others come with everything a dump knows.
void create(Context& context, const catalog::Catalog& content, const std::vector<catalog::Table>& tables) {
  auto& source = context.servers.source();
  auto& target = context.servers.target();
  const auto there = catalog::load(target, context.plan.tables);
  const auto roles = begun_roles(target);
  for (const auto kind : {catalog::TableKind::partitioned, catalog::TableKind::ordinary}) {
    for (const auto& table : tables) {
      const auto& root = root_of(content, table);
      if (!table.partition || table.kind != kind || there.find(root.schema, root.name) == nullptr ||
          there.find(table.schema, table.name) != nullptr) {
        continue;
      }
      const auto row =
          source.one_row(R"(
        SELECT pg_catalog.format('CREATE TABLE %s PARTITION OF %I.%I %s%s', $2::text, n.nspname, p.relname,
                 pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                 ' PARTITION BY ' || pg_catalog.pg_get_partkeydef(c.oid)),
               pg_catalog.pg_get_userbyid(c.relowner)
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
          JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
         WHERE c.oid = $1::bigint::oid)",
                         postgres::Params().integer(table.oid).text(std::string_view(table.qualified())));
      postgres::Transaction transaction(target);
      target.exec(row.text(0, 0));
      target.exec("ALTER TABLE " + table.qualified() + " OWNER TO " +
                  postgres::quote_identifier(roles.at(row.text(0, 1))));
      context.token.assert_current(target);
      transaction.commit_or_throw();
      base::log::warn(table.display() + " was made on the target as a partition of " + root.display() +
                      ": indexes, triggers and rights of its own are not copied");
    }
  }
}

// With everything a dump knows: those that aren't partitions of a table that was there before.
void restore(Context& context, const catalog::Catalog& content, const std::vector<catalog::Table>& tables,
             bool post_data) {
  if (tables.empty()) {
    return;
  }
  const auto tools = snapshot::SchemaTools::locate(
      context.plan.pg_bindir, context.servers.source().server_major(), context.servers.stop());
  const snapshot::SchemaArchive archive(tools, context.servers.info(Side::source, "dump"), "",
                                        only(content, tables), context.servers.stop(), {},
                                        begun_roles(context.servers.target()));
  const auto target = context.servers.info(Side::target, "restore");
  if (post_data) {
    archive.restore_post_data(target, context.token, context.plan.index_jobs);
  } else {
    archive.restore_pre_data(target, context.token);
  }
}

// What the note of the resync says is new, in its two kinds.
struct Fresh {
  std::vector<catalog::Table> tables;
  std::vector<catalog::Table> partitions;  // of roots that were there before
};

Fresh sort_out(const std::vector<catalog::Table>& all) {
  std::set<base::Oid> oids;
  for (const auto& table : all) {
    oids.insert(table.oid);
  }
  Fresh fresh;
  for (const auto& table : all) {
    (table.partition && !oids.contains(table.root) ? fresh.partitions : fresh.tables).push_back(table);
  }
  return fresh;
}

std::string listed(const std::vector<catalog::Table>& tables) {
  std::string text;
  for (const auto& table : tables) {
    text += (text.empty() ? "" : ", ") + table.display();
  }
  return text;
}

}  // namespace

std::string Resync::text() const {
  return (again.empty() ? "" : "copied again: " + listed(again)) +
         (again.empty() || fresh.empty() ? "" : "; ") + (fresh.empty() ? "" : "taken in: " + listed(fresh));
}

Resync plan_resync(Context& context, const std::vector<std::string>& patterns) {
  auto& source = context.servers.source();
  const auto content = catalog::load(source, context.plan.tables);
  const auto published = stream::published_tables(source, publication_name(context.plan.name, Side::source));
  const auto there = catalog::load(context.servers.target(), context.plan.tables);
  const auto troubled = troubled_tables(context.servers.target());
  Resync resync;
  std::set<base::Oid> chosen;
  for (const auto& pattern : patterns) {
    const catalog::TableFilter filter{{pattern}, {}};
    bool found = false;
    for (const auto& table : content.tables) {
      if (!filter.matches(table.display()) && !filter.matches(root_of(content, table).display())) {
        continue;
      }
      found = true;
      if (table.unlogged && table.stores_rows()) {
        throw base::UsageError(table.display() + " is unlogged: no stream would keep it up to date",
                               "nothing: it is copied again before each switch");
      }
      if (chosen.insert(table.oid).second) {
        // Before 13 a publication has leaves instead of roots.
        const bool known = there.find(table.schema, table.name) != nullptr &&
                           (streamed(content, published, table) || troubled.contains(table.oid) ||
                            table.kind == catalog::TableKind::partitioned);
        (known ? resync.again : resync.fresh).push_back(table);
      }
    }
    if (!found) {
      throw base::UsageError(
          "no table that this migration moves is like " + pattern,
          "give schema.table as on the source; see tables: {include, exclude} in the plan");
    }
  }
  return resync;
}

void create_fresh_tables(Context& context, const Resync& resync) {
  auto& source = context.servers.source();
  const auto content = catalog::load(source, context.plan.tables);
  const auto fresh = sort_out(resync.fresh);
  create(context, content, fresh.partitions);
  restore(context, content, fresh.tables, false);
}

void begin_resync(Context& context, const Resync& resync) {
  auto& target = context.servers.target();
  postgres::Transaction transaction(target);
  for (const auto& table : resync.fresh) {
    put_fact(target, context.token, std::string(kFresh) + table.qualified(), "yes");
  }
  put_fact(target, context.token, "verify.equal", "not since the last resync");
  put_fact(target, context.token, kState, "pending");
  for (const auto& table : resync.again) {
    target.exec("DELETE FROM pgcutover.table_copy WHERE schema = $1 AND name = $2",
                {table.schema, table.name});
  }
  ask_anew(context, resync.again);
  ask_anew(context, resync.fresh);
  const std::string direction(direction_from(Side::source));
  replication::apply::unpair_tables(target, direction, resync.again);
  replication::apply::unpair_tables(target, direction, resync.fresh);
  context.token.assert_current(target);
  transaction.commit_or_throw();
  put_event(target, context.token, kState, "began", resync.text());
}

bool resync_begun(postgres::Connection& target) {
  return read_fact(target, kState) == "pending";
}

bool resync_pending(Context& context) {
  return resync_begun(context.servers.target());
}

void copy_resync(Context& context, Publisher& publisher, const base::Stop& stop) {
  auto& source = context.servers.source();
  auto content = catalog::load(source, context.plan.tables);
  const auto name = publication_name(context.plan.name, Side::source);
  publish_anew(context, content, kPublish);
  const auto all = fresh_tables(context, content);
  catalog::Catalog added;
  added.tables = all;
  set_identities(context, added, Side::source);
  publish_missing(context, Side::source, added.published(source.server_major()), kPublish);
  content = catalog::load(source, context.plan.tables);
  base::fault_point("resync.published");
  const auto tables = streamed_tables(content, stream::published_tables(source, name));
  snapshot::CopyOptions options;
  options.source = context.servers.info(Side::source, "copy");
  options.target = context.servers.info(Side::target, "copy");
  // Assigned now: whatever was applied before the stream rested, and whatever wrote before a table was
  // published, had ended before a snapshot that starts here.
  options.slot_xid = assign_xid(source);
  options.jobs = context.plan.copy_jobs;
  Throttle throttle(context, publisher);
  options.pace = throttle.begin_copy(true);
  options.token = context.token;
  publisher.update(
      [](state::Status& status) {
        status.state = "copying";  // also where an earlier run began it
        status.step = kState;
      },
      true);
  CopyTeller teller(publisher, std::string(kState), Totals::what_is_left);
  options.progress = [&](const snapshot::CopyProgress& progress) { teller.tell(progress); };
  snapshot::copy_tables(options, tables, stop);
  teller.end();
  base::fault_point("resync.copied");
  restore(context, content, sort_out(all).tables, true);
}

void end_resync(Context& context) {
  auto& target = context.servers.target();
  auto& source = context.servers.source();
  const auto content = catalog::load(source, context.plan.tables);
  const auto published = stream::published_tables(source, publication_name(context.plan.name, Side::source));
  catalog::Catalog added;
  added.tables = fresh_tables(context, catalog::load(target, context.plan.tables));
  if (!added.tables.empty()) {
    publish_missing(context, Side::target, added.published(target.server_major()), kPublish);
  }
  auto session = context.servers.open(Side::target, "restore");
  for (const auto& key : snapshot::ensure_foreign_keys(session, streamed_keys(content, published))) {
    base::log::warn("foreign key " + key + " is violated by the source's own data: it stays NOT VALID");
  }
  for (const auto& [key, value] : read_facts(target, kFresh)) {
    put_fact(target, context.token, key, "no more");
  }
  put_fact(target, context.token, kState, "done");
  put_event(target, context.token, kState, "done", "");
}

}  // namespace cutover::steps
