#include "sequences/details.h"

#include <algorithm>
#include <map>

#include "replication/postgres/quote.h"
#include "sequences/arithmetic.h"

namespace sequences {
namespace {

constexpr std::size_t kBatch = 50;

constexpr const char* kUserSchemas =
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgcutover') AND n.nspname NOT LIKE "
    "'pg\\_temp\\_%' AND n.nspname NOT LIKE 'pg\\_toast\\_temp\\_%'";

// Functions with an SQL body have no text but a dependency.
std::string texts_sql() {
  return std::string(
             "SELECT 'function ' || n.nspname || '.' || p.proname, p.prosrc FROM pg_catalog.pg_proc p JOIN "
             "pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.prosrc ILIKE '%nextval%' AND ") +
         kUserSchemas +
         " UNION ALL SELECT 'default of ' || n.nspname || '.' || c.relname || '.' || a.attname, "
         "pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c "
         "ON c.oid "
         "= d.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute "
         "a ON "
         "a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE pg_catalog.pg_get_expr(d.adbin, d.adrelid) "
         "ILIKE "
         "'%nextval%' AND " +
         kUserSchemas + " ORDER BY 1";
}

bool word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
}

// The name as a word of its own: orders_seq is not in old_orders_seq2.
bool names(const std::string& text, const std::string& name) {
  for (auto at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const auto end = at + name.size();
    if ((at == 0 || !word_character(text[at - 1])) && (end == text.size() || !word_character(text[end]))) {
      return true;
    }
  }
  return false;
}

// A column fed by the sequence, integer underneath, led by a btree index that holds all rows.
constexpr const char* kIndexedSql = R"(
WITH RECURSIVE uses AS (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
     AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.refobjid
    JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
   WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
), bases AS (
  SELECT oid AS type, oid AS base FROM pg_catalog.pg_type WHERE typtype IN ('b', 'd')
  UNION
  SELECT b.type, t.typbasetype FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base AND t.typtype = 'd'
)
SELECT DISTINCT sn.nspname, sc.relname, n.nspname, c.relname, a.attname
  FROM uses u
  JOIN pg_catalog.pg_class sc ON sc.oid = u.sequence JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
  JOIN pg_catalog.pg_class c ON c.oid = u.relation AND c.relkind IN ('r', 'p')
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number AND NOT a.attisdropped
  JOIN bases b ON b.type = a.atttypid AND b.base IN (20, 21, 23)
  JOIN pg_catalog.pg_index i ON i.indrelid = u.relation AND i.indkey[0] = u.number AND i.indpred IS NULL
       AND i.indisvalid
  JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = ic.relam AND m.amname = 'btree'
 WHERE pg_catalog.has_column_privilege(u.relation, u.number::pg_catalog.int2, 'SELECT')
 ORDER BY 1, 2, 3, 4, 5)";

constexpr const char* kOtherKeysSql = R"(
SELECT n.nspname || '.' || c.relname || '.' || a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype THEN 'uuid'
            WHEN a.atthasdef THEN 'made by its default' ELSE 'made by the application' END,
       pg_catalog.bool_or(i.indisprimary)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
 WHERE i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attnum > 0 AND a.attidentity = ''
   AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgcutover')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = a.attnum
                      AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ILIKE '%nextval%')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
                      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i'))
 GROUP BY 1, 2, 3 ORDER BY 1)";

}  // namespace

void add_mentions(postgres::Connection& connection, std::vector<Sequence>& sequences) {
  const auto texts = connection.exec(texts_sql());
  for (auto& sequence : sequences) {
    for (int row = 0; sequence.used_by.empty() && row < texts.rows(); ++row) {
      if (!texts.is_null(row, 1) && names(texts.text(row, 1), sequence.name)) {
        sequence.mentioned_in.push_back(texts.text(row, 0));
      }
    }
  }
}

void add_highest_ids(postgres::Connection& connection, std::vector<Sequence>& sequences) {
  std::map<std::pair<std::string, std::string>, Sequence*> by_name;
  for (auto& sequence : sequences) {
    by_name.emplace(std::pair(sequence.schema, sequence.name), &sequence);
  }
  const auto columns = connection.exec(kIndexedSql);
  for (int begin = 0; begin < columns.rows(); begin += static_cast<int>(kBatch)) {
    std::string sql;
    const int end = std::min(begin + static_cast<int>(kBatch), columns.rows());
    for (int row = begin; row < end; ++row) {
      const auto found = by_name.find({columns.text(row, 0), columns.text(row, 1)});
      if (found == by_name.end()) {
        continue;
      }
      sql += (sql.empty() ? "SELECT " : " UNION ALL SELECT ") + std::to_string(row) +
             ", (SELECT pg_catalog." + (found->second->increment > 0 ? "max(" : "min(") +
             postgres::quote_identifier(columns.text(row, 4)) + ")::bigint FROM " +
             postgres::quote_qualified(columns.text(row, 2), columns.text(row, 3)) + ")";
    }
    if (sql.empty()) {
      continue;
    }
    const auto rows = connection.exec(sql);
    for (int row = 0; row < rows.rows(); ++row) {
      const auto column = static_cast<int>(rows.integer(row, 0));
      auto& sequence = *by_name.at({columns.text(column, 0), columns.text(column, 1)});
      if (!rows.is_null(row, 1)) {
        const auto value = rows.integer(row, 1);
        sequence.highest = sequence.highest ? furthest(*sequence.highest, value, sequence.increment) : value;
      }
    }
  }
}

std::vector<OtherKey> keys_without_sequence(postgres::Connection& connection) {
  const auto rows = connection.exec(kOtherKeysSql);
  std::vector<OtherKey> keys;
  for (int row = 0; row < rows.rows(); ++row) {
    keys.push_back({rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.boolean(row, 3)});
  }
  return keys;
}

}  // namespace sequences
