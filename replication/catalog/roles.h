// The roles that a database needs on whatever server holds it, and the settings that belong to it.
//
// Needed are: who owns something in the database or has rights on it (pg_shdepend; a bootstrap superuser
// isn't noted there and is looked for among the owners), who has a setting of its own in it, the groups these
// belong to, and the login roles that belong to them. Not: the role of the connection itself where it owns
// nothing but our own schema, and what belongs to extensions. Pure data after loading; verifiers are read by
// who copies them (snapshot/roles.h).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replication/catalog/role_map.h"
#include "replication/postgres/connection.h"

namespace replication::catalog {

struct Role {
  std::string name;
  bool superuser = false, inherit = true, create_role = false, create_db = false, login = false;
  bool replication = false, bypass_rls = false;
  int connection_limit = -1;
  std::string valid_until = {};  // "" = for ever
  std::string comment = {};
  int objects = 0;          // it owns or has rights on in this database, as far as pg_shdepend knows
  bool predefined = false;  // pg_read_all_data...: every server has its own, and nobody can make one
};

struct Membership {
  std::string group, member;
  bool admin = false;
  std::optional<bool> inherit, set;  // 16 and later
};

// ALTER ROLE or DATABASE ... SET. `value` is what PostgreSQL keeps, lists and all.
struct Setting {
  std::string role;       // "" = everybody in the database
  bool database = false;  // in this database only; false: a role's own, everywhere
  std::string name, value;
  // "SET name TO ...": lists as lists, everything else as one literal (pg_dump's makeAlterConfigCommand).
  std::string clause() const;
  std::string reset() const;  // "RESET name"
};

struct Roles {
  std::vector<Role> roles;  // as they were made: policies list their roles in this order
  std::vector<Membership> memberships;
  std::vector<Setting> settings;  // of these roles, of them in this database, and of the database
  const Role* find(std::string_view name) const;
  // The same under the names they have on the other side. Throws as RoleMap::at does.
  Roles renamed(const RoleMap& map) const;
};

Roles load_roles(postgres::Connection& connection);
// The same of exactly these names, as far as they exist here.
Roles load_roles(postgres::Connection& connection, const std::set<std::string>& names);

std::set<std::string> role_names(postgres::Connection& connection);  // every role there is

}  // namespace replication::catalog
