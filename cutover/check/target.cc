// What the target holds before anything begins: nothing, tables that fit, or what --reset-target takes away.

#include <algorithm>
#include <set>

#include "cutover/check/context.h"
#include "replication/catalog/fit.h"
#include "replication/catalog/left_out.h"
#include "replication/postgres/quote.h"

namespace cutover::check {
namespace {

constexpr std::size_t kClashesNamed = 20;
constexpr std::size_t kNamed = 1'000;  // of what is to be dropped: everything, as far as a person can read

std::string sessions_text(Side& side) {
  const auto sessions = catalog::foreign_sessions(side.connection).size();
  return sessions == 0 ? "" : "; " + std::to_string(sessions) + " session(s) of others are connected to it";
}

// "table public.a": neither the system's, nor an extension's, nor ours. Functions with or without arguments.
std::vector<std::string> objects_of(postgres::Connection& connection, bool arguments) {
  const postgres::Result rows = connection.exec(R"(
    WITH spaces AS (
      SELECT oid, nspname FROM pg_catalog.pg_namespace
       WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pgcutover') AND nspname !~ '^pg_(toast|temp_)'
    ), objects AS (
      SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, c.oid, relnamespace AS space, relname AS name,
             CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'matview'
                          WHEN 'c' THEN 'type' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind
        FROM pg_catalog.pg_class c WHERE relkind IN ('r', 'p', 'S', 'v', 'm', 'f', 'c')
      UNION ALL
      SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, pronamespace, proname || CASE WHEN $1::boolean
               THEN '(' || pg_catalog.pg_get_function_identity_arguments(oid) || ')' ELSE '' END, 'function'
        FROM pg_catalog.pg_proc
      UNION ALL
      SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid, typnamespace, typname, 'type'
        FROM pg_catalog.pg_type
       WHERE typtype IN ('e', 'd', 'r') OR (typtype = 'b' AND typelem = 0)
    ), everything AS (
      SELECT o.class, o.oid, o.kind, s.nspname || '.' || o.name AS name FROM objects o JOIN spaces s ON s.oid = o.space
      UNION ALL
      SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, 'schema', nspname FROM spaces WHERE nspname <> 'public'
      UNION ALL
      SELECT 'pg_catalog.pg_largeobject'::pg_catalog.regclass, oid, 'large object', oid::text
        FROM pg_catalog.pg_largeobject_metadata
    )
    SELECT o.kind || ' ' || o.name FROM everything o
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0 AND d.deptype = 'e')
     ORDER BY o.kind = 'table' DESC, 1)",
                                                {arguments ? "true" : "false"});
  std::vector<std::string> names;
  for (int i = 0; i < rows.rows(); ++i)
    names.push_back(rows.text(i, 0));
  return names;
}

// What the source's would take the place of: names that a dump would make, tables that are left out aside,
// and every large object, since those that the source doesn't have are removed.
std::vector<std::string> in_the_way(Context& context) {
  const auto all = objects_of(context.source.connection, true);
  std::set<std::string> here(all.begin(), all.end());
  for (const auto& relation : catalog::left_out(context.source.connection, context.input.filter)) {
    for (const char* kind : {"table ", "view ", "matview ", "foreign table "})
      here.erase(kind + relation.display());
  }
  auto there = objects_of(context.target.connection, true);
  std::erase_if(there, [&](const std::string& name) {
    return !here.contains(name) && !name.starts_with("large object ");
  });
  return there;
}

// How many of the source's tables are there, how many of these fit, and what that means.
std::string tables_text(Context& context) {
  const auto there = catalog::load(context.target.connection, context.input.filter);
  catalog::Catalog wanted = context.catalog;
  std::erase_if(wanted.tables,
                [&](const catalog::Table& table) { return there.find(table.schema, table.name) == nullptr; });
  const auto all = context.catalog.tables.size(), found = wanted.tables.size();
  if (found == 0)
    return "";
  std::set<std::string> unfit;
  for (const auto& misfit :
       catalog::misfits(context.source.connection, context.target.connection, wanted, there)) {
    unfit.insert(misfit.object + " " + misfit.message);
  }
  return "; " + std::to_string(found) + " of the source's " + std::to_string(all) + " table(s) are there" +
         (unfit.empty() ? ", empty and like the source's" : ": " + list_text({unfit.begin(), unfit.end()}));
}

