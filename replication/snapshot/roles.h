// Roles and database settings on the target: what is missing is made, what is there is left alone.
//
// Existing roles are taken as they are, by the name the map gives them: another server's administrator made
// them. A missing one is
// made with the source's attributes, memberships, settings and comment, and with its password's verifier,
// copied as it is, where the source lets us read it: passwords go on working, also behind a pooler that
// passes SCRAM through. Never given is SUPERUSER: a superuser walks through the fence. A verifier is seen by
// nobody: it is registered as a secret before it is sent, kept in no table of ours, and the server is told
// not to log the statement where we may tell it. What our role may not do is named, not fatal.
//
// Each change is one transaction with the statement that takes it back (pgcutover.undo), which `cancel` runs.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "replication/catalog/roles.h"
#include "replication/postgres/connection.h"

namespace replication::snapshot {

std::string undo_schema_sql();  // DDL (idempotent) of pgcutover.undo

// Before that transaction: whether all of it is logged as a sample is decided when it begins.
void keep_transactions_out_of_the_log(postgres::Connection& target);
// The statements that follow in this transaction are written to no log and to no statistics. For superusers.
void keep_statements_out_of_the_log(postgres::Connection& target);

struct RolesMade {
  std::vector<std::string> created;
  std::vector<std::string> without_password;  // log in on the source, and can't here until they get one
  std::vector<std::string> not_given;  // "SUPERUSER of admin", "membership of a in b: permission denied ..."
  std::string summary() const;         // one line; empty where nothing was made
};
// Makes the roles that the source's database needs and the target doesn't have. An MD5 verifier is of no use
// under another name.
RolesMade ensure_roles(postgres::Connection& source, postgres::Connection& target,
                       const catalog::RoleMap& map = {});

// Whether the role of `source` may read verifiers.
bool may_read_verifiers(postgres::Connection& source);
// Of these roles of the source those whose verifier is another one (or none) on the target; nothing where one
// side can't be read.
std::vector<std::string> other_verifiers(postgres::Connection& source, postgres::Connection& target,
                                         const std::vector<std::string>& roles,
                                         const catalog::RoleMap& map = {});

// ALTER DATABASE SET, ALTER ROLE IN DATABASE SET, the database's comment and its rights but CONNECT, which is
// the fence's. Returns what could not be set, with the reason.
std::vector<std::string> restore_database_settings(postgres::Connection& source, postgres::Connection& target,
                                                   const catalog::RoleMap& map = {});

// Takes back what both did, the latest first, for `cancel`. Returns what could not be, with the reason: a
// role that objects of another database depend on by now.
std::vector<std::string> undo_roles_and_settings(postgres::Connection& target);

}  // namespace replication::snapshot
