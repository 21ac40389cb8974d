#include "cutover/steps/store.h"

#include "cutover/steps/publication_watch.h"
#include "cutover/steps/schema_changes.h"
#include "replication/apply/progress.h"
#include "replication/base/error.h"
#include "replication/catalog/server.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/roles.h"
#include "replication/stream/marker.h"
#include "sequences/rate.h"
#include "sequences/sequences.h"

namespace cutover::steps {
namespace {

constexpr std::string_view kRoles = "roles.map";
constexpr std::string_view kLockKey = "1885823861, 1";  // "pgcu"

constexpr std::string_view kTables = R"(
CREATE TABLE IF NOT EXISTS pgcutover.run (
  id integer PRIMARY KEY CHECK (id = 1),
  run_id text NOT NULL, name text NOT NULL,
  source_system text NOT NULL, target_system text NOT NULL,
  source_database text NOT NULL, target_database text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS pgcutover.event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  epoch bigint NOT NULL, step text NOT NULL, kind text NOT NULL, message text NOT NULL
);
CREATE TABLE IF NOT EXISTS pgcutover.fact (
  key text PRIMARY KEY, value text NOT NULL,
  epoch bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS pgcutover.command (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  request text NOT NULL, taken_epoch bigint, reply text, seen boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS pgcutover.status (
  id integer PRIMARY KEY CHECK (id = 1), at timestamptz NOT NULL, json text NOT NULL
);
-- Who may write here, as far as this server knows. Authority moves by the one COMMIT that sets 'closed' on the side
-- that gives it up; "switches" counts how often it moved.
CREATE TABLE IF NOT EXISTS pgcutover.fence (
  id integer PRIMARY KEY CHECK (id = 1),
  state text NOT NULL CHECK (state IN ('open', 'fencing', 'fenced', 'closed')),
  switches integer NOT NULL DEFAULT 0,
  attempt text,
  connect_grants text[],
  marker text, marker_lsn pg_lsn,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO pgcutover.fence (id, state) VALUES (1, 'open') ON CONFLICT DO NOTHING;
)";

void expect_written(const postgres::Result& result, postgres::Connection& connection,
                    const postgres::FencingToken& token) {
  if (result.affected_rows() != 1) {
    token.assert_current(connection);  // says who took over
    throw base::StateError("a row of pgcutover could not be written").on(connection.server());
  }
}

std::int64_t epoch_us(const postgres::Result& result, int row, int column) {
  return result.integer(row, column);
}

}  // namespace

bool schema_exists(postgres::Connection& connection) {
  return connection.one_row("SELECT to_regclass('pgcutover.run') IS NOT NULL").boolean(0, 0);
}

void create_schema(postgres::Connection& connection) {
  postgres::Transaction transaction(connection);
  connection.exec(postgres::FencingToken::schema_sql());
  connection.exec(kTables);
  connection.exec(table_file_schema_sql());
  connection.exec(publication_schema_sql());
  connection.exec(replication::apply::progress_schema_sql());
  connection.exec(replication::stream::marker_schema_sql());
  connection.exec(replication::snapshot::copy_schema_sql());
  connection.exec(replication::snapshot::undo_schema_sql());
  connection.exec(sequences::ledger_schema_sql());
  connection.exec(sequences::sample_schema_sql());
  transaction.commit_or_throw();
}

std::optional<RunRecord> read_run(postgres::Connection& connection) {
  if (!schema_exists(connection)) {
    return std::nullopt;
  }
  const auto rows = connection.exec(
      "SELECT run_id, name, source_system, target_system, source_database, target_database FROM "
      "pgcutover.run");
  if (rows.rows() == 0) {
    return std::nullopt;
  }
  return RunRecord{rows.text(0, 0), rows.text(0, 1), rows.text(0, 2),
                   rows.text(0, 3), rows.text(0, 4), rows.text(0, 5)};
}

void require_same_servers(const RunRecord& run, Servers& servers) {
  const auto source = replication::catalog::server_facts(servers.source());
  const auto target = replication::catalog::server_facts(servers.target());
  const auto compare = [](std::string_view what, const std::string& recorded, const std::string& found) {
    if (recorded != found) {
      throw base::StateError(
          "this migration was begun with " + std::string(what) + " " + recorded + ", not " + found,
          "give the servers it was begun with, or `pgcutover cancel` it with those");
    }
  };
  compare("the source cluster", run.source_system, source.system_identifier);
  compare("the target cluster", run.target_system, target.system_identifier);
  compare("the source database", run.source_database, source.database);
  compare("the target database", run.target_database, target.database);
}

void write_run(postgres::Connection& connection, const RunRecord& run, const postgres::FencingToken& token) {
  postgres::Transaction transaction(connection);
  connection.exec(
      "INSERT INTO pgcutover.run (id, run_id, name, source_system, target_system, source_database, "
      "target_database) "
      "VALUES (1, $1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
      {run.run_id, run.name, run.source_system, run.target_system, run.source_database, run.target_database});
  token.assert_current(connection);
  transaction.commit_or_throw();
}

void put_event(postgres::Connection& connection, const postgres::FencingToken& token, std::string_view step,
               std::string_view kind, std::string_view message) {
  const auto result =
      connection.exec("INSERT INTO pgcutover.event (epoch, step, kind, message) SELECT " +
                          std::to_string(token.epoch()) + ", $1, $2, $3 WHERE " + token.sql_condition(),
                      {step, kind, message});
  expect_written(result, connection, token);
}

std::vector<state::Event> read_events(postgres::Connection& connection) {
  const auto rows = connection.exec(
      "SELECT id, (extract(epoch FROM at) * 1000000)::bigint, epoch, step, kind, message FROM "
      "pgcutover.event "
      "ORDER BY id");
  std::vector<state::Event> events;
  for (int row = 0; row < rows.rows(); ++row) {
    state::Event event;
    event.id = rows.integer(row, 0);
    event.at_us = epoch_us(rows, row, 1);
    event.epoch = rows.integer(row, 2);
    event.step = rows.text(row, 3);
    event.kind = rows.text(row, 4);
    event.message = rows.text(row, 5);
    events.push_back(std::move(event));
  }
  return events;
}

bool step_done(postgres::Connection& connection, std::string_view step) {
  return connection.maybe_value("SELECT kind FROM pgcutover.event WHERE step = $1 ORDER BY id DESC LIMIT 1",
                                {step}) == "done";
}

void put_fact(postgres::Connection& connection, const postgres::FencingToken& token, std::string_view key,
              std::string_view value) {
  const auto result = connection.exec("INSERT INTO pgcutover.fact (key, value, epoch) SELECT $1, $2, " +
                                          std::to_string(token.epoch()) + " WHERE " + token.sql_condition() +
                                          " ON CONFLICT (key) DO UPDATE SET value = excluded.value, epoch = "
                                          "excluded.epoch, at = clock_timestamp()",
                                      {key, value});
  expect_written(result, connection, token);
}

std::optional<std::string> read_fact(postgres::Connection& connection, std::string_view key) {
  return connection.maybe_value("SELECT value FROM pgcutover.fact WHERE key = $1", {key});
}

plan::Content begun_content(postgres::Connection& target) {
  const auto word = read_fact(target, "content");
  return word == plan::to_string(plan::Content::data_only)     ? plan::Content::data_only
         : word == plan::to_string(plan::Content::schema_only) ? plan::Content::schema_only
                                                               : plan::Content::all;
}

void put_roles(postgres::Connection& target, const postgres::FencingToken& token,
               const catalog::RoleMap& roles) {
  put_fact(target, token, kRoles, roles.flat());
}

catalog::RoleMap begun_roles(postgres::Connection& target) {
  const auto rows = target.exec("SELECT unnest($1::text[])", {read_fact(target, kRoles).value_or("{}")});
  std::vector<std::string> names;
  for (int row = 0; row < rows.rows(); ++row) {
    names.push_back(rows.text(row, 0));
  }
  return catalog::RoleMap::from_flat(names);
}

std::map<std::string, std::string> read_facts(postgres::Connection& connection, std::string_view prefix) {
  const auto rows = connection.exec("SELECT key, value FROM pgcutover.fact WHERE starts_with(key, $1)",
                                    postgres::Params{prefix});
  std::map<std::string, std::string> facts;
  for (int row = 0; row < rows.rows(); ++row) {
    facts[rows.text(row, 0)] = rows.text(row, 1);
  }
  return facts;
}

std::int64_t send_command(postgres::Connection& target, const state::CommandRequest& request) {
  const auto row = target.one_row("INSERT INTO pgcutover.command (request) VALUES ($1) RETURNING id",
                                  {state::to_json(request)});
  target.exec("NOTIFY pgcutover_command");
  return row.integer(0, 0);
}

std::optional<state::CommandReply> read_reply(postgres::Connection& target, std::int64_t id) {
  const auto json = target.maybe_value(
      "UPDATE pgcutover.command SET seen = true WHERE id = $1 AND reply IS NOT NULL RETURNING reply",
      postgres::Params().integer(id));
  return json ? std::optional(state::command_reply_from_json(*json)) : std::nullopt;
}

bool withdraw_command(postgres::Connection& target, std::int64_t id) {
  return target
             .exec("DELETE FROM pgcutover.command WHERE id = $1 AND taken_epoch IS NULL",
                   postgres::Params().integer(id))
             .affected_rows() == 1;
}

void refuse_old_commands(postgres::Connection& target) {
  state::CommandReply reply;
  reply.finished = true;
  reply.exit_code = static_cast<int>(base::ExitCode::wrong_state);
  reply.message = "the controller that was asked is gone; nothing was done for this command by its successor";
  reply.hint = "`pgcutover status`, then ask again";
  target.exec("UPDATE pgcutover.command SET reply = $1 WHERE reply IS NULL", {state::to_json(reply)});
}

void listen_for_commands(postgres::Connection& target) {
  target.exec("LISTEN pgcutover_command");
}

std::optional<state::CommandRequest> take_command(postgres::Connection& target,
                                                  const postgres::FencingToken& token,
                                                  std::string_view verb) {
  const auto rows = target.exec(
      "UPDATE pgcutover.command SET taken_epoch = " + std::to_string(token.epoch()) +
          " WHERE id = (SELECT min(id) FROM pgcutover.command WHERE taken_epoch IS NULL AND reply IS NULL "
          "AND $1 IN ('', request::pg_catalog.jsonb ->> 'verb')) AND " +
          token.sql_condition() + " RETURNING id, request",
      {verb});
  if (rows.rows() == 0) {
    return std::nullopt;
  }
  auto request = state::command_request_from_json(rows.text(0, 1));
  request.id = rows.integer(0, 0);
  return request;
}

void answer_command(postgres::Connection& target, const state::CommandReply& reply) {
  target.exec("UPDATE pgcutover.command SET reply = $1 WHERE id = $2",
              postgres::Params().text(std::string_view(state::to_json(reply))).integer(reply.id));
}

void wait_until_seen(postgres::Connection& target, std::int64_t id, base::Deadline deadline) {
  const auto seen = [&] {
    return target.one_row("SELECT seen FROM pgcutover.command WHERE id = $1", postgres::Params().integer(id))
        .boolean(0, 0);
  };
  while (!seen() && !deadline.expired()) {
    target.stop().wait(base::Deadline::in(base::milliseconds(50)));
  }
}

std::int64_t open_conflicts(postgres::Connection& connection, std::string_view settled_up_to) {
  return connection.one_row("SELECT count(*) FROM pgcutover.conflict WHERE id > $1::bigint", {settled_up_to})
      .integer(0, 0);
}

std::int64_t last_conflict(postgres::Connection& connection) {
  return connection.one_row("SELECT coalesce(max(id), 0) FROM pgcutover.conflict").integer(0, 0);
}

void put_status(postgres::Connection& target, const postgres::FencingToken& token, const std::string& json) {
  const auto result = target.exec(
      "INSERT INTO pgcutover.status (id, at, json) SELECT 1, clock_timestamp(), $1 WHERE " +
          token.sql_condition() + " ON CONFLICT (id) DO UPDATE SET at = excluded.at, json = excluded.json",
      {json});
  expect_written(result, target, token);
}

bool status_is_fresh(postgres::Connection& target) {
  return target
      .maybe_value(
          "SELECT 1 FROM pgcutover.status WHERE at > clock_timestamp() - interval '10 seconds' OR (at > "
          "'-infinity' AND pg_catalog.pg_postmaster_start_time() > clock_timestamp() - interval '30 "
          "seconds')")
      .has_value();
}

void retire_status(postgres::Connection& target) {
  target.exec("UPDATE pgcutover.status SET at = '-infinity'");
}

std::optional<std::string> read_status(postgres::Connection& target) {
  return target.maybe_value("SELECT json FROM pgcutover.status WHERE id = 1");
}

bool try_controller_lock(postgres::Connection& target) {
  return target.one_row("SELECT pg_try_advisory_lock(" + std::string(kLockKey) + ")").boolean(0, 0);
}

std::optional<LockHolder> controller_lock_holder(postgres::Connection& target) {
  const auto rows = target.exec(
      "SELECT l.pid, coalesce((SELECT c.holder || ' since ' || c.since FROM pgcutover.controller c WHERE "
      "c.id = 1), '') "
      "FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 1885823861 AND l.objid = "
      "1 "
      "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())");
  if (rows.rows() == 0) {
    return std::nullopt;
  }
  return LockHolder{static_cast<int>(rows.integer(0, 0)), rows.text(0, 1)};
}

}  // namespace cutover::steps