void check_existing_tables(Context& context) {
  const auto there = catalog::load(context.target.connection, context.input.filter);
  for (const auto& misfit :
       catalog::misfits(context.source.connection, context.target.connection, context.catalog, there)) {
    using Kind = catalog::Misfit::Kind;
    if (misfit.kind == Kind::holds_rows && context.input.reset_target) {
      context.warns(context.target, "reset-target", misfit.object,
                    misfit.message + ": --reset-target will delete them" + sessions_text(context.target),
                    "leave --reset-target out where they are still needed");
    } else {
      context.blocks(context.target,
                     misfit.kind == Kind::differs      ? "target-differs"
                     : misfit.kind == Kind::holds_rows ? "target-not-empty"
                                                       : "missing-privilege",
                     misfit.object, misfit.message, misfit.remedy);
    }
  }
}

}  // namespace

std::vector<std::string> target_objects(postgres::Connection& target) {
  return objects_of(target, false);
}

std::vector<std::string> objects_to_drop(postgres::Connection& target) {
  auto names = target_objects(target);
  const postgres::Result rows = target.exec(R"(
    SELECT pg_catalog.pg_describe_object(o.class, o.oid, 0) FROM (
      SELECT tableoid AS class, oid FROM pg_catalog.pg_operator UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_opclass UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_opfamily UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_collation UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_conversion UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_ts_config UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_ts_dict UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_ts_parser UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_ts_template UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_cast UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_language UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_am UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_event_trigger UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_foreign_server UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_foreign_data_wrapper UNION ALL
      SELECT tableoid, oid FROM pg_catalog.pg_default_acl) o
     WHERE o.oid >= 16384 AND NOT EXISTS (
             SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0
                AND d.deptype IN ('e', 'i')) ORDER BY 1)");
  for (int i = 0; i < rows.rows(); ++i)
    names.push_back(rows.text(i, 0));
  return names;
}

void check_target_content(Context& context) {
  if (context.resuming)
    return;
  if (context.input.content == plan::Content::data_only) {
    check_existing_tables(context);
    return;
  }
  const auto names = context.input.reset_target ? objects_to_drop(context.target.connection)
                                                : target_objects(context.target.connection);
  if (names.empty())
    return;
  const std::string database = context.target.facts.database;
  const std::string count = std::to_string(names.size()) + " object(s): ";
  const auto clashing = context.input.reset_target ? std::vector<std::string>() : in_the_way(context);
  if (context.input.reset_target) {
    context.warns(
        context.target, "reset-target", database,
        "--reset-target will drop " + count + list_text(names, kNamed) + sessions_text(context.target),
        "leave --reset-target out where any of it is still needed");
    return;
  }
  context.blocks(
      context.target, "target-not-empty", database,
      "the target holds " + count + list_text(names) + tables_text(context),
      "give an empty database: CREATE DATABASE ... TEMPLATE template0; or --data-only, where all of the "
      "source's tables are there, made beforehand and empty; or --reset-target, which drops it all");
  if (!clashing.empty()) {  // accepting that there is something doesn't make room for it
    context.blocks(
        context.target, "target-differs", database,
        std::to_string(clashing.size()) + " object(s) are there that the source's would take the place of: " +
            list_text(clashing, kClashesNamed),
        "drop or rename these, and `run` makes all of them; or make what is missing yourself and use "
        "--data-only; or --exclude what shall stay as it is");
  }
}

void check_indexes_left(Context& context) {
  if (!context.resuming) {
    if (context.input.indexes_later) {
      context.warns(context.target, "indexes-missing", "",
                    "secondary indexes will be left for later: no switch before they are built",
                    "pgcutover run --indexes now  when the copy is through");
    }
    return;
  }
  const auto left =
      context.target.connection.maybe_value("SELECT value FROM pgcutover.fact WHERE key = 'indexes.left'");
  if (left != "yes") {
    return;
  }
  const auto missing =
      catalog::missing_indexes(context.source.connection, context.target.connection, context.catalog);
  if (!missing.empty()) {
    context.warns(context.target, "indexes-missing", "",
                  std::to_string(missing.size()) +
                      " indexes are left for later and not built yet: " + list_text(missing),
                  "stop `pgcutover run` and call it with --indexes now: no switch before they are built");
  }
}

}  // namespace cutover::check
