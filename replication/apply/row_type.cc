#include "replication/apply/row_type.h"

#include <algorithm>

#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

constexpr std::size_t kDigest = 24;  // hex digits: short of the limit for names, also with an array's "_"

bool find_type(postgres::Connection& connection, const std::string& name, TargetTable& table) {
  const auto found = connection.exec(
      "SELECT t.oid, t.typarray FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n "
      "ON n.oid = t.typnamespace WHERE n.nspname = 'pgcutover' AND t.typname = $1",
      postgres::Params{name});
  if (found.rows() == 0) {
    return false;
  }
  table.row_type = found.oid(0, 0);
  table.array_type = found.oid(0, 1);
  table.row_type_name = postgres::quote_qualified("pgcutover", name);
  return true;
}

}  // namespace

void choose_row_type(postgres::Connection& connection, TargetTable& table) {
  if (std::none_of(table.columns.begin(), table.columns.end(),
                   [](const TargetColumn& column) { return column.sent_as != 0; })) {
    return;
  }
  std::string columns;
  for (const auto& column : table.columns) {
    columns += (columns.empty() ? "" : ", ") + postgres::quote_identifier(column.name) + " " +
               (column.sent_as == 0 ? column.type_name : column.sent_as_name);
  }
  const auto name =
      "row_" +
      connection.one_value("SELECT pg_catalog.md5($1)", postgres::Params{columns}).substr(0, kDigest);
  if (!find_type(connection, name, table)) {
    connection.exec("CREATE TYPE " + postgres::quote_qualified("pgcutover", name) + " AS (" + columns + ")");
    find_type(connection, name, table);
  }
}

}  // namespace replication::apply
