// What in the tables can't be streamed, or not without a decision.

#include <algorithm>

#include "cutover/check/context.h"
#include "replication/catalog/triggers.h"
#include "replication/postgres/quote.h"

namespace cutover::check {
namespace {

// A published table without an identity makes the application's own UPDATE and DELETE fail: that is why this
// blocks wherever the table was ever changed in place.
void check_identity(Context& context, const catalog::Table& table) {
  const bool nothing = table.replica_identity == 'n';
  const std::string id = nothing ? "identity-nothing" : "keyless-table";
  const std::string what = nothing ? "has REPLICA IDENTITY NOTHING"
                           : table.has_deferrable_unique
                               ? "has no key that is checked at once (DEFERRABLE ones don't count)"
                           : table.replica_identity == 'i' ? "lost the index that was its replica identity"
                                                           : "has no primary key";
  const std::string alter = "ALTER TABLE " + table.qualified();
  const std::string remedy =
      nothing ? alter + " REPLICA IDENTITY DEFAULT;  or FULL where it has no primary key"
              : alter + " ADD PRIMARY KEY (...);  or " + alter +
                    " REPLICA IDENTITY USING INDEX ...;  or allow REPLICA IDENTITY FULL with --keyless full";
  if (table.replica_identity == 'f') {
    context.warns(
        context.source, id, table.display(),
        what + " and REPLICA IDENTITY FULL: each UPDATE and DELETE searches the whole table on the target",
        alter + " ADD PRIMARY KEY (...);  where it is large and often changed");
  } else if (context.input.keyless_full) {
    context.warns(context.source, id, table.display(),
                  what + ": REPLICA IDENTITY FULL will be set for the migration and put back",
                  "nothing, or " + alter + " ADD PRIMARY KEY (...);");
  } else if (table.updates > 0) {
    context.blocks(context.source, id, table.display(),
                   what + " and saw " + std::to_string(table.updates) +
                       " UPDATEs and DELETEs: once it is published they would fail in the application",
                   remedy);
  } else {
    context.warns(context.source, id, table.display(),
                  what + ": its UPDATE and DELETE would fail once it is published (none was seen so far)",
                  remedy);
  }
}

}  // namespace

void check_keys(Context& context) {
  for (const catalog::Table& table : context.catalog.tables) {
    if (!table.stores_rows() || table.unlogged)
      continue;
    if (table.keyless())
      check_identity(context, table);
    for (const catalog::Column& column : table.columns) {
      if (!column.generated || std::ranges::find(table.key, column.name) == table.key.end())
        continue;
      context.blocks(context.source, "generated-key", table.display(),
                     "column " + column.name +
                         " of its key is generated: the stream doesn't carry it, so no row could "
                         "be found again",
                     "ALTER TABLE " + table.qualified() + " REPLICA IDENTITY USING INDEX ...;  one without " +
                         postgres::quote_identifier(column.name));
    }
  }
}

// Under FULL every column belongs to the identity, and a virtual one can't be published: 18 refuses the
// application's UPDATE and DELETE then.
void check_virtual_columns(Context& context) {
  if (context.source.connection.server_major() < 18) {
    return;
  }
  const auto rows = context.source.connection.exec(
      "SELECT attrelid, attname FROM pg_catalog.pg_attribute WHERE attgenerated = 'v' AND NOT attisdropped");
  for (int row = 0; row < rows.rows(); ++row) {
    const auto* table = context.catalog.find(rows.oid(row, 0));
    if (table == nullptr || !table->stores_rows() || table->unlogged ||
        !(table->replica_identity == 'f' || (table->keyless() && context.input.keyless_full))) {
      continue;
    }
    context.blocks(context.source, "generated-key", table->display(),
                   "column " + rows.text(row, 1) +
                       " is generated and virtual: under REPLICA IDENTITY FULL the server would refuse the "
                       "application's UPDATE and DELETE",
                   "ALTER TABLE " + table->qualified() +
                       " ADD PRIMARY KEY (...), REPLICA IDENTITY DEFAULT;  or make the column STORED");
  }
}

// An enum's hash is that of its OID, which is another one on every server: rows would belong to other
// partitions.
void check_enum_hash_partitions(Context& context) {
  const auto rows = context.source.connection.exec(R"(
    WITH RECURSIVE hashed AS (
      SELECT p.partrelid, a.attname, a.atttypid AS type
        FROM pg_catalog.pg_partitioned_table p
        JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs)
       WHERE p.partstrat = 'h'
      UNION
      SELECT hashed.partrelid, hashed.attname, part.type
        FROM hashed JOIN pg_catalog.pg_type t ON t.oid = hashed.type
        CROSS JOIN LATERAL (
          SELECT t.typbasetype AS type WHERE t.typtype = 'd'
          UNION ALL SELECT t.typelem WHERE t.typelem <> 0
          UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
          UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                     WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        ) part)
    SELECT DISTINCT partrelid::pg_catalog.oid, attname FROM hashed JOIN pg_catalog.pg_type t ON t.oid = type
     WHERE t.typtype = 'e')");
  for (int row = 0; row < rows.rows(); ++row) {
    if (const auto* table = context.catalog.find(rows.oid(row, 0))) {
      context.blocks(
          context.source, "enum-hash-partition", table->display(),
          "is partitioned by the hash of the enum " + rows.text(row, 1) +
              ": an enum's hash differs from server to server, its rows would not fit their partitions",
          "--exclude it and its partitions, or partition it by another column first");
    }
  }
}

