#include "replication/snapshot/roles.h"

#include <algorithm>

#include "replication/base/error.h"
#include "replication/base/redaction.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace replication::snapshot {
namespace {

using base::Error;
using catalog::Membership;
using catalog::Role;
using catalog::Setting;
using postgres::Connection;
using postgres::quote_identifier;
using postgres::quote_literal;

// One statement that may fail without the transaction; why it did, or nothing.
std::optional<std::string> attempt(Connection& target, const std::string& sql) {
  target.exec("SAVEPOINT attempt");
  try {
    target.exec(sql);
    target.exec("RELEASE SAVEPOINT attempt");
    return std::nullopt;
  } catch (const Error& error) {
    if (!error.connection_usable() || error.sqlstate().empty()) {
      throw;
    }
    target.exec("ROLLBACK TO SAVEPOINT attempt");
    return error.message();
  }
}

// The same for a change that is taken back by `undo`.
std::optional<std::string> change(Connection& target, const std::string& sql, const std::string& undo) {
  auto why_not = attempt(target, sql);
  if (!why_not) {
    target.exec("INSERT INTO pgcutover.undo (sql) VALUES ($1)", {undo});
  }
  return why_not;
}

bool superuser(Connection& connection) {
  return connection.one_value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user") == "t";
}

std::string yes(bool value, const char* word) {
  return (value ? " " : " NO") + std::string(word);
}

class Maker {
 public:
  // `wanted` under the names of the target.
  Maker(Connection& source, Connection& target, const catalog::Roles& wanted, catalog::RoleMap to_source,
        std::set<std::string> there)
      : source_(source),
        target_(target),
        wanted_(wanted),
        to_source_(std::move(to_source)),
        there_(std::move(there)) {}

  RolesMade run() {
    std::vector<const Role*> missing;
    for (const auto& role : wanted_.roles) {
      if (!role.predefined && !there_.contains(role.name)) {
        missing.push_back(&role);
      }
    }
    if (missing.empty()) {
      return {};
    }
    const bool super = superuser(target_);
    if (super) {
      keep_transactions_out_of_the_log(target_);
    }
    postgres::Transaction transaction(target_);
    if (super) {
      keep_statements_out_of_the_log(target_);
    }
    for (const auto* role : missing) {
      create(*role);
    }
    for (const auto& membership : wanted_.memberships) {
      join(membership);
    }
    if (!super) {
      for (const auto& name : made_.created) {  // to give objects to it
        note("our membership in " + name,
             attempt(target_, "GRANT " + quote_identifier(name) + " TO CURRENT_USER"));
      }
    }
    for (const auto& setting : wanted_.settings) {
      if (!setting.database && created(setting.role)) {
        note(setting.name + " of " + setting.role,
             attempt(target_, "ALTER ROLE " + quote_identifier(setting.role) + " " + setting.clause()));
      }
    }
    copy_verifiers();
    transaction.commit_or_throw();
    return made_;
  }

 private:
  bool created(const std::string& name) const {
    return std::find(made_.created.begin(), made_.created.end(), name) != made_.created.end();
  }
  void note(const std::string& what, const std::optional<std::string>& why_not) {
    if (why_not) {
      made_.not_given.push_back(what + ": " + *why_not);
    }
  }

  void create(const Role& role) {
    const auto name = quote_identifier(role.name);
    target_.exec("CREATE ROLE " + name + " NOSUPERUSER" + yes(role.inherit, "INHERIT") +
                 yes(role.login, "LOGIN") + " CONNECTION LIMIT " + std::to_string(role.connection_limit) +
                 (role.valid_until.empty() ? "" : " VALID UNTIL " + quote_literal(role.valid_until)));
    made_.created.push_back(role.name);
    // Rights and default rights in this database; objects of other databases keep the role.
    target_.exec("INSERT INTO pgcutover.undo (sql) VALUES ($1)",
                 {"DROP OWNED BY " + name + "; DROP ROLE " + name});
    for (const auto& [wanted, word] :
         {std::pair(role.create_role, "CREATEROLE"), std::pair(role.create_db, "CREATEDB"),
          std::pair(role.replication, "REPLICATION"), std::pair(role.bypass_rls, "BYPASSRLS")}) {
      if (wanted) {
        note(std::string(word) + " of " + role.name, attempt(target_, "ALTER ROLE " + name + " " + word));
      }
    }
    if (role.superuser) {
      made_.not_given.push_back("SUPERUSER of " + role.name + ": a superuser would walk through the fence");
    }
    if (!role.comment.empty()) {
      note("comment on " + role.name,
           attempt(target_, "COMMENT ON ROLE " + name + " IS " + quote_literal(role.comment)));
    }
  }

