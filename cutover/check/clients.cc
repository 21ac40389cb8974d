// Who is connected, who could connect, and who would still write behind the fence?

#include <map>

#include "cutover/check/context.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace cutover::check {
namespace {

using postgres::quote_identifier;

std::string minutes_text(double seconds) {
  return std::to_string(static_cast<std::int64_t>(seconds / 60)) + " min " +
         std::to_string(static_cast<std::int64_t>(seconds) % 60) + " s";
}

// The fence's REVOKE, in a transaction that is rolled back: who can still log in afterwards? Members of our
// role are left to their own finding.
std::vector<std::string> survivors(Side& side) {
  postgres::Connection& connection = side.connection;
  const std::string on = " CONNECT ON DATABASE " + quote_identifier(side.facts.database);
  postgres::Transaction transaction(connection);
  connection.exec("SET LOCAL lock_timeout = '2s'");
  const postgres::Result grantees = connection.exec(R"(
    SELECT DISTINCT coalesce(r.rolname, '') FROM pg_catalog.pg_database d
      CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
     WHERE d.datname = pg_catalog.current_database() AND a.privilege_type = 'CONNECT'
       AND (a.grantee = 0 OR r.rolname <> current_user))");
  for (int i = 0; i < grantees.rows(); ++i) {
    const std::string role = grantees.view(i, 0).empty() ? "PUBLIC" : quote_identifier(grantees.view(i, 0));
    connection.exec("REVOKE" + on + " FROM " + role + " CASCADE");
  }
  const postgres::Result rows = connection.exec(R"(
    SELECT rolname FROM pg_catalog.pg_roles
     WHERE rolcanlogin AND NOT rolsuper AND rolname <> current_user
       AND pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CONNECT')
       AND NOT pg_catalog.pg_has_role(oid, current_user, 'USAGE')
     ORDER BY 1)");
  transaction.rollback();
  connection.take_notices();  // "no privileges could be revoked": said by the list
  std::vector<std::string> out;
  for (int i = 0; i < rows.rows(); ++i)
    out.push_back(rows.text(i, 0));
  return out;
}

}  // namespace

void check_tool_role(Context& context, Side& side) {
  const postgres::Result sessions = side.connection.exec(R"(
    SELECT coalesce(application_name, ''), count(*), pg_catalog.min(pid)
      FROM pg_catalog.pg_stat_activity
     WHERE datname = pg_catalog.current_database() AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()
       AND backend_type = 'client backend' AND application_name NOT LIKE 'pgcutover%'
       -- one that is just starting hasn't told its name yet, ours neither
       AND coalesce(state, 'starting') <> 'starting'
     GROUP BY 1 ORDER BY 1)");
  const std::string user = side.facts.user;
  for (int i = 0; i < sessions.rows(); ++i) {
    const std::string application = sessions.text(i, 0);
    context.blocks(
        side, "tool-role-shared", application,
        sessions.text(i, 1) + " session(s) of " +
            (application.empty() ? "an application without a name" : "application " + application) +
            " (pid " + sessions.text(i, 2) + "...) connect as our own role " + user +
            ", which the fence lets through",
        "CREATE ROLE pgcutover LOGIN REPLICATION PASSWORD '...';  give it what this check asks for, and run "
        "this tool as that role alone");
  }
  const postgres::Result members = side.connection.exec(R"(
    SELECT rolname FROM pg_catalog.pg_roles
     WHERE rolcanlogin AND NOT rolsuper AND rolname <> current_user
       AND pg_catalog.pg_has_role(oid, current_user, 'USAGE')
     ORDER BY 1)");
  for (int i = 0; i < members.rows(); ++i) {
    context.blocks(
        side, "member-of-tool-role", members.text(i, 0),
        "login role " + members.text(i, 0) + " is a member of our role " + user +
            " and may connect wherever we may, also behind the fence",
        "REVOKE " + quote_identifier(user) + " FROM " + quote_identifier(members.view(i, 0)) + ";");
  }
}

void check_superuser_sessions(Context& context, Side& side) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> found;
  for (const catalog::Session& session : catalog::foreign_sessions(side.connection)) {
    if (session.superuser)
      found[{session.user, session.application_name}].push_back(std::to_string(session.pid));
  }
  for (const auto& [who, pids] : found) {
    const std::string message = "superuser " + who.first + " is connected" +
                                (who.second.empty() ? "" : " as application " + who.second) + " (pid " +
                                list_text(pids) + "): no REVOKE keeps a superuser out";
    const std::string remedy =
        "let the application use an ordinary role; end a forgotten session with SELECT "
        "pg_terminate_backend(" +
        pids.front() +
        "); where it only reads: --accept "
        "superuser-sessions:" +
        who.first;
    // On the target nobody has a reason to write yet: a monitor is the likely one.
    if (side.is_source()) {
      context.blocks(side, "superuser-sessions", who.first, message, remedy);
    } else {
      context.warns(side, "superuser-sessions", who.first, message, remedy);
    }
  }
}

