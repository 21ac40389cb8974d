#include "replication/apply/target_tables.h"

#include <algorithm>
#include <map>
#include <optional>

#include "replication/apply/quiet.h"
#include "replication/apply/row_type.h"
#include "replication/apply/twins.h"
#include "replication/base/check.h"
#include "replication/catalog/evolution.h"
#include "replication/catalog/types.h"
#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

using pgoutput::CachedRelation;
using pgoutput::ReplicaIdentity;
using postgres::quote_identifier;

// Types below are built in: the same OID means the same type on every server.
constexpr base::Oid kFirstUserOid = 16384;

// A unique index that identifies rows: complete, valid, no expressions, no predicate.
struct UniqueIndex {
  bool primary = false, immediate = true, not_null = true;
  std::vector<std::pair<std::string, std::string>> columns;  // name, equality operator
};

// `kind` and oids; throws where there is no such table.
void load_identity(postgres::Connection& connection, const CachedRelation& relation, TargetTable& table) {
  const auto result = connection.exec(
      "SELECT c.oid, c.reltype, t.typarray, c.relkind FROM pg_catalog.pg_class c "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = "
      "c.reltype "
      "WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')",
      postgres::Params{relation.schema, relation.name});
  if (result.rows() == 0) {
    throw TargetMisfit(
        "table " + table.display + " is in the stream but doesn't exist here",
        "pgcutover resync --table " + table.display +
            " takes it in with its rows (made by hand it gets only what is written from now on)")
        .on(connection.server())
        .at("table " + table.display);
  }
  table.oid = result.oid(0, 0);
  table.row_type = result.oid(0, 1);
  table.array_type = result.oid(0, 2);
  table.partitioned = result.view(0, 3) == "p";
}

// A table that has another's name by now is not that one.
void check_twin(postgres::Connection& connection, const CachedRelation& relation, const TargetTable& table,
                const Twin& twin) {
  if (twin.schema == relation.schema && twin.name == relation.name) {
    return;
  }
  const auto now = postgres::quote_qualified(twin.schema, twin.name);
  std::string rename = twin.schema == relation.schema
                           ? ""
                           : "ALTER TABLE " + now + " SET SCHEMA " + quote_identifier(relation.schema);
  if (twin.name != relation.name) {
    rename += (rename.empty() ? "" : "; ") + std::string("ALTER TABLE ") +
              postgres::quote_qualified(relation.schema, twin.name) + " RENAME TO " +
              quote_identifier(relation.name);
  }
  TargetMisfit misfit(
      "table " + table.display + " was renamed where the changes come from: here it is still " + now,
      rename + ";  where names change places, with the others' in one transaction");
  misfit.on(connection.server()).at("table " + table.display);
  misfit.renamed = true;
  throw misfit;
}

void load_columns(postgres::Connection& connection, TargetTable& table) {
  postgres::Params params;
  params.integer(table.oid);
  const auto result = connection.exec(
      "WITH RECURSIVE base(number, type) AS (SELECT attnum, atttypid FROM pg_catalog.pg_attribute "
      "WHERE attrelid = $1::pg_catalog.oid AND attnum > 0 AND NOT attisdropped "
      "UNION ALL SELECT b.number, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type "
      "WHERE t.typtype = 'd') "
      "SELECT a.attname, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod), "
      "a.attidentity, a.attgenerated <> '', b.type, pg_catalog.format_type(b.type, -1), t.typtype, "
      "coalesce((SELECT e.oid FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid), 0) "
      "FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd' "
      "JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::pg_catalog.oid AND a.attnum = b.number "
      "ORDER BY a.attnum",
      params);
  for (int i = 0; i < result.rows(); ++i) {
    TargetColumn column;
    column.name = result.text(i, 0);
    column.type = result.oid(i, 1);
    column.typmod = static_cast<std::int32_t>(result.integer(i, 2));
    column.type_name = result.text(i, 3);
    column.identity = result.view(i, 4).empty() ? '\0' : result.view(i, 4)[0];
    column.generated = result.boolean(i, 5);
    column.portable = catalog::portable_binary(result.view(i, 8).at(0), result.oid(i, 6), result.oid(i, 9));
    if (result.oid(i, 6) != column.type) {
      column.sent_as = result.oid(i, 6);
      column.sent_as_name = result.text(i, 7);
      column.domain = true;
    }
    table.columns.push_back(std::move(column));
  }
}

