#include "cutover/steps/finish.h"

#include "cutover/steps/conflicts.h"
#include "cutover/steps/fence.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/publisher.h"
#include "replication/apply/quiet.h"
#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/snapshot/roles.h"
#include "replication/stream/publication.h"
#include "replication/stream/slot.h"
#include "sequences/ledger.h"

namespace cutover::steps {
namespace {

using base::fault_point;
using base::milliseconds;
namespace stream = replication::stream;

constexpr milliseconds kDrop{30'000};
constexpr int kConflictsMax = 1'000;  // in a report, of each side

void drop_stream_objects(Context& context) {
  for (const Side side : {Side::source, Side::target}) {
    auto& connection = context.servers.at(side);
    postgres::Transaction transaction(connection);
    context.token.assert_current(connection);
    transaction.rollback();
    for (const auto& left :
         replication::apply::wake_tables(connection, context.token, base::Deadline::in(kDrop))) {
      base::log::warn("not put back on the " + std::string(to_string(side)) + ": " + left);
    }
    stream::drop_slot(connection, slot_name(context.plan.name, side), base::Deadline::in(kDrop));
    stream::drop_publication(connection, publication_name(context.plan.name, side));
  }
}

enum class Drop { rehearse, commit };

void drop_schema(postgres::Connection& connection, const postgres::FencingToken& token, Drop drop) {
  if (!schema_exists(connection)) {
    return;  // a call that was cut off came this far
  }
  postgres::Transaction transaction(connection);
  token.assert_current(connection);
  connection.exec("DROP SCHEMA pgcutover CASCADE");
  if (drop == Drop::rehearse) {
    transaction.rollback();
    return;
  }
  transaction.commit_or_throw();
}

std::string reopen_text(postgres::Connection& closed) {
  std::string text;
  if (const auto grants = read_fence(closed).connect_grants) {
    for (const auto& statement : grant_statements(closed.database(), *grants)) {
      text += "  " + statement + ";\n";
    }
  }
  return text;
}

// Drops what the query names, "TYPE name" a row.
void drop_each(postgres::Connection& connection, const std::string& query,
               const postgres::Params& params = {}) {
  const auto rows = connection.exec(query, params);
  for (int row = 0; row < rows.rows(); ++row) {
    connection.exec("DROP " + rows.text(row, 0) + " CASCADE");
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

// Everything in the database that isn't the system's, an extension's or ours, by asking what depends on each
// schema. The target was found empty when the migration began, so all of it was put there by us.
void empty_database(postgres::Connection& connection, const postgres::Params& extensions_before) {
  constexpr std::string_view kObjects =
      "SELECT o.type, o.identity FROM pg_namespace n "
      "JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = "
      "'n', "
      "LATERAL pg_identify_object(d.classid, d.objid, 0) o "
      "WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcutover') "
      "AND d.classid <> 'pg_extension'::regclass AND NOT EXISTS (SELECT 1 FROM pg_depend e "
      "WHERE e.classid = d.classid AND e.objid = d.objid AND e.objsubid = 0 AND e.deptype IN ('e', 'i', "
      "'a')) "
      "AND o.type NOT IN ('default acl', 'policy', 'trigger', 'rule') LIMIT 1";
  for (auto rows = connection.exec(kObjects); rows.rows() > 0; rows = connection.exec(kObjects)) {
    std::string type = rows.text(0, 0);
    type = type == "statistics object" ? "statistics" : type;
    connection.exec("DROP " + type + " IF EXISTS " + rows.text(0, 1) + " CASCADE");
  }
  drop_each(connection,
            "SELECT 'EXTENSION ' || quote_ident(extname) FROM pg_extension WHERE extname <> ALL ($1::name[])",
            extensions_before);
  // What belongs to no schema.
  constexpr std::string_view kOurs =
      " AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = x.oid AND e.deptype = 'e')";
  drop_each(connection, "SELECT 'EVENT TRIGGER ' || quote_ident(evtname) FROM pg_event_trigger x WHERE true" +
                            std::string(kOurs));
  drop_each(
      connection,
      "SELECT 'FOREIGN DATA WRAPPER ' || quote_ident(fdwname) FROM pg_foreign_data_wrapper x WHERE true" +
          std::string(kOurs));
  drop_each(
      connection,
      "SELECT 'CAST (' || format_type(castsource, NULL) || ' AS ' || format_type(casttarget, NULL) || ')' "
      "FROM pg_cast x WHERE oid >= 16384" +
          std::string(kOurs));
  connection.exec("SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
  drop_default_rights(connection);
  const auto schemas = connection.exec(
      "SELECT nspname FROM pg_namespace n WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', "
      "'pgcutover', 'public') AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = "
      "'pg_namespace'::regclass "
      "AND d.refobjid = n.oid) AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = "
      "'pg_namespace'::regclass "
      "AND e.objid = n.oid AND e.deptype = 'e')");
  for (int row = 0; row < schemas.rows(); ++row) {
    connection.exec("DROP SCHEMA " + postgres::quote_identifier(schemas.text(row, 0)));
  }
}

}  // namespace

std::string extension_names(postgres::Connection& connection) {
  return connection.one_value("SELECT coalesce(array_agg(extname), '{}')::text FROM pg_extension");
}

void require_finishable(Context& context) {
  if (!primary_side(context.servers.source(), context.servers.target())) {
    throw base::StateError("a hand-over is not settled yet", "call `pgcutover run` first");
  }
  if (read_fence(context.servers.source()).switches == 0) {
    throw base::StateError("nothing was switched yet: there is nothing to finish",
                           "`pgcutover switch` first, or `pgcutover cancel` to give up");
  }
}

void require_cancellable(Context& context) {
  const auto source = read_fence(context.servers.source());
  const auto target = read_fence(context.servers.target());
  if (source.state != FenceState::open || source.switches != 0 || target.switches != 0) {
    throw base::StateError("authority has moved between the servers: this can't be cancelled any more",
                           "`pgcutover rollback`, then `pgcutover finish`");
  }
}

std::optional<std::string> begun_ending(postgres::Connection& target) {
  for (const auto& event : read_events(target)) {
    if (event.step == "finish" || event.step == "cancel") {
      return event.step;
    }
  }
  return std::nullopt;
}

void rehearse_ending(Context& context) {
  for (const Side side : {Side::source, Side::target}) {
    drop_schema(context.servers.at(side), context.token, Drop::rehearse);
  }
}

void drop_last_trace(Context& context, const Tell& tell) {
  auto& target = context.servers.target();
  tell(begun_ending(target).value_or("finish") + " is completed: nothing of this migration is left\n");
  drop_schema(target, context.token, Drop::commit);
}

void finish(Context& context, const Tell& tell) {
  require_finishable(context);
  const auto primary = primary_side(context.servers.source(), context.servers.target());
  const Side closed = other(*primary);
  const std::string reopen = reopen_text(context.servers.at(closed));
  drop_stream_objects(context);
  fault_point("finish.after-slots");
  for (const Side side : {Side::source, Side::target}) {
    restore_identities(context, side);
  }
  // The source's schema first: as long as the target's is there, a repeated call knows what is left to do.
  drop_schema(context.servers.source(), context.token, Drop::commit);
  fault_point("finish.after-source-schema");
  tell("finished: " + std::string(to_string(*primary)) + " takes writes; the " +
       std::string(to_string(closed)) + " stays closed" +
       (reopen.empty() ? std::string("\n") : ". To open it for other uses:\n" + reopen));
  drop_schema(context.servers.target(), context.token, Drop::commit);
}

void cancel(Context& context, const Tell& tell) {
  require_cancellable(context);
  drop_stream_objects(context);
  fault_point("cancel.after-slots");
  restore_identities(context, Side::source);
  auto& connection = context.servers.target();
  if (step_done(connection, "close-target")) {
    empty_database(connection, {read_fact(connection, "extensions.before").value_or("{plpgsql}")});
    for (const auto& left : replication::snapshot::undo_roles_and_settings(connection)) {
      base::log::warn("not taken back on the target: " + left);
    }
  }
  if (read_fence(connection).state == FenceState::closed) {
    open_side(connection, context.token, 0);
  }
  drop_schema(context.servers.source(), context.token, Drop::commit);
  fault_point("cancel.after-source-schema");
  tell("cancelled: source takes writes as before; the target is empty again\n");
  drop_schema(connection, context.token, Drop::commit);
}

namespace {

// One line a sequence and hand-over: what had been handed out, and where each side goes on.
std::vector<report::SequenceRecord> sequence_records(Context& context) {
  const auto ledger = sequences::read_ledger(context.servers.target());
  std::vector<report::SequenceRecord> records;
  for (const auto& range : ledger) {
    if (!range.opens || !range.is_called) {
      continue;
    }
    const bool target_opens = range.server == to_string(Side::target);
    const auto end = range.until.value_or(range.start);
    records.push_back({range.display(), range.handed_out, target_opens ? range.start : end,
                       target_opens ? end : range.start, false});
  }
  return records;
}

}  // namespace

report::Report make_report(Context& context, const state::Status& status) {
  report::Report report;
  auto& target = context.servers.target();
  report.name = context.plan.name;
  report.who = context.servers.source().user();
  report.host = this_process();
  report.made_us = now_us();
  report.plan_text = plan::redacted_text(context.plan);
  report.status = status;
  for (const Side side : {Side::target, Side::source}) {
    auto& connection = context.servers.at(side);
    for (const auto& event : read_events(connection)) {
      if (event.kind == "began") {
        report.steps.push_back({event.step, "began", event.message, event.at_us, 0});
        continue;
      }
      report.steps.push_back({event.step, event.kind, event.message, 0, event.at_us});
    }
    for (const auto& conflict : read_conflicts(connection, "0", kConflictsMax)) {
      report.conflicts.push_back(conflict);
    }
    const auto fence = read_fence(connection);
    if (fence.marker_lsn) {
      report.fences.push_back({std::string(to_string(side)),
                               "table locks, marker, CONNECT taken away, sessions ended", "",
                               fence.marker_lsn->to_string(), 0, 0, 0});
    }
  }
  report.sequences = sequence_records(context);
  if (const auto verified = read_fact(target, "verify.last")) {
    const auto last = report::from_json(*verified);
    report.verify = last.verify;
    report.verified_us = last.made_us;
  }
  return report;
}

}  // namespace cutover::steps
