#include "replication/snapshot/row_estimate.h"

#include <algorithm>
#include <iterator>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"

namespace replication::snapshot {
namespace {

using catalog::Table;

// Smaller ones are over before anybody looks.
constexpr std::int64_t kLookedAtBytes = std::int64_t{64} << 10;
constexpr std::size_t kLookedAtTables = 100;

// At most: bytes of a block by those of the smallest row with its line pointer. Blocks are taken at equal
// distances, and rows by their place: a range of places isn't read by itself before 14.
std::string look_sql(const Table& table) {
  return R"(
    WITH size AS MATERIALIZED (
      SELECT pg_catalog.pg_relation_size($1::pg_catalog.regclass)
               / pg_catalog.current_setting('block_size')::bigint AS blocks,
             pg_catalog.current_setting('block_size')::int / 28 AS lines),
    looked AS MATERIALIZED (
      SELECT DISTINCT blocks * (2 * i + 1) / 32 AS block FROM size, generate_series(0, 15) i WHERE blocks > 0)
    SELECT coalesce((SELECT count(*) FROM ONLY )" +
         table.qualified() + R"( WHERE ctid = ANY (ARRAY(
               SELECT ('(' || block || ',' || line || ')')::pg_catalog.tid
                 FROM looked, size, generate_series(1, lines) line)))
             * (SELECT blocks FROM size)::float8 / nullif((SELECT count(*) FROM looked), 0), 0))";
}

// As many in a block as when it was analyzed.
void add_analyzed(postgres::Connection& source, const std::vector<const Table*>& tables,
                  RowEstimates& estimates) {
  std::vector<std::string> oids;
  for (const auto* table : tables) {
    oids.push_back(std::to_string(table->oid));
  }
  const auto rows = source.exec(
      "SELECT place, c.reltuples::float8 / c.relpages * pg_catalog.pg_relation_size(c.oid) "
      "/ pg_catalog.current_setting('block_size')::bigint "
      "FROM unnest($1::oid[]) WITH ORDINALITY wanted(oid, place) JOIN pg_catalog.pg_class c USING (oid) "
      "WHERE c.reltuples > 0 AND c.relpages > 0",
      postgres::Params{postgres::array_literal(oids)});
  for (int row = 0; row < rows.rows(); ++row) {
    if (!rows.is_null(row, 1)) {
      estimates[tables[static_cast<std::size_t>(rows.integer(row, 0) - 1)]] = rows.number(row, 1);
    }
  }
}

// Rows that can't be counted are no reason not to copy them.
template <typename Look>
void try_look(postgres::Connection& source, Look look) {
  try {
    if (source.usable()) {
      look();
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::debug("no estimate of rows: " + error.describe());
  }
}

}  // namespace

RowEstimates estimate_rows(postgres::Connection& source, const std::vector<const Table*>& tables) {
  RowEstimates estimates;
  try_look(source, [&] {
    source.exec("SET lock_timeout = '1s'");
    add_analyzed(source, tables, estimates);
  });
  std::vector<const Table*> largest;
  std::ranges::copy_if(tables, std::back_inserter(largest),
                       [](const Table* table) { return table->bytes >= kLookedAtBytes; });
  std::ranges::sort(largest, std::ranges::greater{}, &Table::bytes);
  largest.resize(std::min(largest.size(), kLookedAtTables));
  for (const auto* table : largest) {
    try_look(source, [&] {
      const auto rows = source.one_row(look_sql(*table), postgres::Params{table->qualified()}).number(0, 0);
      if (rows > 0) {
        estimates[table] = rows;
      }
    });
  }
  return estimates;
}

}  // namespace replication::snapshot
