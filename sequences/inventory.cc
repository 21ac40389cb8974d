#include <algorithm>
#include <limits>
#include <map>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "sequences/catalog_sql.h"
#include "sequences/locks.h"
#include "sequences/sequences.h"

namespace sequences {
namespace {

// Sequences read in one round trip. Each one takes a lock until its transaction ends.
constexpr std::size_t kBatch = 250;
constexpr int kAttempts = 3;

// Not those of extensions (dependency 'e'): the extension's script makes and fills them on each server.
constexpr const char* kListSql = R"(
SELECT c.oid, n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache, s.seqcycle,
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT'), pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'),
       c.relpersistence = 'u'
  FROM pg_catalog.pg_sequence s
  JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgcutover')
   AND n.nspname NOT LIKE 'pg\_temp\_%' AND n.nspname NOT LIKE 'pg\_toast\_temp\_%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname)";

// Columns a sequence feeds, with their base types.
std::string columns_sql() {
  return uses_sql() + R"(
SELECT u.sequence, n.nspname, c.relname, a.attname, b.base, c.relpersistence = 'u'
  FROM uses u
  JOIN pg_catalog.pg_class c ON c.oid = u.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relation AND a.attnum = u.number AND NOT a.attisdropped
  JOIN bases b ON b.type = a.atttypid
  JOIN pg_catalog.pg_type t ON t.oid = b.base AND t.typtype <> 'd'
 ORDER BY n.nspname, c.relname, a.attnum)";
}

struct Listed {
  base::Oid oid = 0;
  Sequence sequence;
};

// NULL where the sequence was dropped meanwhile.
bool has_right(const postgres::Result& rows, int row, int column) {
  return rows.is_null(row, column) || rows.boolean(row, column);
}

std::vector<Listed> list(postgres::Connection& connection) {
  const auto rows = connection.exec(kListSql);
  std::vector<Listed> listed;
  std::string unreadable;
  for (int row = 0; row < rows.rows(); ++row) {
    Listed one;
    one.oid = rows.oid(row, 0);
    one.sequence.schema = rows.text(row, 1);
    one.sequence.name = rows.text(row, 2);
    one.sequence.increment = rows.integer(row, 3);
    one.sequence.minimum = rows.integer(row, 4);
    one.sequence.maximum = rows.integer(row, 5);
    one.sequence.start = rows.integer(row, 6);
    one.sequence.cache = rows.integer(row, 7);
    one.sequence.cycle = rows.boolean(row, 8);
    one.sequence.settable = has_right(rows, row, 10);
    one.sequence.unlogged = rows.boolean(row, 11);
    if (!has_right(rows, row, 9)) {
      unreadable += (unreadable.empty() ? "" : ", ") + one.sequence.display();
    }
    listed.push_back(std::move(one));
  }
  if (!unreadable.empty()) {
    throw base::Error("no right to read the sequence(s) " + unreadable)
        .on(connection.server())
        .with_sqlstate(postgres::sqlstate::kInsufficientPrivilege);
  }
  return listed;
}

// 0 where a type sets no limit within 64 bits (numeric, text), or none that is nearer than the sequence's
// own.
std::int64_t type_limit(base::Oid type, bool up) {
  constexpr base::Oid kInt2 = 21;
  constexpr base::Oid kInt4 = 23;
  switch (type) {
    case kInt2:
      return up ? std::numeric_limits<std::int16_t>::max() : std::numeric_limits<std::int16_t>::min();
    case kInt4:
      return up ? std::numeric_limits<std::int32_t>::max() : std::numeric_limits<std::int32_t>::min();
    default:
      return 0;
  }
}

void add_uses(postgres::Connection& connection, std::vector<Listed>& listed) {
  std::map<base::Oid, Sequence*> by_oid;
  for (auto& one : listed) {
    by_oid.emplace(one.oid, &one.sequence);
  }
  const auto rows = connection.exec(columns_sql());
  std::map<Sequence*, bool> rows_stay;
  for (int row = 0; row < rows.rows(); ++row) {
    const auto found = by_oid.find(rows.oid(row, 0));
    if (found == by_oid.end()) {
      continue;
    }
    Sequence& sequence = *found->second;
    rows_stay[&sequence] |= !rows.boolean(row, 5);
    sequence.used_by.push_back(rows.text(row, 1) + "." + rows.text(row, 2) + "." + rows.text(row, 3));
    const bool up = sequence.increment > 0;
    if (const auto limit = type_limit(rows.oid(row, 4), up); limit != 0) {
      const bool nearer =
          sequence.column_limit == 0 || (up ? limit < sequence.column_limit : limit > sequence.column_limit);
      sequence.column_limit = nearer ? limit : sequence.column_limit;
    }
  }
  for (const auto& [sequence, stay] : rows_stay) {
    if (!stay) {  // a crash empties its tables as well
      sequence->unlogged = false;
    }
  }
}

// From the relations: pg_sequences shows NULL for a sequence that was never used or set with is_called =
// false.
void read_values(postgres::Connection& connection, std::vector<Listed>& listed) {
  for (std::size_t begin = 0; begin < listed.size(); begin += kBatch) {
    const auto end = std::min(begin + kBatch, listed.size());
    std::string sql;
    std::vector<std::string> names;
    for (auto i = begin; i < end; ++i) {
      names.push_back(listed[i].sequence.qualified());
      sql += (sql.empty() ? "SELECT " : " UNION ALL SELECT ") + std::to_string(i) +
             ", last_value, is_called FROM " + names.back();
    }
    const auto rows = read_patiently(connection, sql, names);
    for (int row = 0; row < rows.rows(); ++row) {
      Sequence& sequence = listed[static_cast<std::size_t>(rows.integer(row, 0))].sequence;
      sequence.last_value = rows.integer(row, 1);
      sequence.is_called = rows.boolean(row, 2);
    }
  }
}

}  // namespace

std::string Sequence::qualified() const {
  return postgres::quote_qualified(schema, name);
}

std::string Sequence::display() const {
  return schema + "." + name;
}

std::vector<Sequence> inventory(postgres::Connection& connection) {
  for (int attempt = 1;; ++attempt) {
    try {
      auto listed = list(connection);
      add_uses(connection, listed);
      read_values(connection, listed);
      std::vector<Sequence> sequences;
      for (auto& one : listed) {
        sequences.push_back(std::move(one.sequence));
      }
      return sequences;
    } catch (base::Error& error) {
      // A live system may drop a sequence between our look at the catalog and at the relation.
      if (error.sqlstate() == postgres::sqlstate::kUndefinedTable && attempt < kAttempts &&
          !connection.in_transaction()) {
        continue;
      }
      if (error.sqlstate() == postgres::sqlstate::kInsufficientPrivilege) {
        error.with_hint(
            "GRANT USAGE ON SCHEMA ... and GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA ... TO " +
            postgres::quote_identifier(connection.user()));
      }
      throw;
    }
  }
}

}  // namespace sequences
