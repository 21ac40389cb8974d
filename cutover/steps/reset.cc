#include "cutover/steps/reset.h"

#include <algorithm>

#include "cutover/check/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/catalog/fit.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

// Drops what the query names, "TYPE name" a row.
void drop_each(postgres::Connection& connection, base::milliseconds patience, const std::string& query,
               const postgres::Params& params = {}) {
  const auto rows = connection.exec(query, params);
  for (int row = 0; row < rows.rows(); ++row) {
    despite_locks(connection, patience, [&] {
      connection.exec("DROP " + rows.text(row, 0) + " CASCADE", base::Deadline::never());
    });
  }
}

// Each object takes a handful of locks until its transaction ends, and CASCADE may add any number: where they
// are too many for the server, it is one at a time.
constexpr int kDroppedAtOnce = 50;

// Drops what the query names as long as it names anything: "type", "identity" a row, at most $1 rows. Some at
// a time in a transaction of their own; one each would wait for the disk each time.
void drop_all(postgres::Connection& connection, base::milliseconds patience, const std::string& query) {
  for (int at_once = kDroppedAtOnce;;) {
    const auto rows = connection.exec(query, postgres::Params().integer(at_once));
    if (rows.rows() == 0) {
      return;
    }
    std::string sql;
    for (int row = 0; row < rows.rows(); ++row) {
      sql += "DROP " + rows.text(row, 0) + " IF EXISTS " + rows.text(row, 1) + " CASCADE;";
    }
    try {
      despite_locks(connection, patience, [&] { connection.exec(sql, base::Deadline::never()); });
    } catch (const base::Stopped&) {
      throw;
    } catch (const base::TimeoutError&) {
      throw;
    } catch (const base::Error& error) {
      if (at_once == 1 || !error.connection_usable()) {
        throw;
      }
      base::log::debug("dropped one at a time from here on: " + error.describe());
      at_once = 1;
    }
  }
}

// Leaves before their parents: with those they would all be locked in one transaction.
constexpr const char* kLeaves =
    "SELECT CASE c.relkind WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, format('%I.%I', n.nspname, "
    "c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relispartition AND c.relkind IN ('r', 'f') AND n.nspname !~ '^pg_' "
    "AND n.nspname NOT IN ('information_schema', 'pgcutover') AND NOT EXISTS (SELECT 1 FROM pg_depend e "
    "WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e') "
    "LIMIT $1";

// By asking what depends on each schema, and on nothing else that goes with it. DROP AGGREGATE doesn't know
// an empty list of arguments.
constexpr const char* kObjectsOfSchemas =
    "SELECT CASE o.type WHEN 'statistics object' THEN 'statistics' WHEN 'aggregate' THEN 'routine' ELSE "
    "o.type "
    "END, o.identity "
    "FROM pg_namespace n "
    "JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n', "
    "LATERAL pg_identify_object(d.classid, d.objid, 0) o "
    "WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcutover') "
    "AND d.classid <> 'pg_extension'::regclass AND NOT EXISTS (SELECT 1 FROM pg_depend e "
    "WHERE e.classid = d.classid AND e.objid = d.objid AND e.objsubid = 0 AND e.deptype IN ('e', 'i', 'a')) "
    "AND o.type NOT IN ('default acl', 'policy', 'trigger', 'rule') LIMIT $1";

// Each takes a lock until its transaction ends. Repeats what a kill cut off.
void drop_large_objects(postgres::Connection& connection, base::milliseconds patience) {
  for (bool more = true; more;) {
    despite_locks(connection, patience, [&] {
      more = connection.one_value(
                 "SELECT count(lo_unlink(oid)) FROM (SELECT oid FROM pg_largeobject_metadata "
                 "LIMIT 100) few") != "0";
    });
  }
}

