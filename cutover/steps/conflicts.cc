#include "cutover/steps/conflicts.h"

#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"
#include "sequences/attribution.h"

namespace cutover::steps {
namespace {

namespace postgres = replication::postgres;

// The columns of the tables in question that tell who made a row, as rows of a VALUES list.
std::string telling_columns(postgres::Connection& connection, const sequences::Attribution& attribution) {
  const auto tables = connection.exec("SELECT DISTINCT schema_name, table_name FROM pgcutover.conflict");
  std::string values;
  for (int row = 0; row < tables.rows(); ++row) {
    for (const auto& column : attribution.columns(tables.text(row, 0), tables.text(row, 1))) {
      values += ", (" + postgres::quote_literal(tables.text(row, 0)) + ", " +
                postgres::quote_literal(tables.text(row, 1)) + ", " + postgres::quote_literal(column) + ")";
    }
  }
  return "(VALUES (NULL::text, NULL::text, NULL::text)" + values + ") AS f(schema_name, table_name, fed)";
}

}  // namespace

std::vector<state::ConflictRecord> read_conflicts(postgres::Connection& connection,
                                                  std::string_view settled_up_to, int count_max) {
  if (!connection.one_row("SELECT pg_catalog.to_regclass('pgcutover.conflict') IS NOT NULL").boolean(0, 0)) {
    return {};
  }
  const sequences::Attribution attribution(connection);
  // Only the one value of a row's image: an image may be as large as a row.
  const auto rows = connection.exec(
      "SELECT c.id, (EXTRACT(epoch FROM c.at) * 1000000)::bigint, c.direction, c.schema_name, c.table_name, "
      "c.key, c.kind, c.lsn::text, f.fed, coalesce(c.old_row, c.new_row)::json ->> f.fed FROM "
      "(SELECT * FROM pgcutover.conflict WHERE id > $1 ORDER BY id DESC LIMIT $2) AS c LEFT JOIN " +
          telling_columns(connection, attribution) +
          " ON f.schema_name = c.schema_name AND f.table_name = c.table_name ORDER BY c.id DESC, f.fed",
      postgres::Params().text(settled_up_to).integer(count_max));
  std::vector<state::ConflictRecord> conflicts;
  std::int64_t last = -1;
  for (int row = 0; row < rows.rows(); ++row) {
    if (conflicts.empty() || rows.integer(row, 0) != last) {
      last = rows.integer(row, 0);
      conflicts.push_back({.at_us = rows.integer(row, 1),
                           .direction = rows.text(row, 2),
                           .table = rows.text(row, 3) + "." + rows.text(row, 4),
                           .key = rows.text(row, 5),
                           .kind = rows.text(row, 6),
                           .lsn = rows.text(row, 7)});
    }
    if (conflicts.back().made_by.empty() && !rows.is_null(row, 9)) {
      conflicts.back().made_by =
          attribution.made_by(rows.text(row, 3), rows.text(row, 4), rows.text(row, 8), rows.view(row, 9));
    }
  }
  return conflicts;
}

}  // namespace cutover::steps
