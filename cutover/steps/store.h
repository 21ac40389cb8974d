// What the tool remembers, in the schema `pgcutover` of both databases, so that a lost tool host costs
// nothing.
//
//   target: event (append-only journal of steps; what is done = a fold of it), fact (values later steps
//   need),
//           command (orders to the controller), status (its last report), table_copy, progress, conflict
//   source: as little as possible: fence, controller (epoch), marker, progress of the way back
// The tables of other rooms (progress, table_copy, marker, ledger) are made here too, by those rooms' DDL.
// Every write is conditional on the controller's epoch in the same statement: a stale controller writes
// nothing and gets a StateError.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cutover/state/records.h"
#include "cutover/steps/servers.h"
#include "cutover/steps/side.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/fencing_token.h"

namespace cutover::steps {

// All tables of one side, idempotent.
void create_schema(postgres::Connection& connection);
bool schema_exists(postgres::Connection& connection);

// The migration's identity, written on both sides when it begins and compared at each start.
struct RunRecord {
  std::string run_id;  // random
  std::string name;
  std::string source_system, target_system;  // system identifiers
  std::string source_database, target_database;
};
std::optional<RunRecord> read_run(postgres::Connection& connection);
// Throws StateError where these aren't the servers and databases that the migration was begun with.
void require_same_servers(const RunRecord& run, Servers& servers);
void write_run(postgres::Connection& connection, const RunRecord& run, const postgres::FencingToken& token);

void put_event(postgres::Connection& connection, const postgres::FencingToken& token, std::string_view step,
               std::string_view kind, std::string_view message);
std::vector<state::Event> read_events(postgres::Connection& connection);
// Whether the last event of this step is "done".
bool step_done(postgres::Connection& connection, std::string_view step);

void put_fact(postgres::Connection& connection, const postgres::FencingToken& token, std::string_view key,
              std::string_view value);
std::optional<std::string> read_fact(postgres::Connection& connection, std::string_view key);
// What the migration on this target was begun with.
plan::Content begun_content(postgres::Connection& target);
void put_roles(postgres::Connection& target, const postgres::FencingToken& token,
               const catalog::RoleMap& roles);
catalog::RoleMap begun_roles(postgres::Connection& target);  // from the source's names to the target's
// Every fact whose key starts with `prefix`.
std::map<std::string, std::string> read_facts(postgres::Connection& connection, std::string_view prefix);

// Orders from other processes. The asking side:
std::int64_t send_command(postgres::Connection& target, const state::CommandRequest& request);
std::optional<state::CommandReply> read_reply(postgres::Connection& target,
                                              std::int64_t id);  // marks it as seen
// Takes back a command that no controller has begun. False where one has.
bool withdraw_command(postgres::Connection& target, std::int64_t id);
// Answers what was asked of a controller that is gone: an order is for now, not for whoever comes later.
void refuse_old_commands(postgres::Connection& target);
// The controller's side. Taking a command marks it as begun, so that it is never executed twice. With `verb`:
// the oldest that asks for it.
void listen_for_commands(postgres::Connection& target);
std::optional<state::CommandRequest> take_command(postgres::Connection& target,
                                                  const postgres::FencingToken& token,
                                                  std::string_view verb = {});
void answer_command(postgres::Connection& target, const state::CommandReply& reply);
// Until whoever asked has read the answer, or the deadline.
void wait_until_seen(postgres::Connection& target, std::int64_t id, base::Deadline deadline);

// Recorded conflicts with an id beyond `settled_up_to`: the last one before a comparison that was equal.
std::int64_t open_conflicts(postgres::Connection& connection, std::string_view settled_up_to);
std::int64_t last_conflict(postgres::Connection& connection);

void put_status(postgres::Connection& target, const postgres::FencingToken& token, const std::string& json);
// Whether a controller was at work within the last seconds: one that lost its session to a restart of the
// target comes back, and a verb must not take its place meanwhile, nor just after a restart that took long. A
// controller that ends politely says so by retire_status.
bool status_is_fresh(postgres::Connection& target);
void retire_status(postgres::Connection& target);
std::optional<std::string> read_status(postgres::Connection& target);

// The one controller: a session lock on the target. False where somebody else holds it.
bool try_controller_lock(postgres::Connection& target);
// The session that holds it, "pid 4711 since ...", or nothing.
struct LockHolder {
  int pid = 0;
  std::string holder;  // of pgcutover.controller
};
std::optional<LockHolder> controller_lock_holder(postgres::Connection& target);

}  // namespace cutover::steps
