#include "cutover/plan/plan.h"

#include <algorithm>
#include <set>

#include "replication/base/error.h"

namespace cutover::plan {
namespace {

const std::vector<std::string>& other_strategies() {
  static const std::vector<std::string> names{"offline", "backfill", "dual-write", "rolling"};
  return names;
}

std::string in(const Plan& plan) {
  return plan.file.empty() ? "" : plan.file + ": ";
}

void check_sides(const Plan& plan, Sides needed) {
  const bool enough = needed == Sides::one && !(plan.source.empty() && plan.target.empty());
  if (plan.source.empty() && !enough) {
    throw base::UsageError(in(plan) + "no source given",
                           "give --source CONNINFO, PGCUTOVER_SOURCE or a plan with source");
  }
  if (plan.target.empty() && !enough) {
    throw base::UsageError(in(plan) + "no target given",
                           "give --target CONNINFO, PGCUTOVER_TARGET or a plan with target");
  }
  static constexpr std::string_view kPlace[] = {"service", "host", "hostaddr", "port", "dbname"};
  const bool same = std::all_of(std::begin(kPlace), std::end(kPlace), [&](std::string_view keyword) {
    return plan.source.get(keyword) == plan.target.get(keyword);
  });
  if (same) {
    throw base::UsageError(in(plan) + "source and target are the same database: " + plan.source.describe(),
                           "give two different ones");
  }
}

void check_strategy(const Plan& plan) {
  if (plan.strategy == "switchover") {
    return;
  }
  const auto& others = other_strategies();
  if (std::find(others.begin(), others.end(), plan.strategy) != others.end()) {
    throw base::UsageError(in(plan) + "the strategy '" + plan.strategy + "' is not in this version",
                           "use strategy: switchover");
  }
  throw base::UsageError(in(plan) + "unknown strategy '" + plan.strategy + "'", "use strategy: switchover");
}

void check_content(const Plan& plan) {
  if (plan.indexes_later && plan.content != Content::all) {
    throw base::UsageError(
        in(plan) + "indexes: later doesn't go with content: " + std::string(to_string(plan.content)),
        plan.content == Content::data_only ? "the target's indexes are its own: leave --indexes out"
                                           : "nothing would come later: leave --indexes out");
  }
}

// The user's own; with --data-only nothing of the schema is restored.
void check_stream_objects(const Plan& plan) {
  for (const auto& [wanted, what] : {std::pair(plan.copy_publications, "publications: copy"),
                                     std::pair(plan.copy_subscriptions, "subscriptions: copy-disabled")}) {
    if (wanted && plan.content == Content::data_only) {
      throw base::UsageError(
          in(plan) + what + " doesn't go with content: data-only, which restores nothing but rows",
          "leave it out, and make them on the target by hand: docs/content.md");
    }
  }
}

void check_roles(const Plan& plan) {
  try {
    static_cast<void>(plan.roles());
  } catch (const base::UsageError& error) {
    throw base::UsageError(in(plan) + "roles.map: " + error.message(), error.hint());
  }
}

void check_columns(const Plan& plan) {
  for (const auto& pattern : plan.tables.columns.exclude) {
    if (std::count(pattern.begin(), pattern.end(), '.') < 2) {
      throw base::UsageError(in(plan) + "exclude-columns wants schema.table.column, not '" + pattern + "'",
                             "shell patterns may stand for each: *.*.note, app.audit.*_tmp");
    }
  }
}

std::string default_name(const Plan& plan) {
  const auto& side = plan.source.empty() ? plan.target : plan.source;
  for (const auto* keyword : {"dbname", "service", "user"}) {
    if (const auto value = side.get(keyword); !value.empty()) {
      return name_from_database(value);
    }
  }
  throw base::UsageError(in(plan) + "the migration has no name and the source doesn't say a database",
                         "give --name or name: in the plan");
}

void check_name(const Plan& plan) {
  const bool plain = std::all_of(plan.name.begin(), plan.name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (!plain || plan.name.empty() || plan.name.size() > 30) {
    throw base::UsageError(in(plan) + "'" + plan.name + "' can't name a migration",
                           "use 1 to 30 of a-z, 0-9 and _: slots and publications are named after it");
  }
}

void check_pgbouncer(const Plan& plan, const App& app, const PgbouncerSpec& spec) {
  const auto where = in(plan) + "app '" + app.name + "', pgbouncer: ";
  if (spec.admin.empty()) {
    throw base::UsageError(where + "no admin console given", "give admin: \"host=... port=6432 user=ADMIN\"");
  }
  if (spec.database.empty()) {
    throw base::UsageError(where + "no database given", "give database: the name that clients connect to");
  }
  if (spec.ini.empty() == spec.edit_command.empty()) {
    throw base::UsageError(where + "exactly one of ini and edit-command is needed",
                           "pgbouncer's console can't move a database: its ini file has to be edited");
  }
  for (const auto& [side, given, info] :
       {std::tuple{"source", &spec.source, &plan.source}, std::tuple{"target", &spec.target, &plan.target}}) {
    const auto address = address_of(*given, *info);
    if (info->empty()) {
      continue;
    }
    if (address.host.empty() || address.dbname.empty()) {
      throw base::UsageError(
          where + "the host or database of the " + side + " isn't known",
          std::string("give ") + side + ": {host: ..., port: ..., dbname: ...} as the pooler sees it");
    }
  }
}

void check_apps(const Plan& plan) {
  std::set<std::string> names;
  for (const auto& app : plan.apps) {
    if (app.name.empty()) {
      throw base::UsageError(in(plan) + "an app has no name", "give each app a name");
    }
    if (!names.insert(app.name).second) {
      throw base::UsageError(in(plan) + "two apps are named '" + app.name + "'",
                             "give each app a name of its own");
    }
    for (const auto& spec : app.pgbouncers) {
      check_pgbouncer(plan, app, spec);
    }
    if (app.command && app.command->move.empty()) {
      throw base::UsageError(in(plan) + "app '" + app.name + "': traffic.command has no move",
                             "give the command that points the app at the side in PGCUTOVER_SIDE");
    }
    if (app.command && app.command->hold.empty() != app.command->release.empty()) {
      throw base::UsageError(in(plan) + "app '" + app.name + "': hold and release need each other",
                             "give both or neither");
    }
  }
}

}  // namespace

std::string_view to_string(Content content) {
  return content == Content::data_only     ? "data-only"
         : content == Content::schema_only ? "schema-only"
                                           : "all";
}

std::string_view to_string(Unstreamed choice) {
  return choice == Unstreamed::refuse ? "refuse" : choice == Unstreamed::defer ? "defer" : "copy";
}

bool is_accepted(const std::vector<std::string>& names, const base::Finding& finding) {
  return std::ranges::any_of(names, [&](const std::string& name) {
    return name == finding.id || name == finding.id + ":" + finding.object;
  });
}

bool Plan::accepts(const base::Finding& finding) const {
  return is_accepted(accepted, finding);
}

Address address_of(const Address& given, const postgres::ConnInfo& info) {
  Address address = given;
  if (address.host.empty()) {
    address.host = info.get("hostaddr").empty() ? info.get("host") : info.get("hostaddr");
  }
  if (address.port.empty()) {
    address.port = info.get("port").empty() ? "5432" : info.get("port");
  }
  if (address.dbname.empty()) {
    address.dbname = info.get("dbname");
  }
  return address;
}

void check_plan(Plan& plan, Sides needed) {
  check_content(plan);
  check_stream_objects(plan);
  check_roles(plan);
  check_columns(plan);
  check_strategy(plan);
  check_sides(plan, needed);
  if (plan.name.empty()) {
    plan.name = default_name(plan);
  }
  check_name(plan);
  check_apps(plan);
}

}  // namespace cutover::plan
