#include "tests/integration/torture/dump_compare.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include "replication/base/stop.h"
#include "replication/base/subprocess.h"
#include "replication/postgres/conninfo.h"

namespace torture {
namespace {

using namespace replication;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

std::string words_sorted(std::string line) {
  std::erase(line, ',');
  std::istringstream in(line);
  const std::multiset<std::string> words{std::istream_iterator<std::string>(in), {}};
  std::string sorted;
  for (const auto& word : words) {
    sorted += word + ' ';
  }
  return sorted;
}

std::string quoted(const std::string& name) {
  if (std::regex_match(name, std::regex("[a-z_][a-z0-9_]*"))) {
    return name;
  }
  return '"' + std::regex_replace(name, std::regex("\""), "\"\"") + '"';
}

// All at once: what was put in isn't looked at again.
std::string renamed(const std::string& text, const Renamed& roles, bool quote) {
  const auto inside = [&](std::size_t at) {
    return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '_');
  };
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto found = std::find_if(roles.begin(), roles.end(), [&](const auto& pair) {
      const auto name = quote ? quoted(pair.first) : pair.first;
      return text.compare(at, name.size(), name) == 0 && (at == 0 || !inside(at - 1)) &&
             !inside(at + name.size());
    });
    if (found == roles.end()) {
      out += text[at++];
    } else {
      out += quote ? quoted(found->second) : found->second;
      at += (quote ? quoted(found->first) : found->first).size();
    }
  }
  return out;
}

// "app; Type: SCHEMA; Schema: -; Owner: x" of "-- Name: app; Type: ..."
constexpr std::string_view kHeader = "-- Name: ";