  // Only where one of the two is new: what exists is somebody else's decision.
  void join(const Membership& membership) {
    if (!created(membership.group) && !created(membership.member)) {
      return;
    }
    const bool group_there = created(membership.group) || there_.contains(membership.group);
    const auto what = "membership of " + membership.member + " in " + membership.group;
    if (!group_there) {  // a predefined role that the target's version doesn't have
      made_.not_given.push_back(what + ": no such role there");
      return;
    }
    std::string options = membership.admin ? " WITH ADMIN OPTION" : "";
    if (target_.server_version() >= 160000) {
      const auto* member = wanted_.find(membership.member);
      // Before 16 it was the member that inherited or not.
      const bool inherit = membership.inherit.value_or(member == nullptr || member->inherit);
      options = std::string(" WITH ADMIN ") + (membership.admin ? "TRUE" : "FALSE") + ", INHERIT " +
                (inherit ? "TRUE" : "FALSE") + ", SET " + (membership.set.value_or(true) ? "TRUE" : "FALSE");
    }
    note(what, attempt(target_, "GRANT " + quote_identifier(membership.group) + " TO " +
                                    quote_identifier(membership.member) + options));
  }

  void copy_verifiers() {
    const bool readable = may_read_verifiers(source_);
    for (const auto& name : made_.created) {
      const auto name_there = to_source_.at(name);
      std::optional<std::string> verifier;
      if (readable) {
        verifier = source_.maybe_value("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1",
                                       {name_there});
      }
      bool given = false;
      if (verifier && verifier->starts_with("md5") && name != name_there) {
        base::register_secret(*verifier);
        made_.not_given.push_back("password of " + name +
                                  ": its MD5 verifier holds the role's name, which is " + name_there +
                                  " on the source");
      } else if (verifier) {
        base::register_secret(*verifier);
        const auto why_not = attempt(
            target_, "ALTER ROLE " + quote_identifier(name) + " PASSWORD " + quote_literal(*verifier));
        note("password of " + name, why_not);
        given = !why_not;
      }
      // One without a verifier on the source either logs in by other means (peer, certificate, LDAP).
      if (!given && wanted_.find(name)->login && (verifier || !readable)) {
        made_.without_password.push_back(name);
      }
    }
  }

  Connection& source_;
  Connection& target_;
  const catalog::Roles& wanted_;
  const catalog::RoleMap to_source_;
  std::set<std::string> there_;
  RolesMade made_;
};

std::string list(const std::vector<std::string>& items) {
  std::string text;
  for (const auto& item : items) {
    text += (text.empty() ? "" : ", ") + item;
  }
  return text;
}

// Rights on the database but CONNECT, for PUBLIC and roles that the target knows.
void restore_rights(Connection& source, Connection& target, const catalog::RoleMap& map,
                    const std::set<std::string>& roles, std::vector<std::string>& failed) {
  constexpr std::string_view kRights =
      "SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable FROM pg_catalog.pg_database d "
      "CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a "
      "LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee "
      "WHERE d.datname = pg_catalog.current_database() AND a.privilege_type <> 'CONNECT' AND a.grantee <> "
      "d.datdba "
      "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
  const auto read = [&](Connection& side, const catalog::RoleMap& names) {
    std::set<std::vector<std::string>> rights;
    const auto rows = side.exec(kRights);
    for (int i = 0; i < rows.rows(); ++i) {
      if (const auto name = names.find(rows.text(i, 0))) {
        rights.insert({*name, rows.text(i, 1), rows.text(i, 2)});
      }
    }
    return rights;
  };
  const auto wanted = read(source, map), there = read(target, {});
  const auto on = " ON DATABASE " + quote_identifier(target.database());
  const auto grant = [&](const std::vector<std::string>& right) {
    return "GRANT " + right[1] + on + " TO " + (right[0].empty() ? "PUBLIC" : quote_identifier(right[0])) +
           (right[2] == "t" ? " WITH GRANT OPTION" : "");
  };
  const auto revoke = [&](const std::vector<std::string>& right) {
    return "REVOKE " + right[1] + on + " FROM " + (right[0].empty() ? "PUBLIC" : quote_identifier(right[0]));
  };
  const auto run = [&](const std::string& sql, const std::string& undo) {
    if (const auto why_not = change(target, sql, undo)) {
      failed.push_back(sql + ": " + *why_not);
    }
  };
  // What the target gives beyond the source: only PUBLIC's is taken, roles of its own keep theirs.
  for (const auto& right : there) {
    if (right[0].empty() && !wanted.contains(right)) {
      run(revoke(right), grant(right));
    }
  }
  for (const auto& right : wanted) {
    if (!there.contains(right) && (right[0].empty() || roles.contains(right[0]))) {
      run(grant(right), revoke(right));
    }
  }
}

}  // namespace

void keep_statements_out_of_the_log(Connection& target) {
  target.exec(
      "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; SET LOCAL log_duration = "
      "off; "
      "SET LOCAL log_min_error_statement = 'panic'; SET LOCAL pg_stat_statements.track_utility = off; "
      "SET LOCAL pgaudit.log = 'none'");
  if (target.server_version() >= 130000) {
    target.exec("SET LOCAL log_min_duration_sample = -1");
  }
}