std::vector<UniqueIndex> load_unique_indexes(postgres::Connection& connection, base::Oid table) {
  postgres::Params params;
  params.integer(table);
  const auto result = connection.exec(
      "SELECT i.indexrelid, i.indisprimary, i.indimmediate, a.attname, a.attnotnull, n.nspname, o.oprname "
      "FROM pg_catalog.pg_index i "
      "CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]), "
      "pg_catalog.unnest(i.indclass::pg_catalog.oid[])) "
      "WITH ORDINALITY AS k(attnum, opclass, position) "
      "JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
      "JOIN pg_catalog.pg_opclass c ON c.oid = k.opclass "
      "JOIN pg_catalog.pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = c.opcintype "
      "AND p.amoprighttype = c.opcintype AND p.amopstrategy = 3 AND p.amopmethod = 403 "
      "JOIN pg_catalog.pg_operator o ON o.oid = p.amopopr "
      "JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace "
      "WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique AND i.indisvalid AND i.indisready "
      "AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts "
      "ORDER BY i.indisprimary DESC, i.indexrelid, k.position",
      params);
  std::vector<UniqueIndex> indexes;
  base::Oid last = 0;
  for (int i = 0; i < result.rows(); ++i) {
    if (result.oid(i, 0) != last) {
      last = result.oid(i, 0);
      indexes.push_back({result.boolean(i, 1), result.boolean(i, 2), true, {}});
    }
    auto& index = indexes.back();
    index.not_null = index.not_null && result.boolean(i, 4);
    // Spelled apart: the schema quoted, the operator's name never is.
    index.columns.emplace_back(
        result.text(i, 3), "OPERATOR(" + quote_identifier(result.view(i, 5)) + "." + result.text(i, 6) + ")");
  }
  return indexes;
}

void check_type(const TargetTable& table, TargetColumn& target, const pgoutput::CachedColumn& source,
                postgres::Connection& connection) {
  const bool user_defined = source.type >= kFirstUserOid || target.type >= kFirstUserOid;
  if (user_defined ||
      (source.type == target.type && (source.typmod == target.typmod || target.typmod == -1))) {
    return;  // user-defined types have other OIDs here; their input function judges each value
  }
  postgres::Params params;
  params.integer(source.type).integer(source.typmod);
  const std::string wanted =
      connection.one_value("SELECT pg_catalog.format_type($1::pg_catalog.oid, $2::pg_catalog.int4)", params);
  if (catalog::widens(source.type, source.typmod, target.type, target.typmod)) {
    if (source.type != target.type) {
      target.sent_as = source.type;
      target.sent_as_name = wanted;
    }
    return;
  }
  throw TargetMisfit(
      "column " + quote_identifier(target.name) + " of " + table.display + " is " + target.type_name +
          " here and " + wanted + " where the changes come from",
      "ALTER TABLE " + table.qualified + " ALTER COLUMN " + quote_identifier(target.name) + " TYPE " + wanted)
      .on(connection.server())
      .at("table " + table.display);
}

using LeavesOut = std::function<bool(const std::string& column)>;

// The only column here that the stream has no more: most likely the new one's former name.
std::optional<std::string> renamed_from(const CachedRelation& relation, const TargetTable& table,
                                        const LeavesOut& leaves_out) {
  std::optional<std::string> only;
  for (const auto& column : table.columns) {
    const bool streamed = std::any_of(relation.columns.begin(), relation.columns.end(),
                                      [&](const auto& source) { return source.name == column.name; });
    if (streamed || column.generated || leaves_out(column.name)) {
      continue;
    }
    if (only) {
      return std::nullopt;
    }
    only = column.name;
  }
  return only;
}