// Default rights of roles and schemas: revoked until each is what it is without an entry, which then goes.
void drop_default_rights(postgres::Connection& connection) {
  const auto rows = connection.exec(
      "SELECT DISTINCT quote_ident(r.rolname), coalesce(' IN SCHEMA ' || quote_ident(n.nspname), ''), "
      "CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN "
      "'T' THEN "
      "'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END, "
      "CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(g.rolname) END, d.defaclnamespace = 0 AND "
      "(a.grantee = "
      "d.defaclrole OR a.grantee = 0 AND d.defaclobjtype IN ('f', 'T')), a.privilege_type IS NULL "
      "FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = "
      "d.defaclnamespace LEFT JOIN LATERAL aclexplode(d.defaclacl) a ON true LEFT JOIN pg_roles g ON g.oid = "
      "a.grantee");
  for (int row = 0; row < rows.rows(); ++row) {
    const auto alter = "ALTER DEFAULT PRIVILEGES FOR ROLE " + rows.text(row, 0) + rows.text(row, 1);
    if (!rows.boolean(row, 5) && !rows.boolean(row, 4)) {
      connection.exec(alter + " REVOKE ALL ON " + rows.text(row, 2) + " FROM " + rows.text_or(row, 3, ""));
    }
    if (rows.text(row, 1).empty()) {  // what is there without an entry
      connection.exec(alter + " GRANT ALL ON " + rows.text(row, 2) + " TO " + rows.text(row, 0));
      if (rows.text(row, 2) == "FUNCTIONS" || rows.text(row, 2) == "TYPES") {
        connection.exec(alter + " GRANT ALL ON " + rows.text(row, 2) + " TO PUBLIC");
      }
    }
  }
}

}  // namespace

void drop_everything(postgres::Connection& connection, const std::string& extensions_kept,
                     base::milliseconds patience) {
  drop_all(connection, patience, kLeaves);
  drop_all(connection, patience, kObjectsOfSchemas);
  drop_each(connection, patience,
            "SELECT 'EXTENSION ' || quote_ident(extname) FROM pg_extension WHERE extname <> ALL ($1::name[])",
            {extensions_kept});
  // What belongs to no schema.
  constexpr std::string_view kOurs =
      " AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = x.oid AND e.deptype = 'e')";
  drop_each(connection, patience,
            "SELECT 'EVENT TRIGGER ' || quote_ident(evtname) FROM pg_event_trigger x WHERE true" +
                std::string(kOurs));
  drop_each(
      connection, patience,
      "SELECT 'SERVER ' || quote_ident(srvname) FROM pg_foreign_server x WHERE true" + std::string(kOurs));
  drop_each(
      connection, patience,
      "SELECT 'FOREIGN DATA WRAPPER ' || quote_ident(fdwname) FROM pg_foreign_data_wrapper x WHERE true" +
          std::string(kOurs));
  drop_each(
      connection, patience,
      "SELECT 'CAST (' || format_type(castsource, NULL) || ' AS ' || format_type(casttarget, NULL) || ')' "
      "FROM pg_cast x WHERE oid >= 16384" +
          std::string(kOurs));
  drop_each(connection, patience,
            "SELECT 'LANGUAGE ' || quote_ident(lanname) FROM pg_language x WHERE oid >= 16384" +
                std::string(kOurs));
  drop_each(
      connection, patience,
      "SELECT 'ACCESS METHOD ' || quote_ident(amname) FROM pg_am x WHERE oid >= 16384" + std::string(kOurs));
  drop_large_objects(connection, patience);
  drop_default_rights(connection);
  // What depends on one as a publication FOR TABLES IN SCHEMA does ('a') goes with it by itself.
  const auto schemas = connection.exec(
      "SELECT nspname FROM pg_namespace n WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', "
      "'pgcutover', 'public') AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = "
      "'pg_namespace'::regclass "
      "AND d.refobjid = n.oid AND d.deptype <> 'a') AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE "
      "e.classid = "
      "'pg_namespace'::regclass "
      "AND e.objid = n.oid AND e.deptype = 'e')");
  for (int row = 0; row < schemas.rows(); ++row) {
    despite_locks(connection, patience, [&] {
      connection.exec("DROP SCHEMA " + postgres::quote_identifier(schemas.text(row, 0)));
    });
  }
}

