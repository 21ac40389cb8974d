// The roles that the database needs, under the names they have on the target.

#include "replication/catalog/roles.h"

#include <map>

#include "cutover/check/context.h"
#include "replication/postgres/quote.h"
#include "replication/snapshot/roles.h"

namespace cutover::check {
namespace {

using postgres::quote_identifier;

std::string create_statement(const catalog::Role& role, const std::string& name) {
  return "CREATE ROLE " + quote_identifier(name) + (role.login ? " LOGIN" : "") + ";";
}

// "; did you mean app_prod?": a mistyped name would be made.
std::string near_name(const std::string& name, const std::set<std::string>& there) {
  const auto near = plan::nearest(name, {there.begin(), there.end()});
  return near ? "  did you mean " + *near + "?" : "";
}

struct Target {
  std::set<std::string> roles;
  bool may_create = false;
  bool verifiers = false;  // of the source can be read
};

void check_missing_role(Context& context, const Target& target, const catalog::Role& role,
                        const std::string& name) {
  const bool mapped = name != role.name;
  const std::string what =
      "role " + role.name + " of the source" + (mapped ? ", here " + name + "," : "") +
      (role.objects > 0 ? (mapped ? std::string(" which") : std::string(", who")) + " owns or may use " +
                              std::to_string(role.objects) + " object(s) of this database,"
                        : "") +
      " doesn't exist here";
  const std::string near = mapped ? near_name(name, target.roles) : "";
  if (role.predefined || name.starts_with("pg_")) {  // only with a map
    context.blocks(context.target, "roles-missing", name,
                   what + ", and " + (role.predefined ? role.name : name) + " is one that nobody can make",
                   "map it to a role that is there: roles: {map: {...}}" + near);
    return;
  }
  if (!context.input.create_roles || !target.may_create) {
    context.blocks(
        context.target, "roles-missing", name,
        what + (context.input.create_roles ? " and role " + context.target.facts.user + " may not make roles"
                                           : ""),
        create_statement(role, name) +
            (context.input.create_roles
                 ? "  or ALTER ROLE " + quote_identifier(context.target.facts.user) + " CREATEROLE;"
                 : "  or let it be made: --roles create") +
            near);
    return;
  }
  const bool no_password = role.login && !target.verifiers;
  context.warns(
      context.target, "roles-missing", name,
      what + ": it will be made" +
          (role.superuser ? ", but not as a superuser, who would walk through the fence" : "") +
          (no_password  ? ", without a password, whose verifier we may not read on the source"
           : role.login ? ", with its password's verifier"
                        : ""),
      (no_password ? "ALTER ROLE " + quote_identifier(name) +
                         " PASSWORD '...';  on the target before the switch, or on the source: GRANT "
                         "SELECT (rolname, rolpassword) ON pg_authid TO " +
                         quote_identifier(context.source.facts.user) + ";"
                   : "nothing, or make it yourself: " + create_statement(role, name)) +
          near);
}

// Names that the plan gives and the source doesn't know: the role would go by its old name.
void check_map(Context& context, const catalog::Roles& needed) {
  const auto& map = context.input.roles;
  const auto here = catalog::role_names(context.source.connection);
  for (const auto& [name, other] : map.names()) {
    if (!here.contains(name)) {
      context.blocks(context.source, "role-map", name,
                     "roles.map: the source has no role " + name + ", which would be " + other,
                     "take it out of the map" + near_name(name, here));
    } else if (const auto* role = needed.find(name); role != nullptr && role->login) {
      context.warns(
          context.source, "role-map", name,
          "applications that log in as " + name + " here have to log in as " + other + " on the target",
          "change their user with their host; a pooler's line for the database can name it: user=" + other);
    }
  }
  const auto schemas = context.source.connection.exec(
      "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY ($1::text[]) ORDER BY 1",
      {map.arrays().first});
  for (int row = 0; row < schemas.rows(); ++row) {
    const auto name = schemas.text(row, 0);
    if (const auto other = map.find(name); other && needed.find(name) != nullptr) {
      context.warns(context.source, "role-map", name,
                    "schema " + name + " is what \"$user\" in search_path means for role " + name +
                        ", and not for " + *other,
                    "ALTER ROLE " + quote_identifier(*other) + " SET search_path = " +
                        quote_identifier(name) + ", public;  on the target, where it relies on that");
    }
  }
}

}  // namespace

void check_roles(Context& context) {
  if (context.resuming) {
    return;
  }
  const auto needed = catalog::load_roles(context.source.connection);
  check_map(context, needed);
  Target target;
  target.roles = catalog::role_names(context.target.connection);
  target.may_create =
      context.target.facts.superuser ||
      context.target.connection.one_value(
          "SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user") == "t";
  target.verifiers = replication::snapshot::may_read_verifiers(context.source.connection);
  std::vector<std::string> both;
  for (const catalog::Role& role : needed.roles) {
    const auto name = context.input.roles.find(role.name);
    if (!name) {
      context.blocks(context.source, "role-map", role.name,
                     "role " + role.name +
                         " is needed too, and another role is mapped to its name: the two "
                         "would be one on the target",
                     "map " + role.name + " to another name as well, or the other role to another one");
    } else if (target.roles.contains(*name)) {
      both.push_back(role.name);
    } else if (!role.predefined || *name != role.name) {
      check_missing_role(context, target, role, *name);
    }
  }
  for (const auto& name : replication::snapshot::other_verifiers(
           context.source.connection, context.target.connection, both, context.input.roles)) {
    const auto other = context.input.roles.at(name);
    context.warns(
        context.target, "role-password", other,
        "the password's verifier of " + other + " isn't the source's" + (other == name ? "" : " of " + name) +
            ": applications that log in with the "
            "source's password may be refused after the switch",
        "copy rolpassword of pg_authid, or ALTER ROLE " + quote_identifier(other) + " PASSWORD '...';");
  }
}

}  // namespace cutover::check
