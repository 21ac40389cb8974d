// Emptying the target: before a migration begins (--reset-target), and when one is cancelled.
//
// What goes is gone: callers ask a person first. Each function is idempotent and can be called again after a
// kill. Whoever holds a lock there is waited for, by name, as long as `patience` says: see lock_wait.h.
#pragma once

#include <string>
#include <vector>

#include "cutover/steps/lock_wait.h"
#include "cutover/steps/servers.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"

namespace cutover::steps {

// Drops everything in the database that isn't the system's, an extension's or ours. Of extensions those stay
// that `extensions_kept` (a text[] value) names.
void drop_everything(postgres::Connection& connection, const std::string& extensions_kept,
                     base::milliseconds patience = kLockPatience);

// Schema public is in every database and is never dropped: its owner, rights and comment now, as statements
// that bring them back. Empty where there is no such schema.
std::string public_schema_sql(postgres::Connection& connection);
// Takes away what it has now and runs those statements, in one transaction. Nothing for empty ones.
void put_back_public_schema(postgres::Connection& connection, const std::string& statements);

// Tables of the filter that hold rows, and "large objects", as a person knows them.
std::vector<std::string> tables_to_empty(postgres::Connection& connection,
                                         const catalog::TableFilter& filter);
// Empties every table of the filter that holds rows, and the large objects; nothing but rows goes. Some at a
// time in a transaction.
void empty_tables(postgres::Connection& connection, const catalog::TableFilter& filter,
                  base::milliseconds patience = kLockPatience);

// The database's extensions as a text[] value.
std::string extension_names(postgres::Connection& connection);

// What `run --reset-target` does before it begins: as `check --reset-target` had listed.
void reset_target(postgres::Connection& target, const plan::Plan& plan);

}  // namespace cutover::steps