void map_columns(const CachedRelation& relation, TargetTable& table, const LeavesOut& leaves_out,
                 postgres::Connection& connection) {
  for (std::size_t i = 0; i < relation.columns.size(); ++i) {
    const auto& source = relation.columns[i];
    if (leaves_out(source.name)) {
      if (source.key && relation.identity != ReplicaIdentity::full) {
        throw TargetMisfit(
            "column " + quote_identifier(source.name) + " of " + table.display +
                " is left out (exclude-columns), and where the changes come from it has become "
                "a part of the replica identity: no row can be found by it",
            "`pgcutover cancel`, and begin again without leaving it out")
            .on(connection.server())
            .at("table " + table.display);
      }
      continue;
    }
    const auto found = std::find_if(table.columns.begin(), table.columns.end(),
                                    [&](const TargetColumn& column) { return column.name == source.name; });
    if (found == table.columns.end()) {
      postgres::Params params;
      params.integer(source.type).integer(source.typmod);
      const std::string type =
          source.type >= kFirstUserOid
              ? "..."
              : connection.one_value("SELECT pg_catalog.format_type($1::pg_catalog.oid, $2::pg_catalog.int4)",
                                     params);
      const auto was = renamed_from(relation, table, leaves_out);
      throw TargetMisfit(
          "column " + quote_identifier(source.name) + " of " + table.display +
              " is in the stream but doesn't exist here",
          (was ? "if it was renamed there: ALTER TABLE " + table.qualified + " RENAME COLUMN " +
                     quote_identifier(*was) + " TO " + quote_identifier(source.name) + "; if it was added: "
               : "") +
              "ALTER TABLE " + table.qualified + " ADD COLUMN " + quote_identifier(source.name) + " " + type +
              ";  with its DEFAULT as on the source (old rows got it there), then `pgcutover verify`")
          .on(connection.server())
          .at("table " + table.display);
    }
    found->source = static_cast<int>(i);
    if (!found->generated) {
      check_type(table, *found, source, connection);
      table.identity_always = table.identity_always || found->identity == 'a';
      table.text_only = table.text_only || !found->portable;
    }
  }
}

// The index's columns as the table's key; false where one of them doesn't come from the source.
bool use_as_key(const UniqueIndex& index, TargetTable& table) {
  std::vector<KeyColumn> key;
  for (const auto& [name, equals] : index.columns) {
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      if (table.columns[i].name == name && table.columns[i].written()) {
        key.push_back({static_cast<std::size_t>(table.columns[i].source), i, equals});
      }
    }
  }
  if (key.size() != index.columns.size()) {
    return false;
  }
  table.key = std::move(key);
  table.matching = index.immediate ? Matching::key : Matching::first_of_key;
  return true;
}

bool covers_identity(const UniqueIndex& index, const CachedRelation& relation) {
  std::size_t flagged = 0;
  for (const auto& column : relation.columns) {
    flagged += column.key ? 1 : 0;
  }
  return flagged == index.columns.size() &&
         std::all_of(index.columns.begin(), index.columns.end(), [&](const auto& wanted) {
           return std::any_of(relation.columns.begin(), relation.columns.end(),
                              [&](const auto& column) { return column.key && column.name == wanted.first; });
         });
}

