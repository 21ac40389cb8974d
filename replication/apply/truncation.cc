#include "replication/apply/truncation.h"

#include "replication/apply/statements.h"
#include "replication/base/log.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

std::string oid_list(const TruncateTables& truncate) {
  std::vector<std::string> oids;
  for (const auto* table : truncate.tables) {
    oids.push_back(std::to_string(table->oid));
  }
  return postgres::array_literal(oids);
}

// Tables that reference those in $1 and aren't listed: name, and whether all rows of it are listed with its
// partitions. A partition's foreign keys are its ancestors' as well.
constexpr const char* kReferencing = R"(
WITH family AS (
  SELECT pg_catalog.unnest($1::pg_catalog.oid[]) AS oid
  UNION SELECT a.relid FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS g(oid), pg_catalog.pg_partition_ancestors(g.oid) AS a
), referencing AS (
  SELECT DISTINCT k.conrelid AS oid FROM pg_catalog.pg_constraint k
   WHERE k.contype = 'f' AND k.confrelid IN (SELECT oid FROM family) AND k.conrelid <> ALL ($1::pg_catalog.oid[])
)
SELECT n.nspname, c.relname, c.relkind = 'p' AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_partition_tree(c.oid) t WHERE t.isleaf AND t.relid::pg_catalog.oid <> ALL ($1::pg_catalog.oid[]))
  FROM referencing r JOIN pg_catalog.pg_class c ON c.oid = r.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2)";

constexpr const char* kSequences = R"(
SELECT n.nspname, s.relname FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
   AND d.refobjid = ANY ($1::pg_catalog.oid[]) AND d.deptype IN ('a', 'i')
 ORDER BY 1, 2)";

std::vector<std::string> by_delete(postgres::Connection& connection, const TruncateTables& truncate,
                                   const std::string& oids) {
  std::vector<std::string> statements;
  for (const auto* table : truncate.tables) {
    statements.push_back(delete_all_sql(*table));
  }
  if (truncate.restart_identity) {
    const auto rows = connection.exec(kSequences, postgres::Params{oids});
    for (int row = 0; row < rows.rows(); ++row) {
      statements.push_back("ALTER SEQUENCE " +
                           postgres::quote_qualified(rows.view(row, 0), rows.view(row, 1)) + " RESTART");
    }
  }
  return statements;
}

}  // namespace

std::vector<std::string> emptying_sql(postgres::Connection& connection, const TruncateTables& truncate) {
  const auto oids = oid_list(truncate);
  const auto rows = connection.exec(kReferencing, postgres::Params{oids});
  std::vector<std::string> whole;
  for (int row = 0; row < rows.rows(); ++row) {
    const auto name = postgres::quote_qualified(rows.view(row, 0), rows.view(row, 1));
    if (!rows.boolean(row, 2)) {
      base::log::info("a TRUNCATE is applied as DELETE, since " + name +
                      " references what it empties and isn't in it");
      return by_delete(connection, truncate, oids);
    }
    whole.push_back(name);
  }
  return {truncate_sql(truncate.tables, whole, truncate.restart_identity)};
}

}  // namespace replication::apply
