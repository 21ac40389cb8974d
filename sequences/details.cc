#include "sequences/details.h"

#include <algorithm>
#include <map>

#include "replication/postgres/quote.h"
#include "sequences/arithmetic.h"
#include "sequences/catalog_sql.h"
#include "sequences/locks.h"

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
std::string indexed_sql() {
  return uses_sql() + R"(
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
}

// One row a unique index or exclusion constraint. A column counts as fed by a sequence where the catalog
// knows it or its default has a nextval in its text; as made by its default where that calls a function
// (funcformat 0 is a call that somebody wrote, the others are casts).
std::string other_keys_sql() {
  return uses_sql() + R"(, indexes AS (
  SELECT i.indexrelid, i.indrelid, i.indisprimary, i.indnkeyatts, i.indisexclusion, n.nspname, c.relname,
         pg_catalog.format('%s.%s', n.nspname, c.relname) AS place,
         i.indpred IS NULL AND NOT i.indisexclusion AND i.indnkeyatts = 1 AND i.indkey[0] > 0 AS plain
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                                  AND c.relpersistence <> 't'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE (i.indisunique OR i.indisexclusion)
     AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgcutover')
), parts AS (
  SELECT x.indexrelid, k.position, a.attname, a.atttypid, a.atttypmod,
         EXISTS (SELECT FROM bases b WHERE b.type = a.atttypid AND b.base = 'pg_catalog.uuid'::pg_catalog.regtype)
           AS is_uuid,
         a.attidentity <> ''
           OR EXISTS (SELECT FROM uses u WHERE u.relation = x.indrelid AND u.number = a.attnum)
           OR coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid) ILIKE '%nextval%', false) AS is_fed,
         coalesce(d.adbin::pg_catalog.text ~ 'FUNCEXPR [^}]*:funcformat 0|SQLVALUEFUNCTION', false) AS is_made,
         EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.conrelid = x.indrelid AND f.contype = 'f'
                   AND f.conkey @> ARRAY[a.attnum]) AS is_foreign
    FROM indexes x
    JOIN pg_catalog.pg_index i ON i.indexrelid = x.indexrelid
    CROSS JOIN LATERAL pg_catalog.generate_series(0, x.indnkeyatts - 1) AS k(position)
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = i.indkey[k.position] AND a.attnum > 0
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = x.indrelid AND d.adnum = a.attnum AND a.attgenerated = ''
)
SELECT CASE WHEN x.plain THEN x.place || '.' || pg_catalog.min(p.attname::pg_catalog.text)
            ELSE x.place || ' (' || pg_catalog.string_agg(pg_catalog.pg_get_indexdef(x.indexrelid, p.position + 1, true),
                                                          ', ' ORDER BY p.position) || ')' END AS key,
       CASE WHEN x.plain THEN pg_catalog.min(pg_catalog.format_type(p.atttypid, p.atttypmod)) ELSE '' END,
       CASE WHEN pg_catalog.bool_or(p.is_uuid AND NOT p.is_foreign) AND NOT x.indisexclusion THEN 0
            WHEN x.plain AND pg_catalog.bool_or(p.is_made AND NOT p.is_foreign) THEN 1
            WHEN x.plain AND x.indisprimary AND NOT pg_catalog.bool_or(p.is_foreign) THEN 2
            ELSE 3 END,
       x.indisprimary
  FROM indexes x JOIN parts p USING (indexrelid)
 GROUP BY x.indexrelid, x.indisprimary, x.indisexclusion, x.plain, x.place
HAVING NOT coalesce(pg_catalog.bool_or(p.is_fed), false) OR x.indisexclusion
 ORDER BY 1, 4 DESC)";
}

void read_highest(postgres::Connection& connection, std::vector<Sequence>& sequences, bool all) {
  std::map<std::pair<std::string, std::string>, Sequence*> by_name;
  for (auto& sequence : sequences) {
    if (all || sequence.unlogged) {
      by_name.emplace(std::pair(sequence.schema, sequence.name), &sequence);
    }
  }
  if (by_name.empty()) {
    return;
  }
  const auto columns = connection.exec(indexed_sql());
  for (int begin = 0; begin < columns.rows(); begin += static_cast<int>(kBatch)) {
    std::string sql;
    std::vector<std::string> tables;
    const int end = std::min(begin + static_cast<int>(kBatch), columns.rows());
    for (int row = begin; row < end; ++row) {
      const auto found = by_name.find({columns.text(row, 0), columns.text(row, 1)});
      if (found == by_name.end()) {
        continue;
      }
      sql += (sql.empty() ? "SELECT " : " UNION ALL SELECT ") + std::to_string(row) +
             ", (SELECT pg_catalog." + (found->second->increment > 0 ? "max(" : "min(") +
             postgres::quote_identifier(columns.text(row, 4)) + ")::bigint FROM " +
             tables.emplace_back(postgres::quote_qualified(columns.text(row, 2), columns.text(row, 3))) + ")";
    }
    if (sql.empty()) {
      continue;
    }
    const auto rows = read_patiently(connection, sql, tables);
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
  read_highest(connection, sequences, true);
}

void add_highest_ids_of_unlogged(postgres::Connection& connection, std::vector<Sequence>& sequences) {
  read_highest(connection, sequences, false);
}

std::vector<OtherKey> keys_without_sequence(postgres::Connection& connection) {
  const auto rows = connection.exec(other_keys_sql());
  std::vector<OtherKey> keys;
  for (int row = 0; row < rows.rows(); ++row) {
    const auto kind = static_cast<KeyKind>(rows.integer(row, 2));
    // A primary key and a unique index of the same column are one key.
    if (keys.empty() || keys.back().column != rows.text(row, 0)) {
      keys.push_back({rows.text(row, 0), rows.text(row, 1), kind, rows.boolean(row, 3)});
    }
  }
  return keys;
}

std::string_view to_string(KeyKind kind) {
  switch (kind) {
    case KeyKind::uuid:
      return "uuid";
    case KeyKind::made_by_default:
      return "made by its default";
    case KeyKind::made_by_application:
      return "made by the application";
    case KeyKind::natural:
      return "natural key";
  }
  return "unknown";
}

}  // namespace sequences
