// May our role do, on both servers, what the migration and its way back will ask of it? Rights are asked for
// or tried now, since at the switch it is too late to learn that one is missing.

#include "cutover/check/context.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace cutover::check {
namespace {

using postgres::quote_identifier;

void missing(Context& context, const Side& side, std::string right, std::string why, std::string remedy) {
  context.blocks(side, "missing-privilege", std::move(right),
                 "role " + side.facts.user + " " + std::move(why), std::move(remedy));
}

// One finding for each owner rather than for each of 5,000 tables. Rows are (owner, object).
void missing_by_owner(Context& context, const Side& side, const postgres::Result& rows,
                      const std::string& noun, const std::string& why) {
  for (int i = 0; i < rows.rows();) {
    const std::string owner = rows.text(i, 0);
    std::vector<std::string> objects;
    for (; i < rows.rows() && rows.view(i, 0) == owner; ++i)
      objects.push_back(rows.text(i, 1));
    missing(context, side, owner,
            "isn't a member of " + owner + ", who owns " + std::to_string(objects.size()) + " " + noun +
                " (" + list_text(objects) + "): " + why,
            "GRANT " + quote_identifier(owner) + " TO " + quote_identifier(side.facts.user) + ";");
  }
}

}  // namespace

void check_role(Context& context, Side& side) {
  const std::string user = quote_identifier(side.facts.user),
                    database = quote_identifier(side.facts.database);
  const postgres::Result row = side.connection.one_row(R"(
    SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication'
                      AND pg_catalog.pg_has_role(oid, 'USAGE')),
           pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
           pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'), pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'))");
  if (context.streams() && !side.facts.replication && !row.boolean(0, 0)) {
    missing(context, side, "REPLICATION", "may not replicate", "ALTER ROLE " + user + " REPLICATION;");
  }
  if (!row.boolean(0, 1)) {
    missing(context, side, "CREATE", "may not create the schema pgcutover and a publication in this database",
            "GRANT CREATE ON DATABASE " + database + " TO " + user + ";");
  }
  if (!side.facts.owns_database) {
    missing(context, side, "OWNER",
            "doesn't own this database, so it can't take CONNECT from the applications",
            "ALTER DATABASE " + database + " OWNER TO " + user + ";  or GRANT its owner TO " + user + ";");
  }
  if (!side.facts.superuser && !row.boolean(0, 2)) {
    missing(context, side, "pg_signal_backend", "may not end the sessions of applications",
            "GRANT pg_signal_backend TO " + user + ";");
  }
  if (!side.facts.superuser && !row.boolean(0, 3)) {
    context.warns(
        side, "missing-privilege", "pg_read_all_stats",
        "role " + side.facts.user + " doesn't see what other sessions do: blockers can't be described",
        "GRANT pg_read_all_stats TO " + user + ";");
  }
}

void check_replica_role(Context& context, Side& side) {
  // Tried rather than looked up: managed servers allow it by means of their own.
  try {
    postgres::Transaction transaction(side.connection, "BEGIN READ ONLY");
    side.connection.exec("SET LOCAL session_replication_role = replica");
    transaction.rollback();
  } catch (const base::Error& error) {
    if (!error.connection_usable() || error.sqlstate().empty())
      throw;
    const std::string user = quote_identifier(side.facts.user);
    missing(context, side, "session_replication_role",
            "may not set session_replication_role: triggers and foreign keys would fire again for " +
                std::string(side.is_source() ? "changes on the way back" : "applied changes"),
            side.facts.version >= 150000
                ? "GRANT SET ON PARAMETER session_replication_role TO " + user + ";"
                : "ALTER ROLE " + user + " SUPERUSER;  (before 15 there is no lesser right)");
  }
}

void check_table_ownership(Context& context) {
  std::vector<std::string> oids;
  for (const catalog::Table& table : context.catalog.tables)
    oids.push_back(std::to_string(table.oid));
  const postgres::Result rows = context.source.connection.exec(
      R"(
    SELECT r.rolname, n.nspname || '.' || c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
     WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
     ORDER BY 1, 2)",
      postgres::Params{postgres::array_literal(oids)});
  missing_by_owner(context, context.source, rows, "table(s)", "only owners may publish, lock and write them");
}

void check_schema_usage(Context& context) {
  std::vector<std::string> oids;
  for (const catalog::Table& table : context.catalog.tables)
    oids.push_back(std::to_string(table.oid));
  const postgres::Result rows = context.source.connection.exec(
      R"(
    SELECT DISTINCT n.nspname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
     ORDER BY 1)",
      postgres::Params{postgres::array_literal(oids)});
  for (int i = 0; i < rows.rows(); ++i) {
    missing(context, context.source, "USAGE ON SCHEMA " + rows.text(i, 0),
            "may not use schema " + rows.text(i, 0),
            "GRANT USAGE ON SCHEMA " + quote_identifier(rows.view(i, 0)) + " TO " +
                quote_identifier(context.source.facts.user) + ";");
  }
}

void check_sequence_privileges(Context& context) {
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT r.rolname, n.nspname || '.' || c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
     WHERE c.relkind = 'S' AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgcutover')
       AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                AND pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                AND pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'))
     ORDER BY 1, 2)");
  missing_by_owner(context, context.source, rows, "sequence(s)",
                   "they are read at the switch and set ahead on both sides");
}

void check_large_object_privileges(Context& context) {
  if (context.source.facts.superuser || context.catalog.large_objects == 0 ||
      catalog::setting(context.source.connection, "lo_compat_privileges") == "on") {
    return;
  }
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT pg_catalog.pg_get_userbyid(lomowner), m.oid::text FROM pg_catalog.pg_largeobject_metadata m
     WHERE NOT pg_catalog.pg_has_role(lomowner, 'USAGE')
       AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(lomacl) a WHERE a.privilege_type = 'SELECT'
                          AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
     ORDER BY 1, m.oid)");
  missing_by_owner(context, context.source, rows, "large object(s)", "they can't be read");
}

}  // namespace cutover::check
