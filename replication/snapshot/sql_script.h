// SQL scripts as pg_restore writes them, cut into statements that our own sessions run. Pure functions of
// text.
//
// Why not let pg_restore talk to the target: its errors are lines of text in the server's language, it can't
// commit "this statement is done" together with the statement, and it can't pass over one SET that an older
// server doesn't know. The statements are found the way psql finds them (src/fe_utils/psqlscan.l): quotes,
// dollar quotes, nested comments, parentheses (rules with several actions) and SQL function bodies (BEGIN
// ATOMIC ... END) are respected. A script that can't be understood is an Error; nothing is guessed.
#pragma once

#include <compare>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "replication/catalog/role_map.h"

namespace replication::snapshot {

// The statements of a script, each with its semicolon, without the comments around them. `\restrict` and
// `\unrestrict` (psql's, written by pg_dump since August 2025) are dropped; any other psql command is an
// Error.
std::vector<std::string> split_statements(std::string_view script);

// A statement and what must be set in the session that runs it.
struct ScriptItem {
  std::string settings;         // SET statements in force at this place of the script, one text
  std::string sql;              // wrapped in SET/RESET SESSION AUTHORIZATION where the script says so
  std::string tablespace = {};  // that `settings` name; empty: the database's default
  bool operator==(const ScriptItem&) const = default;
};
// Takes the SETs out of the row of statements. `SET transaction_timeout = 0`, unknown before PostgreSQL 17,
// is left out: our sessions have no time-outs anyway.
std::vector<ScriptItem> read_script(std::string_view script);

// Every role a statement needs to exist: owners, grantees and grantors, roles of policies, default privileges
// and user mappings, and those that a function SETs. Not PUBLIC, nor CURRENT_USER and its kin.
void collect_roles(std::string_view sql, std::set<std::string>& roles);
// The statements with the names that these roles have on the other side. What only looks like a role's name,
// in a function's body or a text, stays as it is. Throws as RoleMap::at does.
std::string rename_roles(std::string_view sql, const catalog::RoleMap& map);

// The statement without what a newer pg_dump writes out and servers of this major version don't know yet:
// what was the only behaviour before there was a word for it. Everything else stays as it is.
std::string for_server(std::string sql, int server_major);

// The publication or subscription that a statement makes, alters, comments on or labels.
struct StreamObjectName {
  bool subscription = false;
  std::string name;
  auto operator<=>(const StreamObjectName&) const = default;
};
std::optional<StreamObjectName> stream_object_name(std::string_view sql);

// CREATE INDEX, or a constraint that builds one: the statements worth running in parallel.
bool builds_index(std::string_view sql);

// COMMENT ON CONSTRAINT ...: may speak of a foreign key, which doesn't exist yet.
bool comments_on_constraint(std::string_view sql);

// "CREATE INDEX a ON b" for errors and logs: the first line, at most 120 bytes.
std::string headline(std::string_view sql);

}  // namespace replication::snapshot