std::string plain_dump(const harness::Cluster& cluster, const std::string& database) {
  const base::Stop stop;
  const auto info = postgres::ConnInfo::parse(cluster.conninfo(database), "dumped");
  const auto result =
      base::run_command({{"pg_dump", "--schema-only", "--create", "--exclude-schema=pgcutover",
                          "--no-publications", "--no-subscriptions"},
                         info.environment(),
                         {}},
                        base::Deadline::in(base::milliseconds(180'000)), stop);
  REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
  return result.output;
}

}  // namespace

Dump dump_schema(const harness::Cluster& cluster, const std::string& database, bool any_version,
                 const Renamed& roles) {
  Dump dump;
  std::string header;
  std::vector<std::string> body;
  const auto flush = [&] {
    if (header.empty()) {
      return;
    }
    // Grants are listed in the order they were given in.
    if (header.find(" ACL; ") != std::string::npos ||
        header.find("Type: DATABASE PROPERTIES") != std::string::npos) {
      std::sort(body.begin(), body.end());
    }
    // A policy's roles are listed in the order in which they happen to lie in pg_authid.
    if (header.find("Type: POLICY") != std::string::npos) {
      for (auto& line : body) {
        line = words_sorted(line);
      }
    }
    if (any_version &&
        (header.find(" VIEW;") != std::string::npos || header.find("_RETURN; ") != std::string::npos)) {
      for (auto& line : body) {  // columns are qualified only where they must be, from 16 on
        line = std::regex_replace(line, std::regex("\\b\\w+\\.([\\w\"])"), "$1");
      }
    }
    if (any_version && header.find("Type: TYPE") != std::string::npos) {
      std::erase_if(body, [](const std::string& line) {  // ranges have a multirange from 14 on
        return line.find("multirange_type_name") != std::string::npos;
      });
      for (auto& line : body) {
        std::erase(line, ',');
      }
    }
    auto key = header;
    for (int twin = 2; dump.contains(key); ++twin) {
      key = header + " #" + std::to_string(twin);
    }
    dump[key] = joined(body);
    body.clear();
  };
  bool after_rule = false;
  for (auto& line : lines_of(plain_dump(cluster, database))) {
    line = renamed(line, roles, !line.starts_with(kHeader));
    if (after_rule && line.starts_with(kHeader)) {
      flush();
      header = line.substr(kHeader.size());
      // Members of an extension belong to who created it: there is no way to give them away.
      if (const auto at = header.find("; Owner: mover"); at != std::string::npos) {
        header.replace(at, std::string::npos, "; Owner: postgres");
      }
    } else if (!line.empty() && line != "--" && !line.starts_with("\\") && !line.starts_with("-- Dumped") &&
               line.find("pg_attver") == std::string::npos &&
               line.find("default_table") == std::string::npos &&
               line != "-- PostgreSQL database dump complete" && !line.starts_with("-- Completed")) {
      body.push_back(line);
    }
    after_rule = line == "--";
  }
  flush();
  return dump;
}

std::vector<std::string> differences(const Dump& source, const Dump& target) {
  std::vector<std::string> found;
  for (const auto& [header, text] : source) {
    const auto twin = target.find(header);
    if (twin == target.end()) {
      found.push_back("missing: " + header);
    } else if (twin->second != text) {
      const auto left = lines_of(text), right = lines_of(twin->second);
      std::size_t at = 0;
      while (at < left.size() && at < right.size() && left[at] == right[at]) {
        ++at;
      }
      found.push_back(header + "\n  source: " + (at < left.size() ? left[at] : "(end)") +
                      "\n  target: " + (at < right.size() ? right[at] : "(end)"));
    }
  }
  for (const auto& [header, text] : target) {
    if (!source.contains(header)) {
      found.push_back("extra: " + header);
    }
  }
  return found;
}

Dump contents(const harness::Cluster& cluster, const std::string& database, const Renamed& roles) {
  Dump all;
  auto session = cluster.connect(database);
  session.exec(
      "SET search_path = ''; SET TimeZone = UTC; SET DateStyle = ISO; SET IntervalStyle = postgres; "
      "SET extra_float_digits = 3; SET statement_timeout = 0");
  // Columns by name: pg_dump writes an inheritance child's inherited ones first.
  const auto tables = session.exec(
      "SELECT format('%I.%I', nspname, relname), relispopulated, coalesce((SELECT "
      "string_agg(quote_ident(attname), ', ' "
      "ORDER BY attname) FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), "
      "'') "
      "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace WHERE relkind IN "
      "('r', 'm') "
      "AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgcutover')");
  for (int row = 0; row < tables.rows(); ++row) {
    const auto name = tables.text(row, 0);
    all["table " + name] =
        !tables.boolean(row, 1)
            ? "not populated"
            : session.one_value(
                  "SELECT count(*) || ' ' || coalesce(md5(string_agg(r, '|' ORDER BY r COLLATE \"C\")), "
                  "'') FROM (SELECT (SELECT row(s.*)::text FROM (SELECT " +
                  tables.text(row, 2) + ") s) AS r FROM ONLY " + name + ") t");
  }
  const auto add = [&](const std::string& what, const std::string& query) {
    const auto rows = session.exec(query);
    std::map<std::string, std::multiset<std::string>> values;
    for (int row = 0; row < rows.rows(); ++row) {
      values[renamed(rows.text(row, 0), roles, true)].insert(
          renamed(rows.text_or(row, 1, "NULL"), roles, true));
    }
    for (const auto& [key, list] : values) {
      all[what + " " + key] = joined({list.begin(), list.end()});
    }
  };
  add("large object",
      "SELECT oid, concat_ws(' ', md5(lo_get(oid)), lomowner::regrole, obj_description(oid, "
      "'pg_largeobject'), "
      "(SELECT string_agg(a.privilege_type || a.is_grantable || ' ' || a.grantee::regrole, ',' ORDER BY "
      "a::text) "
      "FROM "
      "aclexplode(lomacl) a WHERE a.grantee <> lomowner)) FROM pg_largeobject_metadata");
  const std::string ours = " ~ '^(torture|Torture)_?'";
  add("role",
      "SELECT quote_ident(rolname), concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, "
      "rolcanlogin, "
      "rolreplication, "
      "rolbypassrls, rolconnlimit, rolvaliduntil, rolpassword, shobj_description(oid, 'pg_authid')) FROM "
      "pg_authid "
      "WHERE rolname" +
          ours);
  add("member",
      "SELECT m.roleid::regrole, m.member::regrole || ' ' || m.admin_option FROM pg_auth_members m JOIN "
      "pg_roles r ON "
      "r.oid = m.member WHERE r.rolname" +
          ours + " ORDER BY 1, 2");
  add("setting",
      "SELECT s.setrole::regrole || ' in ' || coalesce(datname, 'all'), c FROM pg_db_role_setting s CROSS "
      "JOIN "
      "unnest(setconfig) c LEFT JOIN pg_database d ON d.oid = setdatabase WHERE setdatabase = 0 OR datname = "
      "current_database() ORDER BY 1, 2");
  add("mapping",
      "SELECT srvname || ' ' || quote_ident(usename), (SELECT array_agg(o ORDER BY o) FROM unnest(umoptions) "
      "o) FROM "
      "pg_user_mappings");
  add("database rights",
      "SELECT a.grantee::regrole, a.privilege_type || a.is_grantable FROM pg_database CROSS JOIN "
      "aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname = current_database() AND "
      "a.grantee <> "
      "datdba AND a.privilege_type <> 'CONNECT' ORDER BY 1, 2");
  return all;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) {
    text += line + "\n";
  }
  return text;
}

}  // namespace torture
