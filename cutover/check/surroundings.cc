// What a database needs of its server and what no dump contains: tablespaces, collations of the operating
// system, rights to make extensions, what sessions begin with.

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "cutover/check/context.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace cutover::check {
namespace {

using postgres::quote_identifier;

std::set<std::string> names(const postgres::Result& rows) {
  std::set<std::string> all;
  for (int i = 0; i < rows.rows(); ++i)
    all.insert(rows.text(i, 0));
  return all;
}

// Why the statement would fail; nothing is left of it.
std::optional<base::Error> refusal(Side& side, const std::string& sql) {
  try {
    postgres::Transaction transaction(side.connection);
    side.connection.exec(sql);
    transaction.rollback();
    return std::nullopt;
  } catch (const base::Error& error) {
    if (!error.connection_usable() || error.sqlstate().empty())
      throw;
    return error;
  }
}

}  // namespace

void check_tablespaces(Context& context) {
  const auto there = names(context.target.connection.exec("SELECT spcname FROM pg_catalog.pg_tablespace"));
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT s.spcname, n.nspname || '.' || c.relname, n.nspname || '.' || coalesce(t.relname, c.relname)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
      LEFT JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
     WHERE s.spcname <> 'pg_global' AND c.relpersistence <> 't' AND n.nspname <> 'pgcutover'
       AND n.nspname !~ '^pg_toast' ORDER BY 1, 2)");
  std::map<std::string, std::vector<std::string>> missing;
  for (int i = 0; i < rows.rows(); ++i) {
    if (!there.contains(rows.text(i, 0)) && context.input.filter.matches(rows.text(i, 2)))
      missing[rows.text(i, 0)].push_back(rows.text(i, 1));
  }
  for (const auto& [name, objects] : missing) {
    context.blocks(context.target, "tablespace-missing", name,
                   "tablespace " + name + " isn't here, and " + std::to_string(objects.size()) +
                       " table(s) and index(es) lie in it on the source: " + list_text(objects),
                   "CREATE TABLESPACE " + quote_identifier(name) +
                       " LOCATION '...';  or --accept tablespace-missing:" + name +
                       ", and they are made in the database's default tablespace");
  }
}

