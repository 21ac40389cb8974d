#include "replication/catalog/roles.h"

#include <algorithm>
#include <array>

#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace replication::catalog {
namespace {

using postgres::quote_identifier;
using postgres::quote_literal;

// Roots with the number of things they own or may use, the groups above them, the members below. Groups that
// every server has (pg_...) are joined but never followed down: their members have nothing to do with this
// database.
constexpr std::string_view kNeeded = R"(
  WITH RECURSIVE ours AS (
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, c.oid FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'pgcutover'
    UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid FROM pg_catalog.pg_type t
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = 'pgcutover'
    UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pgcutover'
    UNION ALL SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid FROM pg_catalog.pg_namespace
      WHERE nspname = 'pgcutover'
    UNION ALL SELECT 'pg_catalog.pg_publication'::pg_catalog.regclass, oid FROM pg_catalog.pg_publication
      WHERE pubname LIKE 'pgcutover\_%'
  ), noted AS (
    SELECT d.refobjid AS oid FROM pg_catalog.pg_shdepend d
     WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.dbid = (
             SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
       AND d.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass
       AND NOT EXISTS (SELECT FROM ours WHERE ours.class = d.classid AND ours.oid = d.objid)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid
                          AND e.deptype = 'e' AND d.deptype = 'o')
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_shdepend d
     WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.deptype = 'a' AND d.dbid = 0
       AND d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND d.refobjid <> (
             SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
       AND d.objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    UNION ALL
    SELECT o.owner FROM (
      SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, oid, relowner AS owner, relnamespace AS space
        FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, proowner, pronamespace FROM pg_catalog.pg_proc
      UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid, typowner, typnamespace FROM pg_catalog.pg_type
        WHERE typtype IN ('e', 'd', 'r')
      UNION ALL SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, nspowner, oid FROM pg_catalog.pg_namespace
        WHERE nspname <> 'public') o
      JOIN pg_catalog.pg_namespace n ON n.oid = o.space
     WHERE o.owner < 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgcutover')
       AND n.nspname !~ '^pg_(toast|temp_)'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                        WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e')
    UNION ALL
    SELECT setrole FROM pg_catalog.pg_db_role_setting WHERE setrole <> 0 AND setdatabase = (
      SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  ), roots AS (
    SELECT oid, count(*) AS objects FROM noted GROUP BY oid
  ), down AS (
    SELECT oid FROM roots
    UNION
    SELECT m.member FROM pg_catalog.pg_auth_members m JOIN down ON down.oid = m.roleid
      JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
      JOIN pg_catalog.pg_roles r ON r.oid = m.member
     WHERE g.rolname !~ '^pg_' AND r.rolname <> current_user
  ), up AS (
    SELECT oid FROM down
    UNION
    SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN up ON up.oid = m.member
  )
  SELECT r.rolname, coalesce(roots.objects, 0) FROM up JOIN pg_catalog.pg_roles r ON r.oid = up.oid
    LEFT JOIN roots ON roots.oid = up.oid
   WHERE r.rolname <> 'pg_database_owner')";

// Settings whose value is a list of names, each quoted on its own (GUC_LIST_QUOTE;
// variable_is_guc_list_quote()).
bool is_list(const std::string& name) {
  constexpr std::array kLists{"local_preload_libraries",  "search_path",      "session_preload_libraries",
                              "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"};
  return std::find(kLists.begin(), kLists.end(), name) != kLists.end();
}

// SplitGUCList: names between commas, in double quotes where they need them.
std::vector<std::string> split_list(const std::string& value) {
  std::vector<std::string> items;
  std::string item;
  bool quoted = false, any = false;
  for (std::size_t at = 0; at < value.size(); ++at) {
    const char c = value[at];
    if (c == '"') {
      if (quoted && at + 1 < value.size() && value[at + 1] == '"') {
        item += value[++at];
      } else {
        quoted = !quoted;
      }
      any = true;
    } else if (c == ',' && !quoted) {
      items.push_back(std::move(item));
      item.clear();
      any = true;
    } else if (quoted || (c != ' ' && c != '\t')) {
      item += c;
      any = true;
    }
  }
  if (any) {
    items.push_back(std::move(item));
  }
  return items;
}

// "plugin.option": each part is a name of its own.
std::string quoted(const std::string& name) {
  std::string text;
  for (std::size_t at = 0; at <= name.size();) {
    const auto dot = std::min(name.find('.', at), name.size());
    text += (at == 0 ? "" : ".") + quote_identifier(name.substr(at, dot - at));
    at = dot + 1;
  }
  return text;
}

std::string names_literal(const std::set<std::string>& names) {
  const std::vector<std::string> list(names.begin(), names.end());
  return postgres::array_literal(list);
}

void load_attributes(postgres::Connection& connection, const std::string& names, Roles& out) {
  const auto rows = connection.exec(
      R"(SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
                rolconnlimit, CASE WHEN pg_catalog.isfinite(rolvaliduntil) THEN rolvaliduntil::text ELSE '' END,
                pg_catalog.shobj_description(oid, 'pg_authid'), rolname ~ '^pg_'
           FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[]) ORDER BY oid)",
      postgres::Params{names});
  for (int i = 0; i < rows.rows(); ++i) {
    Role role{.name = rows.text(i, 0)};
    role.superuser = rows.boolean(i, 1);
    role.inherit = rows.boolean(i, 2);
    role.create_role = rows.boolean(i, 3);
    role.create_db = rows.boolean(i, 4);
    role.login = rows.boolean(i, 5);
    role.replication = rows.boolean(i, 6);
    role.bypass_rls = rows.boolean(i, 7);
    role.connection_limit = static_cast<int>(rows.integer(i, 8));
    role.valid_until = rows.text_or(i, 9, "");
    role.comment = rows.text_or(i, 10, "");
    role.predefined = rows.boolean(i, 11);
    out.roles.push_back(std::move(role));
  }
}

