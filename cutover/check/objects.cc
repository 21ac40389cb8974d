// What a database holds besides rows: what needs tables that are left out, event triggers, large
// values.

#include <algorithm>

#include "cutover/check/context.h"
#include "replication/catalog/left_out.h"
#include "replication/postgres/quote.h"
#include "replication/snapshot/stream_objects.h"

namespace cutover::check {
namespace {

using postgres::quote_identifier;

// RLS hides rows from everybody but superusers, BYPASSRLS and, where it isn't forced, the owner and its
// members.
bool sees_every_row(const Side& side) {
  return side.facts.superuser ||
         side.connection.one_value(
             "SELECT rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user") == "t";
}

}  // namespace

void check_left_out(Context& context) {
  const auto gone = catalog::left_out(context.source.connection, context.input.filter);
  for (const catalog::Need& need : catalog::needs_of(context.source.connection, gone)) {
    if (need.foreign_key) {
      context.warns(
          context.source, "needs-left-out", need.object,
          need.object + " refers to " + need.needs + ", which is left out: it isn't made on the target",
          "nothing, or move " + need.needs + " too");
    } else {
      context.blocks(
          context.source, "needs-left-out", need.object,
          need.object + " needs " + need.needs + ", which is left out: the target can't make it",
          "move " + need.needs + " too, or leave this out as well (--exclude takes views), or drop it");
    }
  }
}

// Ours are CREATE, ALTER and DROP of schemas, tables, publications...: one that fires there may refuse or
// change them.
void check_event_triggers(Context& context) {
  for (Side* side : {&context.source, &context.target}) {
    if (side == &context.target && context.resuming) {
      continue;  // the source's are among them by now
    }
    const postgres::Result rows = side->connection.exec(R"(
      SELECT evtname, evtevent, coalesce(pg_catalog.array_to_string(evttags, ', '), '') FROM pg_catalog.pg_event_trigger t
       WHERE evtenabled <> 'D' AND evtevent <> 'login' AND (evttags IS NULL OR EXISTS (SELECT FROM unnest(evttags) tag
               WHERE tag ~ '^(CREATE|ALTER|DROP|COMMENT|GRANT|REVOKE|REFRESH)'))
       ORDER BY evtname)");
    for (int i = 0; i < rows.rows(); ++i) {
      const std::string tags = rows.text(i, 2);
      context.warns(
          *side, "event-triggers", rows.text(i, 0),
          "event trigger " + rows.text(i, 0) + " on " + rows.text(i, 1) +
              (tags.empty() ? "" : " (" + tags + ")") + " may fire for our own DDL" +
              (side->is_source() ? ", here and, once it is restored, on the target" : ""),
          "ALTER EVENT TRIGGER " + quote_identifier(rows.view(i, 0)) +
              " DISABLE;  for the time of the migration, where it refuses or changes what others do");
    }
  }
}

void check_publications(Context& context) {
  if (!context.restores()) {
    return;
  }
  const bool copied = context.input.copy_publications;
  const auto rows = context.source.connection.exec(
      "SELECT pubname, puballtables OR " +
          std::string(context.source.facts.version >= 150000
                          ? "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace WHERE pnpubid = p.oid)"
                          : "false") +
          " FROM pg_catalog.pg_publication p WHERE NOT starts_with(pubname, $1) ORDER BY 1",
      {std::string(replication::snapshot::kOwnPublications)});
  std::vector<std::string> names;
  for (int i = 0; i < rows.rows(); ++i) {
    names.push_back(rows.text(i, 0));
    if (copied && rows.boolean(i, 1) && !context.target.facts.superuser) {
      context.warns(
          context.target, "publications", rows.text(i, 0),
          "publication " + rows.text(i, 0) + " is for all tables or a schema: only a superuser may make it",
          "make it on the target by hand after the switch");
    }
  }
  if (!names.empty()) {
    context.warns(
        context.source, "publications", "",
        std::to_string(names.size()) + " publication(s) (" + list_text(names) +
            (copied ? ") will be made on the target too; who subscribes to them stays with this server"
                    : ") are not moved"),
        copied ? "move each subscriber yourself: docs/content.md#publications"
               : "--publications copy makes them on the target");
  }
}

void check_subscriptions(Context& context) {
  if (!context.restores()) {
    return;
  }
  const auto rows = context.source.connection.exec(
      "SELECT subname FROM pg_catalog.pg_subscription WHERE subdbid = "
      "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) ORDER BY 1");
  std::vector<std::string> names;
  for (int i = 0; i < rows.rows(); ++i) {
    names.push_back(rows.text(i, 0));
  }
  if (names.empty()) {
    return;
  }
  const auto listed = std::to_string(names.size()) + " subscription(s) (" + list_text(names) + ")";
  if (!context.input.copy_subscriptions) {
    context.warns(context.source, "subscriptions", "", listed + " are not moved",
                  "--subscriptions copy-disabled makes them on the target, disabled and without a slot");
  } else if (!context.source.facts.superuser || !context.target.facts.superuser) {
    context.warns(context.source, "subscriptions", "",
                  listed + " can't be moved: only superusers on both sides may read and make them",
                  "make them on the target by hand: docs/content.md#subscriptions");
  } else {
    context.warns(context.source, "subscriptions", "",
                  listed + " will be made on the target, disabled and without a slot",
                  "hand each over as docs/content.md#subscriptions says, never by ENABLE alone");
  }
}

void check_target_row_security(Context& context) {
  if (sees_every_row(context.target)) {
    return;
  }
  const postgres::Result rows = context.source.connection.exec(
      "SELECT oid FROM pg_catalog.pg_class WHERE relforcerowsecurity AND relrowsecurity AND relkind IN ('r', "
      "'p') "
      "ORDER BY oid");
  for (int i = 0; i < rows.rows(); ++i) {
    if (const catalog::Table* table = context.catalog.find(rows.oid(i, 0))) {
      context.blocks(context.target, "row-security", table->display(),
                     "has FORCE ROW LEVEL SECURITY: on the target it would hide rows from role " +
                         context.target.facts.user,
                     "ALTER ROLE " + quote_identifier(context.target.facts.user) + " BYPASSRLS;");
    }
  }
}

void check_inherited_order(Context& context) {
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT DISTINCT c.oid FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
      JOIN pg_catalog.pg_attribute own ON own.attrelid = c.oid AND own.attinhcount = 0 AND own.attnum > 0
       AND NOT own.attisdropped
      JOIN pg_catalog.pg_attribute inherited ON inherited.attrelid = c.oid AND inherited.attinhcount > 0
       AND inherited.attnum > own.attnum
     WHERE NOT c.relispartition ORDER BY c.oid)");
  for (int i = 0; i < rows.rows(); ++i) {
    if (const catalog::Table* table = context.catalog.find(rows.oid(i, 0))) {
      context.warns(
          context.source, "inherited-column-order", table->display(),
          "inherits columns that come after its own: pg_dump puts them first, so INSERT without a list of "
          "columns and SELECT * mean other columns on the target",
          "name the columns in the application's statements");
    }
  }
}

