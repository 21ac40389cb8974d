#include "replication/apply/twins.h"

#include <vector>

#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"

namespace replication::apply {

std::string twin_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.twin (
  direction  pg_catalog.text,
  theirs     pg_catalog.oid,
  ours       pg_catalog.oid NOT NULL,
  PRIMARY KEY (direction, theirs)
);
)";
}

std::optional<Twin> twin_of(postgres::Connection& here, const std::string& direction, base::Oid theirs) {
  const auto rows = here.exec(
      "SELECT n.nspname, c.relname FROM pgcutover.twin t JOIN pg_catalog.pg_class c ON c.oid = t.ours "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND "
      "t.direction "
      "= $1 AND t.theirs = $2::pg_catalog.int8::pg_catalog.oid",
      postgres::Params().text(std::string_view(direction)).integer(theirs));
  if (rows.rows() == 0) {
    return std::nullopt;
  }
  return Twin{rows.text(0, 0), rows.text(0, 1)};
}

void set_twin(postgres::Connection& here, const std::string& direction, base::Oid theirs, base::Oid ours) {
  here.exec(
      "INSERT INTO pgcutover.twin (direction, theirs, ours) VALUES ($1, $2::pg_catalog.int8::pg_catalog.oid, "
      "$3::pg_catalog.int8::pg_catalog.oid) ON CONFLICT (direction, theirs) DO UPDATE SET ours = "
      "excluded.ours",
      postgres::Params().text(std::string_view(direction)).integer(theirs).integer(ours));
}

void pair_tables(postgres::Connection& here, const std::string& direction,
                 std::span<const catalog::Table> theirs) {
  std::vector<std::string> oids, schemas, names;
  for (const auto& table : theirs) {
    oids.push_back(std::to_string(table.oid));
    schemas.push_back(table.schema);
    names.push_back(table.name);
  }
  here.exec(
      "INSERT INTO pgcutover.twin (direction, theirs, ours) SELECT $1, w.oid, c.oid FROM ROWS FROM ("
      "pg_catalog.unnest($2::pg_catalog.oid[]), pg_catalog.unnest($3::pg_catalog.text[]), "
      "pg_catalog.unnest($4::pg_catalog.text[])) AS w(oid, s, t) "
      "JOIN pg_catalog.pg_namespace n ON n.nspname = w.s JOIN pg_catalog.pg_class c ON c.relnamespace = "
      "n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p') "
      "ON CONFLICT (direction, theirs) DO UPDATE SET ours = excluded.ours "
      "WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class x WHERE x.oid = twin.ours)",
      postgres::Params{direction, postgres::array_literal(oids), postgres::array_literal(schemas),
                       postgres::array_literal(names)});
}

void unpair_tables(postgres::Connection& here, const std::string& direction,
                   std::span<const catalog::Table> theirs) {
  std::vector<std::string> oids;
  for (const auto& table : theirs) {
    oids.push_back(std::to_string(table.oid));
  }
  here.exec("DELETE FROM pgcutover.twin WHERE direction = $1 AND theirs = ANY ($2::pg_catalog.oid[])",
            postgres::Params{direction, postgres::array_literal(oids)});
}

void pair_back(postgres::Connection& there, const std::string& forward, postgres::Connection& here,
               const std::string& back) {
  const auto pairs =
      there.exec("SELECT ours, theirs FROM pgcutover.twin WHERE direction = $1", postgres::Params{forward});
  std::vector<std::string> theirs, ours;
  for (int row = 0; row < pairs.rows(); ++row) {
    theirs.push_back(pairs.text(row, 0));
    ours.push_back(pairs.text(row, 1));
  }
  // Of two tables there that were one here after the other, one is gone.
  here.exec(
      "INSERT INTO pgcutover.twin (direction, theirs, ours) SELECT DISTINCT ON (w.theirs) $1, w.theirs, "
      "w.ours "
      "FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.oid[]), pg_catalog.unnest($3::pg_catalog.oid[])) AS "
      "w(theirs, ours) JOIN pg_catalog.pg_class c ON c.oid = w.ours ORDER BY w.theirs, w.ours DESC "
      "ON CONFLICT (direction, theirs) DO UPDATE SET ours = excluded.ours",
      postgres::Params{back, postgres::array_literal(theirs), postgres::array_literal(ours)});
}

}  // namespace replication::apply