void load_memberships(postgres::Connection& connection, const std::string& names, Roles& out) {
  const bool options = connection.server_version() >= 160000;
  const auto rows =
      connection.exec("SELECT g.rolname, r.rolname, bool_or(m.admin_option)" +
                          std::string(options ? ", bool_or(m.inherit_option), bool_or(m.set_option) " : " ") +
                          "FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid "
                          "JOIN pg_catalog.pg_roles r ON r.oid = m.member WHERE r.rolname = ANY ($1::text[]) "
                          "AND g.rolname = ANY "
                          "($1::text[]) GROUP BY 1, 2 ORDER BY 1, 2",
                      postgres::Params{names});
  for (int i = 0; i < rows.rows(); ++i) {
    Membership one{rows.text(i, 0), rows.text(i, 1), rows.boolean(i, 2), {}, {}};
    if (options) {
      one.inherit = rows.boolean(i, 3);
      one.set = rows.boolean(i, 4);
    }
    out.memberships.push_back(std::move(one));
  }
}

void load_settings(postgres::Connection& connection, const std::string& names, Roles& out) {
  const auto rows = connection.exec(
      R"(SELECT coalesce(r.rolname, ''), s.setdatabase <> 0, c.setting
           FROM pg_catalog.pg_db_role_setting s
           LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
           CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) WITH ORDINALITY c(setting, place)
          WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_catalog.pg_database
                                                        WHERE datname = pg_catalog.current_database()))
            AND (s.setrole = 0 AND s.setdatabase <> 0 OR r.rolname = ANY ($1::text[]))
          ORDER BY 1, 2, c.place)",
      postgres::Params{names});
  for (int i = 0; i < rows.rows(); ++i) {
    const auto text = rows.text(i, 2);
    const auto equals = text.find('=');
    if (equals != std::string::npos) {
      out.settings.push_back(
          {rows.text(i, 0), rows.boolean(i, 1), text.substr(0, equals), text.substr(equals + 1)});
    }
  }
}

}  // namespace

std::string Setting::reset() const {
  return "RESET " + quoted(name);
}

std::string Setting::clause() const {
  auto text = "SET " + quoted(name) + " TO ";
  if (!is_list(name)) {
    return text + quote_literal(value);
  }
  const auto items = split_list(value);
  for (std::size_t i = 0; i < items.size(); ++i) {
    text += (i == 0 ? "" : ", ") + quote_literal(items[i]);
  }
  return items.empty() ? text + "''" : text;
}

const Role* Roles::find(std::string_view name) const {
  const auto found = std::ranges::find(roles, name, &Role::name);
  return found == roles.end() ? nullptr : &*found;
}

Roles Roles::renamed(const RoleMap& map) const {
  Roles out = *this;
  for (auto& role : out.roles) {
    role.name = map.at(role.name);
    role.predefined = role.predefined || role.name.starts_with("pg_");
  }
  for (auto& membership : out.memberships) {
    membership.group = map.at(membership.group);
    membership.member = map.at(membership.member);
  }
  for (auto& setting : out.settings) {
    setting.role = map.at(setting.role);
    if (setting.name == "role") {  // its value is a role's name
      setting.value = map.find(setting.value).value_or(setting.value);
    }
  }
  return out;
}

Roles load_roles(postgres::Connection& connection, const std::set<std::string>& names) {
  Roles out;
  const auto literal = names_literal(names);
  load_attributes(connection, literal, out);
  load_memberships(connection, literal, out);
  load_settings(connection, literal, out);
  return out;
}

Roles load_roles(postgres::Connection& connection) {
  std::map<std::string, int> needed;
  const auto rows = connection.exec(kNeeded);
  std::set<std::string> names;
  for (int i = 0; i < rows.rows(); ++i) {
    needed[rows.text(i, 0)] = static_cast<int>(rows.integer(i, 1));
    names.insert(rows.text(i, 0));
  }
  auto out = load_roles(connection, names);
  for (auto& role : out.roles) {
    role.objects = needed[role.name];
  }
  return out;
}

std::set<std::string> role_names(postgres::Connection& connection) {
  std::set<std::string> names;
  const auto rows = connection.exec("SELECT rolname FROM pg_catalog.pg_roles");
  for (int i = 0; i < rows.rows(); ++i) {
    names.insert(rows.text(i, 0));
  }
  return names;
}

}  // namespace replication::catalog
