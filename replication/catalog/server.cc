#include "replication/catalog/server.h"

#include "replication/postgres/quote.h"

namespace replication::catalog {
namespace {

// The locale provider of a database: libc only before 15; the ICU locale's column was renamed in 17.
std::string locale_columns(int major) {
  constexpr std::string_view kProvider =
      "CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END, ";
  if (major < 15)
    return "'libc', ''";
  return std::string(kProvider) + (major < 17 ? "coalesce(d.daticulocale, '')" : "coalesce(d.datlocale, '')");
}

}  // namespace

ServerFacts server_facts(postgres::Connection& connection) {
  // The timeline comes from the name of the WAL file being written: pg_control knows a new one only after the
  // first checkpoint behind a promotion.
  const postgres::Result row = connection.one_row(R"(
    SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
           CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())
                ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()),
                                               1, 8))::bit(32)::int END,
           d.datname, pg_catalog.pg_database_size(d.oid), pg_catalog.pg_is_in_recovery(), r.rolname, r.rolsuper,
           r.rolreplication OR r.rolsuper, pg_catalog.pg_has_role(d.datdba, 'USAGE'),
           pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, )" +
                                                  locale_columns(connection.server_major()) + R"(
      FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
     WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user)");
  ServerFacts facts;
  facts.version = connection.server_version();
  facts.system_identifier = row.text(0, 0);
  facts.timeline = static_cast<std::uint32_t>(row.integer(0, 1));
  facts.database = row.text(0, 2);
  facts.database_bytes = row.integer(0, 3);
  facts.in_recovery = row.boolean(0, 4);
  facts.user = row.text(0, 5);
  facts.superuser = row.boolean(0, 6);
  facts.replication = row.boolean(0, 7);
  facts.owns_database = row.boolean(0, 8);
  facts.encoding = row.text(0, 9);
  facts.collate = row.text(0, 10);
  facts.ctype = row.text(0, 11);
  facts.locale_provider = row.text(0, 12);
  facts.locale = row.text(0, 13);
  return facts;
}

std::string setting(postgres::Connection& connection, std::string_view name) {
  return connection.one_value("SELECT coalesce(pg_catalog.current_setting($1, true), '')", {name});
}

std::vector<DefaultSetting> default_settings(postgres::Connection& connection,
                                             const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) {
    list += (list.empty() ? "" : ", ") + postgres::quote_literal(name);
  }
  const std::string given = R"(
    WITH given AS (
      SELECT DISTINCT ON (1) pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) AS name,
             pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1) AS value, s.setdatabase <> 0 AS of_database
        FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c
       WHERE s.setrole = 0 AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                                      WHERE datname = pg_catalog.current_database()))
       ORDER BY 1, 3 DESC))";
  // What our role has of its own hides what the configuration says; its files are superusers' to read.
  const std::string hidden =
      "s.source IN ('user', 'database user', 'client', 'override', 'interactive', 'session')";
  const bool files =
      connection.one_value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user") == "t";
  const std::string in_files =
      "(SELECT f.setting FROM pg_catalog.pg_file_settings f WHERE pg_catalog.lower(f.name) = "
      "pg_catalog.lower(s.name) AND f.applied LIMIT 1)";
  const postgres::Result rows = connection.exec(
      given + " SELECT name, value, of_database FROM (SELECT s.name, coalesce(given.value, CASE WHEN NOT " +
      hidden + " THEN s.setting" + (files ? " ELSE coalesce(" + in_files + ", s.boot_val)" : "") +
      " END) AS value, coalesce(given.of_database, false) AS of_database "
      "FROM pg_catalog.pg_settings s LEFT JOIN given ON given.name = pg_catalog.lower(s.name) "
      "WHERE s.name IN (" +
      list + ")) settings WHERE value IS NOT NULL ORDER BY name");
  std::vector<DefaultSetting> settings;
  for (int i = 0; i < rows.rows(); ++i) {
    settings.push_back({rows.text(i, 0), rows.text(i, 1), rows.boolean(i, 2)});
  }
  return settings;
}

std::vector<Session> foreign_sessions(postgres::Connection& connection) {
  // Without pg_read_all_stats others' rows show little more than user and pid: such a row is a session all
  // the same.
  const postgres::Result rows = connection.exec(R"(
    SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''),
           coalesce(pg_catalog.host(a.client_addr), CASE WHEN a.client_port = -1 THEN 'local' END, ''),
           coalesce(a.state, ''), coalesce(a.backend_type, ''), coalesce(r.rolsuper, false),
           coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start), 0)::float8,
           pg_catalog.left(coalesce(a.query, ''), 80)
      FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
     WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
       AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
       AND a.usename IS DISTINCT FROM current_user
     ORDER BY a.pid)");
  std::vector<Session> sessions;
  for (int i = 0; i < rows.rows(); ++i) {
    Session s;
    s.pid = static_cast<int>(rows.integer(i, 0));
    s.user = rows.text(i, 1);
    s.application_name = rows.text(i, 2);
    s.client = rows.text(i, 3);
    s.state = rows.text(i, 4);
    s.backend_type = rows.text(i, 5);
    s.superuser = rows.boolean(i, 6);
    s.transaction_seconds = rows.number(i, 7);
    s.query = rows.text(i, 8);
    sessions.push_back(std::move(s));
  }
  return sessions;
}

std::vector<PreparedTransaction> prepared_transactions(postgres::Connection& connection) {
  const postgres::Result rows = connection.exec(R"(
    SELECT gid, owner, database, extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float8
      FROM pg_catalog.pg_prepared_xacts ORDER BY prepared)");
  std::vector<PreparedTransaction> out;
  for (int i = 0; i < rows.rows(); ++i) {
    out.push_back({.gid = rows.text(i, 0),
                   .owner = rows.text(i, 1),
                   .database = rows.text(i, 2),
                   .age_seconds = rows.number(i, 3)});
  }
  return out;
}

base::Lsn insert_lsn(postgres::Connection& connection) {
  return base::Lsn::parse(connection.one_value("SELECT pg_catalog.pg_current_wal_insert_lsn()"));
}

base::Lsn flush_lsn(postgres::Connection& connection) {
  return base::Lsn::parse(connection.one_value("SELECT pg_catalog.pg_current_wal_flush_lsn()"));
}

}  // namespace replication::catalog