void keep_transactions_out_of_the_log(Connection& target) {
  target.exec("SET log_transaction_sample_rate = 0");
}

std::string undo_schema_sql() {
  return "CREATE TABLE IF NOT EXISTS pgcutover.undo (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sql "
         "text NOT "
         "NULL);\n";
}

std::string RolesMade::summary() const {
  if (created.empty()) {
    return {};
  }
  std::string text = "roles made: " + list(created);
  if (!without_password.empty()) {
    text += "; without a password: " + list(without_password);
  }
  if (!not_given.empty()) {
    text += "; not given: " + list(not_given);
  }
  return text;
}

RolesMade ensure_roles(Connection& source, Connection& target, const catalog::RoleMap& map) {
  const auto wanted = catalog::load_roles(source).renamed(map);
  return Maker(source, target, wanted, map.inverse(), catalog::role_names(target)).run();
}

bool may_read_verifiers(Connection& source) {
  return source.one_value(
             "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')") ==
         "t";
}

std::vector<std::string> other_verifiers(Connection& source, Connection& target,
                                         const std::vector<std::string>& roles, const catalog::RoleMap& map) {
  std::vector<std::string> different, names_there;
  for (const auto& name : roles) {
    names_there.push_back(map.at(name));
  }
  if (!may_read_verifiers(source) || !may_read_verifiers(target)) {
    return different;
  }
  // Compared as hashes: the verifiers stay where they are.
  constexpr std::string_view kHashes =
      "SELECT rolname, coalesce(encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex'), '') "
      "FROM pg_catalog.pg_authid WHERE rolname = ANY ($1::text[]) AND rolcanlogin";
  const auto read = [&](Connection& side, const std::vector<std::string>& names) {
    std::map<std::string, std::string> hashes;
    const auto rows = side.exec(kHashes, postgres::Params{postgres::array_literal(names)});
    for (int i = 0; i < rows.rows(); ++i) {
      hashes[rows.text(i, 0)] = rows.text(i, 1);
    }
    return hashes;
  };
  const auto ours = read(source, roles), theirs = read(target, names_there);
  for (const auto& [name, hash] : ours) {
    const auto twin = theirs.find(map.at(name));
    if (!hash.empty() && twin != theirs.end() && twin->second != hash) {
      different.push_back(name);
    }
  }
  return different;
}

std::vector<std::string> restore_database_settings(Connection& source, Connection& target,
                                                   const catalog::RoleMap& map) {
  constexpr std::string_view kComment =
      "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = "
      "pg_catalog.current_database()";
  const auto there = catalog::role_names(target);
  const auto before = catalog::load_roles(target, there).settings;
  const auto database = quote_identifier(target.database());
  std::vector<std::string> failed;
  postgres::Transaction transaction(target);
  const auto run = [&](const std::string& what, const std::string& sql, const std::string& undo) {
    if (const auto why_not = change(target, sql, undo)) {
      failed.push_back(what + ": " + *why_not);
    }
  };
  for (const auto& setting : catalog::load_roles(source).renamed(map).settings) {
    const auto is_it = [&](const Setting& one) {
      return one.database && one.role == setting.role && one.name == setting.name;
    };
    const auto old = std::find_if(before.begin(), before.end(), is_it);
    if (!setting.database || (!setting.role.empty() && !there.contains(setting.role)) ||
        (old != before.end() && old->value == setting.value)) {
      continue;
    }
    const auto what = setting.name + " of " + (setting.role.empty() ? "the database" : setting.role);
    if (setting.name.ends_with("_preload_libraries")) {
      failed.push_back(what +
                       ": a library that is missing on this server would keep everybody out; set it by hand");
      continue;
    }
    const auto alter = setting.role.empty() ? "ALTER DATABASE " + database + " "
                                            : "ALTER ROLE " + quote_identifier(setting.role) +
                                                  " IN DATABASE " + database + " ";
    run(what, alter + setting.clause(), alter + (old == before.end() ? setting.reset() : old->clause()));
  }
  const auto comment = source.maybe_value(kComment), old = target.maybe_value(kComment);
  if (comment && comment != old) {
    const auto on = "COMMENT ON DATABASE " + database + " IS ";
    run("comment on the database", on + quote_literal(*comment), on + (old ? quote_literal(*old) : "NULL"));
  }
  restore_rights(source, target, map, there, failed);
  transaction.commit_or_throw();
  return failed;
}

std::vector<std::string> undo_roles_and_settings(Connection& target) {
  std::vector<std::string> left;
  postgres::Transaction transaction(target);
  const auto rows = target.exec("SELECT sql FROM pgcutover.undo ORDER BY id DESC");
  for (int i = 0; i < rows.rows(); ++i) {
    if (const auto why_not = attempt(target, rows.text(i, 0))) {
      left.push_back(rows.text(i, 0) + ": " + *why_not);
    }
  }
  target.exec("DELETE FROM pgcutover.undo");
  transaction.commit_or_throw();
  return left;
}

}  // namespace replication::snapshot