std::string public_schema_sql(postgres::Connection& connection) {
  return connection
      .maybe_value(R"(
    SELECT pg_catalog.format('ALTER SCHEMA public OWNER TO %I;', o.rolname)
        || pg_catalog.format('COMMENT ON SCHEMA public IS %L;', pg_catalog.obj_description(n.oid, 'pg_namespace'))
        || coalesce((SELECT string_agg(pg_catalog.format('GRANT %s ON SCHEMA public TO %s%s;', a.privilege_type,
                              CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END,
                              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '' ORDER BY place)
              FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner)))
                     WITH ORDINALITY a(grantor, grantee, privilege_type, is_grantable, place)
              LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee), '')
      FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner WHERE n.nspname = 'public')")
      .value_or("");
}

void put_back_public_schema(postgres::Connection& connection, const std::string& statements) {
  const auto now = public_schema_sql(connection);
  if (statements.empty() || now.empty() || now == statements) {
    return;
  }
  postgres::Transaction transaction(connection);
  const auto grantees = connection.exec(
      "SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END "
      "FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a "
      "LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee WHERE n.nspname = 'public'");
  for (int row = 0; row < grantees.rows(); ++row) {
    connection.exec("REVOKE ALL ON SCHEMA public FROM " + grantees.text(row, 0) + " CASCADE");
  }
  connection.exec(statements);
  transaction.commit_or_throw();
}

namespace {

std::vector<const catalog::Table*> filled(postgres::Connection& connection, const catalog::Catalog& content) {
  std::vector<const catalog::Table*> all;
  for (const auto& table : content.tables) {
    all.push_back(&table);
  }
  return catalog::tables_with_rows(connection, all);
}

}  // namespace

std::vector<std::string> tables_to_empty(postgres::Connection& connection,
                                         const catalog::TableFilter& filter) {
  const auto content = catalog::load(connection, filter);
  std::vector<std::string> names;
  for (const auto* table : filled(connection, content)) {
    names.push_back(table->display());
  }
  if (content.large_objects > 0) {
    names.push_back(std::to_string(content.large_objects) + " large objects");
  }
  return names;
}

void empty_tables(postgres::Connection& connection, const catalog::TableFilter& filter,
                  base::milliseconds patience) {
  const auto content = catalog::load(connection, filter);
  const auto tables = filled(connection, content);
  // DELETE, where a table that stays has a foreign key to one that is emptied: TRUNCATE would want it too.
  const auto empty = [&](const catalog::Table* table) {
    const bool referenced = connection
                                .one_row(
                                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' "
                                    "AND confrelid = $1::pg_catalog.regclass)",
                                    {table->qualified()})
                                .boolean(0, 0);
    connection.exec((referenced ? "DELETE FROM ONLY " : "TRUNCATE ONLY ") + table->qualified(),
                    base::Deadline::never());
  };
  for (std::size_t begin = 0; begin < tables.size();
       begin += kDroppedAtOnce) {  // each takes a handful of locks
    despite_locks(connection, patience, [&] {
      postgres::Transaction transaction(connection);
      connection.exec("SET LOCAL session_replication_role = replica");
      for (auto i = begin; i < std::min(begin + kDroppedAtOnce, tables.size()); ++i) {
        empty(tables[i]);
      }
      transaction.commit_or_throw();
    });
  }
  if (content.large_objects > 0) {
    drop_large_objects(connection, patience);
  }
}

std::string extension_names(postgres::Connection& connection) {
  return connection.one_value("SELECT coalesce(array_agg(extname), '{}')::text FROM pg_extension");
}

void reset_target(postgres::Connection& target, const plan::Plan& plan) {
  if (plan.content == plan::Content::data_only) {
    const auto names = tables_to_empty(target, plan.tables);
    empty_tables(target, plan.tables);
    for (const auto& name : names) {
      base::log::warn("--reset-target emptied " + name);
    }
    return;
  }
  const auto names = check::objects_to_drop(target);
  drop_everything(target, extension_names(target));
  for (const auto& name : names) {
    base::log::warn("--reset-target dropped " + name);
  }
  if (const auto left = check::target_objects(target); !left.empty()) {
    throw base::Error("--reset-target could not drop " + left.front() +
                          (left.size() > 1 ? " and " + std::to_string(left.size() - 1) + " more" : ""),
                      "drop it yourself, or give an empty database")
        .on("target");
  }
}

}  // namespace cutover::steps