void check_unlogged(Context& context) {
  for (const catalog::Table& table : context.catalog.tables) {
    if (!table.unlogged || !table.stores_rows())
      continue;
    context.warns(
        context.source, "unlogged-tables", table.display(),
        context.input.unlogged_data
            ? "is UNLOGGED: its changes never reach the stream; it is copied again before the pause "
              "and compared inside it"
            : "is UNLOGGED: it will be empty on the target, as asked",
        "ALTER TABLE " + table.qualified() + " SET LOGGED;  where that takes too long (it delays a switch, " +
            bytes_text(static_cast<double>(table.bytes)) + " now), or --exclude it");
  }
}

// Those of unlogged tables lose their rows with their value.
void check_unlogged_sequences(Context& context) {
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'S' AND c.relpersistence = 'u' AND n.nspname <> 'pgcutover'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
                        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.deptype IN ('a', 'i') AND t.relpersistence = 'u')
     ORDER BY 1, 2)");
  for (int row = 0; row < rows.rows(); ++row) {
    context.warns(context.source, "sequence-unlogged", rows.text(row, 0) + "." + rows.text(row, 1),
                  "is UNLOGGED: a crash sets it back to its start; the switch will refuse it",
                  "ALTER SEQUENCE " + postgres::quote_qualified(rows.view(row, 0), rows.view(row, 1)) +
                      " SET LOGGED, on both sides once the target has it");
  }
}

void check_row_security(Context& context) {
  std::vector<std::string> oids;
  for (const catalog::Table& table : context.catalog.tables)
    oids.push_back(std::to_string(table.oid));
  const postgres::Result rows = context.source.connection.exec(
      R"(
    SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
     ORDER BY 1)",
      postgres::Params{postgres::array_literal(oids)});
  for (int i = 0; i < rows.rows(); ++i) {
    context.blocks(context.source, "row-security", rows.text(i, 0),
                   "row security applies to role " + context.source.facts.user + ": it can't read every row",
                   "ALTER ROLE " + postgres::quote_identifier(context.source.facts.user) + " BYPASSRLS;");
  }
}

void check_triggers(Context& context) {
  const postgres::Result rows = context.source.connection.exec(
      std::string(
          "SELECT c.oid, t.tgname, t.tgenabled FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c "
          "ON c.oid = t.tgrelid WHERE ") +
      catalog::kUserTrigger + " AND t.tgenabled IN ('A', 'R') ORDER BY c.oid, t.tgname");
  for (int i = 0; i < rows.rows(); ++i) {
    const catalog::Table* table = context.catalog.find(rows.oid(i, 0));
    if (table == nullptr)
      continue;
    const std::string mode = rows.view(i, 2) == "A" ? "ALWAYS" : "REPLICA";
    context.warns(
        context.source, "trigger-fires-always", table->display() + "." + rows.text(i, 1),
        "trigger " + rows.text(i, 1) + " is ENABLE " + mode +
            ": it sleeps on the side that the stream writes to, where its effects arrive by themselves",
        "nothing: its mode is put back when the stream no longer writes there");
  }
}

void check_outside_stream(Context& context) {
  if (context.catalog.large_objects > 0) {
    context.warns(context.source, "large-objects", "",
                  std::to_string(context.catalog.large_objects) +
                      " large objects: the stream doesn't carry them, they are copied again before the pause "
                      "and compared "
                      "inside it",
                  "`lo_unlink` those that nobody needs (vacuumlo): comparing them delays a switch");
  }
  if (!context.catalog.matviews.empty()) {
    context.warns(context.source, "matviews", "",
                  std::to_string(context.catalog.matviews.size()) + " materialized views (" +
                      list_text(context.catalog.matviews) + "): refreshed on the target before the pause",
                  "nothing; don't REFRESH large ones on the source while a switch begins: they are refreshed "
                  "again inside the pause");
  }
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'f'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                          AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0)
     ORDER BY 1)");
  for (int i = 0; i < rows.rows(); ++i) {
    context.warns(context.source, "foreign-tables", rows.text(i, 0),
                  "is a foreign table: its definition moves, its rows stay where they are",
                  "make sure that the target reaches the foreign server, with its user mappings");
  }
}

}  // namespace cutover::check