// Those that initdb took from the operating system or from ICU are there or not; those that somebody made are
// tried.
void check_collations(Context& context) {
  const auto there = names(context.target.connection.exec(R"(
    SELECT collname FROM pg_catalog.pg_collation
     WHERE collnamespace = 'pg_catalog'::pg_catalog.regnamespace AND collencoding IN (-1, (
             SELECT encoding FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())))"));
  const postgres::Result used = context.source.connection.exec(R"(
    SELECT DISTINCT ON (c.collname) c.collname, count(*) OVER (PARTITION BY c.collname),
           pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
      FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_collation c
        ON d.refclassid = 'pg_catalog.pg_collation'::pg_catalog.regclass AND d.refobjid = c.oid
     WHERE c.collnamespace = 'pg_catalog'::pg_catalog.regnamespace ORDER BY c.collname, d.classid, d.objid)");
  for (int i = 0; i < used.rows(); ++i) {
    if (!there.contains(used.text(i, 0))) {
      context.blocks(context.target, "collation-missing", used.text(i, 0),
                     "collation " + used.text(i, 0) + " isn't here, and " + used.text(i, 1) +
                         " object(s) of the source need it, such as " + used.text(i, 2),
                     "install the locale on the target's host, then SELECT "
                     "pg_import_system_collations('pg_catalog');  or use another collation on the source");
    }
  }
  const int major = context.source.facts.version / 10000;
  const std::string locale = major >= 17   ? "coalesce(c.colllocale, c.collcollate)"
                             : major >= 15 ? "coalesce(c.colliculocale, c.collcollate)"
                                           : "c.collcollate";
  const postgres::Result made = context.source.connection.exec(
      "SELECT n.nspname || '.' || c.collname, CASE c.collprovider WHEN 'i' THEN "
      "pg_catalog.format('PROVIDER = icu, LOCALE = %L', " +
      locale +
      ") ELSE pg_catalog.format('PROVIDER = libc, LC_COLLATE = %L, LC_CTYPE = %L', c.collcollate, "
      "c.collctype) END || CASE WHEN c.collisdeterministic THEN '' ELSE ', DETERMINISTIC = false' END "
      "FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace "
      "WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgcutover') AND c.collprovider IN ('i', "
      "'c') ORDER BY 1");
  for (int i = 0; i < made.rows(); ++i) {
    const auto why =
        refusal(context.target, "CREATE COLLATION pg_temp.pgcutover_try (" + made.text(i, 1) + ")");
    if (why && why->sqlstate() != "42501") {  // no right to temporary objects: not known
      context.blocks(
          context.target, "collation-missing", made.text(i, 0),
          "collation " + made.text(i, 0) + " (" + made.text(i, 1) + ") can't be made here: " + why->message(),
          "install the locale on the target's host, or use a server that was built with it");
    }
  }
}

// Tried rather than looked up: managed servers allow it by means of their own.
void check_extension_rights(Context& context) {
  if (context.target.facts.superuser || context.resuming)
    return;
  const auto untrusted = names(context.target.connection.exec(R"(
    SELECT v.name FROM pg_catalog.pg_available_extension_versions v
      JOIN pg_catalog.pg_available_extensions e ON e.name = v.name AND e.default_version = v.version
     WHERE v.superuser AND NOT v.trusted AND e.installed_version IS NULL)"));
  for (const auto& [name, version] : context.catalog.extensions) {
    if (!untrusted.contains(name))
      continue;
    const auto why =
        refusal(context.target, "CREATE EXTENSION " + quote_identifier(name) + " SCHEMA public CASCADE");
    if (why && why->sqlstate() == "42501") {
      context.blocks(
          context.target, "missing-privilege", "EXTENSION " + name,
          "role " + context.target.facts.user + " may not make extension " + name + ": " + why->message(),
          "as a superuser, here: CREATE EXTENSION " + quote_identifier(name) +
              ";  what is there is left as it is");
    }
  }
}

// pg_dump writes a mapping without options where it may not see them.
void check_user_mappings(Context& context) {
  if (context.source.facts.superuser)
    return;
  const postgres::Result rows = context.source.connection.exec(R"(
    SELECT m.srvname || ' ' || m.usename FROM pg_catalog.pg_user_mappings m
      JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid
     WHERE m.umoptions IS NULL AND NOT pg_catalog.pg_has_role(s.srvowner, 'USAGE') ORDER BY 1)");
  for (int i = 0; i < rows.rows(); ++i) {
    context.warns(context.source, "user-mapping", rows.text(i, 0),
                  "options of this user mapping (server, user), its password among them, aren't ours to see: "
                  "it is made without",
                  "ALTER USER MAPPING ... OPTIONS (ADD ...) on the target, or let a superuser move it");
  }
}

const std::vector<std::string>& compared_settings() {
  static const std::vector<std::string> all = {"DateStyle",
                                               "IntervalStyle",
                                               "TimeZone",
                                               "array_nulls",
                                               "backslash_quote",
                                               "bytea_output",
                                               "default_text_search_config",
                                               "default_transaction_deferrable",
                                               "default_transaction_isolation",
                                               "default_transaction_read_only",
                                               "extra_float_digits",
                                               "idle_in_transaction_session_timeout",
                                               "lc_monetary",
                                               "lc_numeric",
                                               "lc_time",
                                               "lock_timeout",
                                               "row_security",
                                               "search_path",
                                               "standard_conforming_strings",
                                               "statement_timeout",
                                               "synchronous_commit",
                                               "transform_null_equals",
                                               "xmlbinary",
                                               "xmloption"};
  return all;
}

void check_default_settings(Context& context) {
  if (context.resuming)
    return;  // said before, and the fence has settings of its own
  std::map<std::string, std::string> there;
  for (const auto& setting : context.input.target_settings)
    there.emplace(setting.name, setting.value);
  for (const auto& setting : context.input.source_settings) {
    const auto other = there.find(setting.name);
    if (other == there.end() || other->second == setting.value ||
        (setting.of_database && context.restores()))  // comes along
      continue;
    context.warns(context.target, "settings-differ", setting.name,
                  "sessions begin with " + setting.name + " = '" + other->second + "' here, with '" +
                      setting.value + "' on the source" +
                      (setting.of_database ? "" : ", by the server's configuration, which isn't moved"),
                  "ALTER DATABASE ... SET " + setting.name + " = " + postgres::quote_literal(setting.value) +
                      ";  on the source, and it comes along; or here, where an application depends on it");
  }
}

}  // namespace cutover::check
