#include "replication/catalog/evolution.h"

#include <algorithm>

#include "replication/postgres/quote.h"

namespace replication::catalog {
namespace {

constexpr base::Oid kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kVarchar = 1043, kNumeric = 1700;
constexpr int kTypmodHeader = 4;

int scale(int typmod) {
  return (typmod - kTypmodHeader) & 0x7FF;
}
int whole_digits(int typmod) {
  return (((typmod - kTypmodHeader) >> 16) & 0xFFFF) - scale(typmod);
}

}  // namespace

std::vector<TableFile> table_files(postgres::Connection& connection) {
  const auto rows = connection.exec(
      "SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.relnatts FROM pg_catalog.pg_class c "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence "
      "<> "
      "'t' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgcutover') AND n.nspname !~ "
      "'^pg_toast' "
      "ORDER BY 1, 2");
  std::vector<TableFile> files;
  for (int row = 0; row < rows.rows(); ++row) {
    files.push_back({rows.text(row, 0), rows.text(row, 1), rows.oid(row, 2), rows.oid(row, 3),
                     static_cast<int>(rows.integer(row, 4))});
  }
  return files;
}

std::string table_files_digest(postgres::Connection& connection) {
  return connection.one_value(
      "SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), "
      "pg_catalog.sum(pg_catalog.hashint8extended(oid::bigint << 32 | relfilenode::bigint, relnatts)), "
      "pg_catalog.sum(pg_catalog.hashnameextended(relname, relnamespace::bigint)), "
      "(SELECT pg_catalog.sum(pg_catalog.hashnameextended(nspname, oid::bigint)) FROM "
      "pg_catalog.pg_namespace WHERE nspname !~ '^pg_')) "
      "FROM pg_catalog.pg_class WHERE relkind = 'r' AND relpersistence <> 't' AND oid >= 16384");
}

std::string snapshot_xmin(postgres::Connection& connection) {
  return connection.one_value(
      "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())::text");
}

bool columns_written_since(postgres::Connection& connection, base::Oid table, std::string_view xid) {
  // age() counts back from the next xid, whatever epoch; txids are taken modulo 2^32 for it.
  return connection
      .one_row(
          "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::bigint::oid AND "
          "a.attnum "
          "> 0 AND NOT a.attisdropped AND pg_catalog.age(a.xmin) <= pg_catalog.age(($2::bigint & "
          "4294967295)::text::xid))",
          postgres::Params().integer(table).text(xid))
      .boolean(0, 0);
}

std::optional<ColumnOrigin> column_origin(postgres::Connection& connection, std::string_view schema,
                                          std::string_view table, std::string_view column, int since) {
  const auto rows = connection.exec(
      R"(SELECT a.atttypid, a.atttypmod, a.attnum,
       pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attcollation NOT IN (0, t.typcollation)
         THEN ' COLLATE ' || pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) ELSE '' END,
       c.relfilenode,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute x WHERE x.attrelid = c.oid AND x.attnum > $4::int
         AND x.attisdropped),
       a.atthasmissing, COALESCE((a.attmissingval::text::text[])[1], ''), pg_catalog.pg_get_expr(d.adbin, d.adrelid),
       a.attnotnull,
       CASE WHEN a.attidentity <> '' THEN 'it is an identity'
            WHEN a.attgenerated <> '' THEN 'it is generated'
            WHEN t.typtype = 'd' OR e.typtype = 'd' THEN 'its type is a domain'
            WHEN c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
              THEN 'the table is a partition or inherits'
            WHEN EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n'
                         AND a.attnum = ANY (k.conkey)) THEN 'a constraint uses it'
            WHEN EXISTS (SELECT FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_index i ON i.indexrelid = p.objid
                         WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.refclassid = 'pg_catalog.pg_class'::regclass
                         AND p.refobjid = c.oid AND p.refobjsubid = a.attnum) THEN 'an index uses it'
            WHEN a.attacl IS NOT NULL THEN 'it has rights of its own' ELSE '' END
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typelem <> 0
  LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped)",
      postgres::Params().text(schema).text(table).text(column).integer(since));
  if (rows.rows() == 0) {
    return std::nullopt;
  }
  ColumnOrigin origin;
  origin.type = rows.oid(0, 0);
  origin.typmod = static_cast<int>(rows.integer(0, 1));
  origin.number = static_cast<int>(rows.integer(0, 2));
  origin.definition = rows.text(0, 3);
  origin.filenode = rows.oid(0, 4);
  origin.dropped_after = static_cast<int>(rows.integer(0, 5));
  origin.has_missing = rows.boolean(0, 6);
  origin.missing = rows.text(0, 7);
  if (!rows.is_null(0, 8)) {
    origin.default_expression = rows.text(0, 8);
  }
  origin.not_null = rows.boolean(0, 9);
  origin.special = rows.text(0, 10);
  return origin;
}

std::vector<EnumType> enum_types(postgres::Connection& connection) {
  const auto rows = connection.exec(
      "SELECT n.nspname, t.typname, e.enumlabel FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid "
      "= "
      "e.enumtypid JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace ORDER BY 1, 2, e.enumsortorder");
  std::vector<EnumType> types;
  for (int row = 0; row < rows.rows(); ++row) {
    if (types.empty() || types.back().schema != rows.view(row, 0) || types.back().name != rows.view(row, 1)) {
      types.push_back({rows.text(row, 0), rows.text(row, 1), {}});
    }
    types.back().labels.push_back(rows.text(row, 2));
  }
  return types;
}

std::optional<std::vector<std::string>> enum_additions(const EnumType& here, const EnumType& there) {
  std::vector<std::string> statements;
  std::size_t next = 0;  // of ours
  for (std::size_t i = 0; i < there.labels.size(); ++i) {
    if (next < here.labels.size() && here.labels[next] == there.labels[i]) {
      ++next;
      continue;
    }
    std::string place;
    if (i > 0) {
      place = " AFTER " + postgres::quote_literal(there.labels[i - 1]);
    } else if (!here.labels.empty()) {
      place = " BEFORE " + postgres::quote_literal(here.labels[0]);
    }
    statements.push_back("ALTER TYPE " + postgres::quote_qualified(here.schema, here.name) + " ADD VALUE " +
                         postgres::quote_literal(there.labels[i]) + place);
  }
  if (next != here.labels.size()) {  // renamed there, or made here
    return std::nullopt;
  }
  return statements;
}

bool widens(base::Oid from, int from_typmod, base::Oid to, int to_typmod) {
  if (from == kInt2 || from == kInt4) {
    return to == kInt8 || (from == kInt2 && to == kInt4);
  }
  if (from == kVarchar) {
    return (to == kText || to == kVarchar) &&
           (to_typmod == -1 || (from_typmod != -1 && from_typmod < to_typmod));
  }
  return from == kNumeric && to == kNumeric && from_typmod != -1 && to_typmod != -1 &&
         scale(from_typmod) == scale(to_typmod) && whole_digits(from_typmod) < whole_digits(to_typmod);
}

}  // namespace replication::catalog