void choose_key(const CachedRelation& relation, TargetTable& table, postgres::Connection& connection) {
  auto indexes = load_unique_indexes(connection, table.oid);
  std::erase_if(indexes, [](const UniqueIndex& index) { return !index.not_null; });
  // Immediate ones first: only they allow sets.
  std::stable_sort(indexes.begin(), indexes.end(),
                   [](const UniqueIndex& a, const UniqueIndex& b) { return a.immediate && !b.immediate; });
  if (relation.identity == ReplicaIdentity::full) {
    for (const auto& index : indexes) {
      if (use_as_key(index, table)) {
        return;
      }
    }
    table.matching = Matching::whole_row;
    return;
  }
  std::string flagged;
  for (const auto& column : relation.columns) {
    if (column.key) {
      flagged += (flagged.empty() ? "" : ", ") + quote_identifier(column.name);
    }
  }
  if (flagged.empty()) {
    return;  // inserts only
  }
  for (const auto& index : indexes) {
    if (covers_identity(index, relation) && use_as_key(index, table)) {
      return;
    }
  }
  throw TargetMisfit(
      "the replica identity (" + flagged + ") of " + table.display + " has no unique index here",
      "CREATE UNIQUE INDEX ON " + table.qualified + " (" + flagged + "), with NOT NULL on each column")
      .on(connection.server())
      .at("table " + table.display);
}

}  // namespace

const TargetTables::Entry& TargetTables::add(const CachedRelation& relation, const Load& load) {
  auto entry = std::make_unique<Entry>(Entry{relation, load(relation)});
  entry->table.id = entries_.size() + 1;
  entries_.push_back(std::move(entry));
  return *entries_.back();
}

const TargetTable& TargetTables::get(const CachedRelation& relation, const Load& load) {
  const auto known = current_.find(relation.oid);
  if (known != current_.end() && known->second->relation.same_content(relation)) {
    return known->second->table;
  }
  const auto& entry = add(relation, load);
  current_[relation.oid] = &entry;
  return entry.table;
}

const TargetTable& TargetTables::refresh(const TargetTable& table, const Load& load) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return &entry->table == &table; });
  PGCUTOVER_CHECK(found != entries_.end(), "table " + table.display + " isn't one of these");
  const Entry& old = **found;
  const auto& fresh = add(old.relation, load);
  if (fresh.table.same_shape(old.table)) {
    entries_.pop_back();
    return old.table;
  }
  if (const auto current = current_.find(old.relation.oid);
      current != current_.end() && current->second == &old) {
    current->second = &fresh;
  }
  return fresh.table;
}

TargetTable load_target_table(postgres::Connection& connection, const CachedRelation& relation,
                              const catalog::ColumnFilter& filter, const std::string& direction) {
  TargetTable table;
  table.schema = relation.schema;
  table.name = relation.name;
  table.qualified = postgres::quote_qualified(relation.schema, relation.name);
  table.display = relation.schema + "." + relation.name;
  table.identity = relation.identity;
  const auto twin = direction.empty() ? std::nullopt : twin_of(connection, direction, relation.oid);
  if (twin) {
    check_twin(connection, relation, table, *twin);
  }
  load_identity(connection, relation, table);
  if (!direction.empty() && !twin) {
    set_twin(connection, direction, relation.oid, table.oid);
  }
  load_columns(connection, table);
  const auto known_as = filter.exclude.empty()
                            ? table.display
                            : catalog::filter_name(connection, relation.schema, relation.name);
  map_columns(
      relation, table, [&](const std::string& column) { return filter.leaves_out(known_as, column); },
      connection);
  choose_key(relation, table, connection);
  choose_row_type(connection, table);
  if (const auto loud = firing_when_applied(connection, table.oid); !loud.empty()) {
    throw TargetMisfit(loud[0] + " of " + table.display + " fires for applied changes too",
                       "its effects arrive by themselves: put it in the ordinary mode here (ALTER TABLE " +
                           table.qualified + " ENABLE TRIGGER or RULE)")
        .on(connection.server())
        .at("table " + table.display);
  }
  if (table.partitioned &&
      (table.matching == Matching::whole_row || table.matching == Matching::first_of_key)) {
    throw TargetMisfit("table " + table.display + " is partitioned here and has no immediate unique key",
                       "add a primary key, or publish its partitions")
        .on(connection.server())
        .at("table " + table.display);
  }
  return table;
}

}  // namespace replication::apply
