#include "replication/stream/publication_marks.h"

namespace replication::stream {
namespace {

// Whether an entry counts.
constexpr const char* kTableOfAUser =
    "r.prrelid <> COALESCE(pg_catalog.to_regclass('pgcutover.marker')::oid, 0)";

}  // namespace

PublicationMarks publication_marks(postgres::Connection& connection, const std::string& name) {
  const auto rows = connection.exec(
      std::string(
          "SELECT p.oid || ' ' || p.xmin, c.oid, n.nspname, c.relname, r.oid || ' ' || r.xmin FROM "
          "pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid "
          "AND ") +
          kTableOfAUser +
          " LEFT JOIN pg_catalog.pg_class c ON c.oid = r.prrelid LEFT JOIN pg_catalog.pg_namespace n ON "
          "n.oid = c.relnamespace WHERE p.pubname = $1 ORDER BY c.oid",
      postgres::Params{name});
  PublicationMarks marks;
  for (int row = 0; row < rows.rows(); ++row) {
    marks.publication = rows.text(row, 0);
    if (!rows.is_null(row, 1)) {
      marks.tables.push_back({rows.oid(row, 1), rows.text(row, 2), rows.text(row, 3), rows.text(row, 4)});
    }
  }
  return marks;
}

std::string publication_digest(postgres::Connection& connection, const std::string& name) {
  return connection
      .maybe_value(
          std::string("SELECT p.oid || ' ' || p.xmin || ' ' || pg_catalog.md5(COALESCE((SELECT "
                      "pg_catalog.string_agg(r.prrelid || ' ' || r.oid || ' ' || r.xmin, ',' ORDER BY "
                      "r.oid) FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND ") +
              kTableOfAUser + "), '')) FROM pg_catalog.pg_publication p WHERE p.pubname = $1",
          postgres::Params{name})
      .value_or("");
}

std::string_view mark_oid(std::string_view mark) {
  return mark.substr(0, mark.find(' '));
}

}  // namespace replication::stream