void check_extension_tables(Context& context) {
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT e.extname, n.nspname || '.' || c.relname FROM pg_catalog.pg_extension e
      CROSS JOIN LATERAL pg_catalog.unnest(e.extconfig) k(oid) JOIN pg_catalog.pg_class c ON c.oid = k.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') ORDER BY 1, 2)");
  for (int i = 0; i < rows.rows(); ++i) {
    context.warns(context.source, "extension-tables", rows.text(i, 1),
                  "is a table of extension " + rows.text(i, 0) +
                      " with rows of yours: they are copied once with the schema, changes aren't streamed",
                  "leave them alone until the switch, or make the same changes on both servers");
  }
}

// The largest value that a look at single pages of the table's TOAST meets: one of 100 MB fills thousands of
// them. Compressed values are larger still once they are read. Needs the right to read pg_toast, which
// superusers have.
void check_large_rows(Context& context) {
  constexpr std::int64_t kChunkBytes = 1996;
  if (!context.source.facts.superuser) {
    return;
  }
  for (const catalog::Table& table : context.catalog.tables) {
    if (!table.stores_rows() || table.bytes < context.input.large_row_bytes) {
      continue;
    }
    const auto toast = context.source.connection.maybe_value(
        "SELECT t.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid "
        "WHERE "
        "c.oid = $1::pg_catalog.oid",
        {std::to_string(table.oid)});
    if (!toast) {
      continue;
    }
    const std::string name = "pg_toast." + quote_identifier(*toast);
    const auto chunks = context.source.connection.maybe_value(
        "SELECT max(chunk_seq) + 1 FROM " + name +
        " WHERE ctid = ANY (ARRAY(SELECT ('(' || (g * (pg_catalog.pg_relation_size('" + name +
        "') / pg_catalog.current_setting('block_size')::bigint) / 2000) || ',' || item || "
        "')')::pg_catalog.tid FROM "
        "generate_series(0, 1999) g, generate_series(1, 2) item))");
    const std::int64_t bytes = chunks ? std::stoll(*chunks) * kChunkBytes : 0;
    if (bytes >= context.input.large_row_bytes) {
      context.warns(
          context.source, "large-rows", table.display(),
          "holds a value of at least " + bytes_text(static_cast<double>(bytes)) +
              ": the tool needs 3.5 times the largest row in memory, for each job that has one at hand",
          "use fewer --jobs where memory is short");
    }
  }
}

}  // namespace cutover::check