void check_connect_revoke(Context& context, Side& side) {
  if (side.facts.in_recovery)
    return;
  const std::string remedy = "let role " + side.facts.user +
                             " own the database, or be a member of its owner: ALTER "
                             "DATABASE " +
                             quote_identifier(side.facts.database) + " OWNER TO " +
                             quote_identifier(side.facts.user) + ";";
  try {
    const std::vector<std::string> roles = survivors(side);
    if (roles.empty())
      return;
    context.blocks(
        side, "connect-survives-revoke", side.facts.database,
        std::to_string(roles.size()) + " role(s) could still connect after the fence: " + list_text(roles),
        remedy);
  } catch (const base::Error& error) {
    if (!error.connection_usable() || error.sqlstate().empty())
      throw;
    context.blocks(side, "connect-survives-revoke", side.facts.database,
                   "taking CONNECT away was tried and refused: " + error.message(), remedy);
  }
}

void check_prepared_transactions(Context& context) {
  for (const catalog::PreparedTransaction& prepared :
       catalog::prepared_transactions(context.source.connection)) {
    if (prepared.database != context.source.facts.database)
      continue;
    const std::string gid = postgres::quote_literal(prepared.gid);
    context.blocks(context.source, "prepared-transactions", prepared.gid,
                   "transaction prepared by " + prepared.owner + " is open for " +
                       minutes_text(prepared.age_seconds) + ": slot and fence would wait for it",
                   "COMMIT PREPARED " + gid + ";  or ROLLBACK PREPARED " + gid + ";");
  }
}

void check_long_transactions(Context& context, Side& side) {
  // Of every database: making a slot waits for all transactions of the cluster that have written.
  const double limit = static_cast<double>(context.input.long_transaction.count()) / 1000;
  const postgres::Result rows = side.connection.exec(
      R"(
    SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(datname, ''), coalesce(state, ''),
           extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::float8 AS age
      FROM pg_catalog.pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
       AND xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1::float8)
     ORDER BY age DESC)",
      postgres::Params{std::to_string(limit)});
  for (int i = 0; i < rows.rows(); ++i) {
    context.warns(side, "long-transactions", "pid " + rows.text(i, 0),
                  "a transaction of " + rows.text(i, 1) + " (application " + rows.text(i, 2) + ", database " +
                      rows.text(i, 3) + ", " + rows.text(i, 4) + ") is open for " +
                      minutes_text(rows.number(i, 5)) + ": making a slot waits for it",
                  "let it end, or SELECT pg_terminate_backend(" + rows.text(i, 0) + ");");
  }
}

void check_other_replication(Context& context) {
  Side& source = context.source;
  const postgres::Result slots = source.connection.exec(R"(
    SELECT slot_name, plugin, active FROM pg_catalog.pg_replication_slots
     WHERE slot_type = 'logical' AND database = pg_catalog.current_database() AND slot_name NOT LIKE 'pgcutover%'
     ORDER BY 1)");
  for (int i = 0; i < slots.rows(); ++i) {
    context.warns(
        source, "foreign-slots", slots.text(i, 0),
        "logical slot " + slots.text(i, 0) + " (" + slots.text(i, 1) + ", " +
            (slots.boolean(i, 2) ? "in use" : "not in use") +
            ") stays here: its consumer has to go on at the target",
        slots.boolean(i, 2)
            ? "after the switch, anew with a copy of its own; a slot on the target alone gives too much or "
              "too little: docs/content.md#consumers-of-slots"
            : "drop it where nobody needs it: SELECT pg_drop_replication_slot(" +
                  postgres::quote_literal(slots.view(i, 0)) + ");  else docs/content.md#consumers-of-slots");
  }
  const postgres::Result subscriptions = source.connection.exec(R"(
    SELECT subname FROM pg_catalog.pg_subscription
     WHERE subenabled
       AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
     ORDER BY 1)");
  for (int i = 0; i < subscriptions.rows(); ++i) {
    context.blocks(source, "subscription", subscriptions.text(i, 0),
                   "subscription " + subscriptions.text(i, 0) +
                       " writes into this database; its worker is no client "
                       "session, so the fence doesn't end it",
                   "ALTER SUBSCRIPTION " + quote_identifier(subscriptions.view(i, 0)) +
                       " DISABLE;  and hand it over to the target as docs/content.md#subscriptions says");
  }
}

void check_scheduled_jobs(Context& context) {
  for (const auto& [name, version] : context.catalog.extensions) {
    if (name != "pg_cron" && name != "pg_timetable" && name != "pgagent")
      continue;
    context.warns(context.source, "scheduled-jobs", name,
                  "extension " + name + " " + version + " runs jobs inside the database",
                  "disable its jobs on the target until the switch, on the source after it");
  }
}

}  // namespace cutover::check
