// Runs the statements of a restore on the target, each exactly once.
//
// A statement and the note that it was run (pgcutover.restored) are committed together, so that a killed
// restore goes on where it was, without guessing from error messages or names what exists already. A
// statement is known by the hash of its text and by how often that text came before.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/fencing_token.h"
#include "replication/snapshot/sql_script.h"

namespace replication::snapshot {

// DDL (idempotent) of pgcutover.restored and pgcutover.deferred_statement.
std::string restore_schema_sql();

struct RestoreItem {
  ScriptItem item;
  std::string key;  // what pgcutover.restored knows it by
};

// For schema statements on the target. Throws StateError where `token` isn't current: a controller that was
// replaced gets no new session, and its old ones were ended by its successor.
postgres::Connection open_restore_session(const postgres::ConnInfo& target,
                                          const postgres::FencingToken& token, const base::Stop& stop);

// Those of `items` that weren't run yet, in their order.
std::vector<RestoreItem> outstanding(postgres::Connection& target, const std::vector<ScriptItem>& items);

// Throws an Error that names every role the statements need and the target doesn't have.
void require_roles(postgres::Connection& target, std::span<const RestoreItem> items);

// Runs them one after the other, many in a transaction. The first failure is thrown; what was done stays
// done. A comment on a constraint that isn't there yet is kept in pgcutover.deferred_statement, for after the
// foreign keys.
void run_in_order(postgres::Connection& target, std::span<const RestoreItem> items);

// Builds indexes in `jobs` sessions, each in a transaction of its own. Returns those that need something that
// isn't there yet (an index on a view that another statement turns into a table...), for run_in_order.
std::vector<RestoreItem> build_indexes(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                                       std::span<const RestoreItem> items, int jobs, const base::Stop& stop);

// INSERT of the note of a statement, to be sent together with it. Where `condition` (SQL) doesn't hold it
// fails with not_null_violation, and the statement with it.
std::string restored_note_sql(const std::string& key, const std::string& condition = {});
// What an operator can do about a failed statement.
std::string restore_remedy(const base::Error& error);
// Whether a statement failed for want of something that another statement of the archive makes.
bool needs_something_else(const base::Error& error);

// Runs what run_in_order deferred and forgets it. Nothing where nothing was deferred.
void run_deferred(postgres::Connection& target);

}  // namespace replication::snapshot
