#include "cutover/cli/table.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "cutover/steps/prepare.h"
#include "replication/base/error.h"

namespace cutover::cli {
namespace {

using replication::postgres::ConnInfo;

std::int64_t number(const Value& value, std::int64_t min, std::int64_t max) {
  std::int64_t parsed = 0;
  const auto* end = value.text.data() + value.text.size();
  const auto [rest, error] = std::from_chars(value.text.data(), end, parsed);
  if (error != std::errc() || rest != end || parsed < min || parsed > max) {
    throw base::UsageError(value.name + " wants a whole number from " + std::to_string(min) + " to " +
                           std::to_string(max) + ", not '" + value.text + "'");
  }
  return parsed;
}

base::milliseconds span(const Value& value, base::milliseconds min, base::milliseconds max) {
  const auto parsed = plan::parse_duration(value.text, value.name);
  if (parsed < min || parsed > max) {
    throw base::UsageError(value.name + " wants a duration from " + plan::duration_text(min) + " to " +
                           plan::duration_text(max) + ", not " + value.text);
  }
  return parsed;
}

template <typename T>
T word(const Value& value, const std::vector<std::pair<std::string, T>>& words) {
  std::vector<std::string> valid;
  std::string list;
  for (const auto& [name, meant] : words) {
    if (name == value.text) {
      return meant;
    }
    valid.push_back(name);
    list += (list.empty() ? "" : ", ") + name;
  }
  const auto near = plan::nearest(value.text, valid);
  throw base::UsageError(value.name + " wants one of " + list + ", not '" + value.text + "'",
                         near ? "did you mean '" + *near + "'?" : "");
}

std::string step_name(const Value& value) {
  std::vector<std::pair<std::string, std::string>> steps;
  for (auto& id : steps::preparation_steps()) {
    steps.emplace_back(id, id);
  }
  return word<std::string>(value, steps);
}

std::string not_empty(const Value& value) {
  if (value.text.empty()) {
    throw base::UsageError(value.name + " is empty", "leave it out, or give a value");
  }
  return value.text;
}

bool has_password_in_argv(const Value& value, const ConnInfo& info) {
  return value.name.starts_with("--") && !info.get("password").empty();
}

void set_side(Invocation& invocation, ConnInfo& side, const Value& value) {
  side = ConnInfo::parse(not_empty(value), value.name);
  if (has_password_in_argv(value, side)) {
    invocation.warnings.push_back(
        "the password in " + value.name +
        " can be seen by everybody on this host (ps); use a service, ~/.pgpass or " +
        environment_name(value.name.substr(2)));
  }
}

void add_pooler(Invocation& invocation, const Value& value) {
  // Poolers of the command line belong to one app of their own, so that they can be added to those of a plan
  // file.
  constexpr std::string_view kName = "apps";
  auto& apps = invocation.plan.apps;
  auto app = std::find_if(apps.begin(), apps.end(), [&](const plan::App& one) { return one.name == kName; });
  if (app == apps.end()) {
    apps.emplace_back();
    app = std::prev(apps.end());
    app->name = kName;
  }
  app->pgbouncers.push_back(plan::parse_pgbouncer(value.text, value.name));
  if (has_password_in_argv(value, app->pgbouncers.back().admin)) {
    invocation.warnings.push_back("the password in " + value.name +
                                  " can be seen by everybody on this host (ps)");
  }
}

void add_role_name(Invocation& invocation, const Value& value) {
  const auto equals = value.text.find('=');
  if (equals == std::string::npos || equals != value.text.rfind('=')) {
    throw base::UsageError(value.name + " wants OLD=NEW, not '" + value.text + "'",
                           "a name that holds = goes into the plan file: roles: {map: {old: new}}");
  }
  if (!invocation.plan.role_map.emplace(value.text.substr(0, equals), value.text.substr(equals + 1)).second) {
    throw base::UsageError(value.name + " names " + value.text.substr(0, equals) + " twice",
                           "keep one of them");
  }
}

// Short forms of one row of the table.
using Apply = std::function<void(Invocation&, const Value&)>;

Option flag(std::string_view name, bool Invocation::*member, std::string_view verbs, std::string_view meaning,
            bool in_environment = false) {
  return {.name = name,
          .letter = {},
          .arity = Arity::flag,
          .argument = {},
          .meaning = meaning,
          .verbs = verbs,
          .apply = [member](Invocation& invocation, const Value&) { invocation.*member = true; },
          .in_environment = in_environment};
}

Option one(std::string_view name, std::string_view letter, std::string_view argument, std::string_view verbs,
           std::string_view meaning, Apply apply) {
  return {.name = name,
          .letter = letter,
          .arity = Arity::one,
          .argument = argument,
          .meaning = meaning,
          .verbs = verbs,
          .apply = std::move(apply)};
}

Option many(std::string_view name, std::string_view argument, std::string_view meaning, Apply apply) {
  return {.name = name,
          .letter = {},
          .arity = Arity::many,
          .argument = argument,
          .meaning = meaning,
          .verbs = {},
          .apply = std::move(apply)};
}

void add_connections(std::vector<Option>& table) {
  table.push_back(one("plan", "", "FILE", "", "plan file (YAML); options are stronger than what it says",
                      [](Invocation&, const Value&) {}));  // read first: see parse()
  table.push_back(one("source", "s", "CONNINFO", "",
                      "server that has the data: URI, keywords or service=NAME",
                      [](Invocation& i, const Value& v) { set_side(i, i.plan.source, v); }));
  table.push_back(one("target", "t", "CONNINFO", "", "server that shall have it",
                      [](Invocation& i, const Value& v) { set_side(i, i.plan.target, v); }));
  table.push_back(one("name", "n", "NAME", "", "name of the migration (default: from the source's database)",
                      [](Invocation& i, const Value& v) { i.plan.name = not_empty(v); }));
  table.push_back(many("pgbouncer", "SPEC",
                       "pooler to hold and move: admin='CONNINFO' database=NAME ini=FILE",
                       [](Invocation& i, const Value& v) { add_pooler(i, v); }));
}

void add_plan_options(std::vector<Option>& table) {
  table.push_back(many("include", "PATTERN", "only tables like this, on schema.table (default: all)",
                       [](Invocation& i, const Value& v) { i.plan.tables.include.push_back(not_empty(v)); }));
  table.push_back(many("exclude", "PATTERN", "no tables like this",
                       [](Invocation& i, const Value& v) { i.plan.tables.exclude.push_back(not_empty(v)); }));
  table.push_back(
      many("exclude-columns", "PATTERN", "no columns like this, on schema.table.column",
           [](Invocation& i, const Value& v) { i.plan.tables.columns.exclude.push_back(not_empty(v)); }));
  table.push_back(one("keyless", "", "refuse|full", "",
                      "tables without a key: refuse, or REPLICA IDENTITY FULL",
                      [](Invocation& i, const Value& v) {
                        i.plan.keyless_full = word<bool>(v, {{"refuse", false}, {"full", true}});
                      }));
  table.push_back(one("unlogged", "", "data|no-data", "",
                      "unlogged tables: with their rows, or empty (default data)",
                      [](Invocation& i, const Value& v) {
                        i.plan.unlogged_data = word<bool>(v, {{"data", true}, {"no-data", false}});
                      }));
  table.push_back(one("publications", "", "skip|copy", "",
                      "the source's own publications: make them on the target too (default skip)",
                      [](Invocation& i, const Value& v) {
                        i.plan.copy_publications = word<bool>(v, {{"skip", false}, {"copy", true}});
                      }));
  table.push_back(one(
      "subscriptions", "", "skip|copy-disabled", "",
      "the source's subscriptions: make them on the target too, disabled and without a slot (default skip)",
      [](Invocation& i, const Value& v) {
        i.plan.copy_subscriptions = word<bool>(v, {{"skip", false}, {"copy-disabled", true}});
      }));
  table.push_back(one("roles", "", "create|require", "",
                      "roles that the target lacks: make them, or refuse to begin (default create)",
                      [](Invocation& i, const Value& v) {
                        i.plan.create_roles = word<bool>(v, {{"create", true}, {"require", false}});
                      }));
  table.push_back(many("map-role", "OLD=NEW", "the source's role OLD is called NEW on the target",
                       [](Invocation& i, const Value& v) { add_role_name(i, v); }));
  table.back().in_environment = false;
  table.push_back(many("accept", "ID", "a finding that shall warn instead of block",
                       [](Invocation& i, const Value& v) { i.plan.accepted.push_back(not_empty(v)); }));
  const auto content = [](std::string_view name, plan::Content meant, std::string_view meaning) {
    auto option = flag(name, &Invocation::json, "", meaning, true);
    option.apply = [meant](Invocation& i, const Value&) { i.plan.content = meant; };
    return option;
  };
  table.push_back(content("data-only", plan::Content::data_only,
                          "the target has the tables already, empty and alike: copy rows into them"));
  table.push_back(content("schema-only", plan::Content::schema_only,
                          "the schema, no rows and no stream: `run` ends when it is there"));
  table.push_back(
      one("jobs", "j", "N", "", "tables copied at the same time (default 2)",
          [](Invocation& i, const Value& v) { i.plan.copy_jobs = static_cast<int>(number(v, 1, 64)); }));
  table.push_back(
      one("index-jobs", "", "N", "", "indexes built at the same time (default 2)",
          [](Invocation& i, const Value& v) { i.plan.index_jobs = static_cast<int>(number(v, 1, 64)); }));
  table.push_back(one("indexes", "", "now|later", "",
                      "later: secondary ones are built by the next run with now, before the switch",
                      [](Invocation& i, const Value& v) {
                        i.plan.indexes_later = word<bool>(v, {{"now", false}, {"later", true}});
                      }));
  table.push_back(one("split-above", "", "MB", "",
                      "larger tables are copied in parts by all jobs (default: by itself)",
                      [](Invocation& i, const Value& v) { i.plan.split_above_mb = number(v, 0, 1 << 30); }));
  table.push_back(one("max-rate", "", "MB", "",
                      "rows copied a second, all tables together; 0: no limit (default 0)",
                      [](Invocation& i, const Value& v) {
                        i.plan.copy_max_rate_mb = number(v, 0, plan::kMaxRateMb);
                        i.limits["max-rate"] = v.text;
                      }));
  table.push_back(one("max-active-sessions", "", "N", "",
                      "the copy rests while more of others are active on the source (default: off)",
                      [](Invocation& i, const Value& v) {
                        i.plan.copy_max_active_sessions = static_cast<int>(number(v, 0, 1'000'000));
                        i.limits["max-active-sessions"] = v.text;
                      }));
  table.push_back(one("max-replica-lag", "", "SPAN", "",
                      "the copy rests while a standby of the source is further behind (default: off)",
                      [](Invocation& i, const Value& v) {
                        i.plan.copy_max_replica_lag = span(v, base::milliseconds(0), plan::kMaxReplicaLag);
                        i.limits["max-replica-lag"] = v.text;
                      }));
  table.push_back(one("max-xmin-age", "", "N", "",
                      "no table is begun while a snapshot on the source is N transactions old (default: off)",
                      [](Invocation& i, const Value& v) {
                        i.plan.copy_max_xmin_age = number(v, 0, plan::kMaxXminAge);
                        i.limits["max-xmin-age"] = v.text;
                      }));
  table.push_back(one("snapshot", "", "shared|per-table", "",
                      "of the copy: one for all tables, or one each, which pins no xmin for long",
                      [](Invocation& i, const Value& v) {
                        i.plan.snapshot_per_table = word<bool>(v, {{"shared", false}, {"per-table", true}});
                      }));
  table.push_back(
      one("sequence-headroom", "", "N", "", "ids left free at a switch (default: computed from the rate)",
          [](Invocation& i, const Value& v) { i.plan.sequence_headroom = number(v, 0, 2'147'483'647); }));
  table.push_back(one("spool", "", "DIR", "",
                      "keep changes there, so that the source may recycle its WAL (default: off)",
                      [](Invocation& i, const Value& v) { i.plan.spool_directory = not_empty(v); }));
  table.push_back(one("spool-limit", "", "BYTES", "", "at most so much of them (default 10 GiB)",
                      [](Invocation& i, const Value& v) {
                        i.plan.spool_limit_bytes =
                            number(v, std::int64_t{1} << 20, std::numeric_limits<std::int64_t>::max());
                      }));
  table.push_back(
      one("wal-warn", "", "MB", "", "warn where a slot keeps more WAL (default 10240)",
          [](Invocation& i, const Value& v) { i.plan.slot_wal_warn_mb = number(v, 1, plan::kMaxWalMb); }));
  table.push_back(
      one("wal-limit", "", "MB", "",
          "drop the stream's slot where it keeps more, the copy is lost then (default: never)",
          [](Invocation& i, const Value& v) { i.plan.slot_wal_limit_mb = number(v, 0, plan::kMaxWalMb); }));
  auto failover = flag("failover-slots", &Invocation::json, "",
                       "slots that standbys keep in step: the stream survives a failover (17 on)", true);
  failover.apply = [](Invocation& i, const Value&) { i.plan.slot_failover = true; };
  table.push_back(failover);
  table.push_back(one("source-free-space", "", "BYTES", " check run ",
                      "free space of the source's WAL volume, which SQL can't see: how long a slot may live",
                      [](Invocation& i, const Value& v) {
                        i.source_free_bytes = number(v, 0, std::numeric_limits<std::int64_t>::max());
                      }));
  table.push_back(one("pg-bindir", "", "DIR", "", "directory of pg_dump and pg_restore (default: PATH)",
                      [](Invocation& i, const Value& v) { i.plan.pg_bindir = not_empty(v); }));
}

void add_gates(std::vector<Option>& table) {
  using std::chrono::hours;
  using std::chrono::minutes;
  table.push_back(one("gate", "", "manual|auto", "",
                      "before the switch: wait for the verb, or go on (default manual)",
                      [](Invocation& i, const Value& v) {
                        i.plan.gates.manual = word<bool>(v, {{"manual", true}, {"auto", false}});
                      }));
  table.push_back(one("max-pause", "", "SPAN", "", "whole budget of the pause, else undone (default 5s)",
                      [](Invocation& i, const Value& v) {
                        i.plan.gates.max_pause = span(v, base::milliseconds(100), minutes(10));
                      }));
  table.push_back(one("max-lag", "", "SPAN", "", "no switch while the stream lags more (default 1s)",
                      [](Invocation& i, const Value& v) {
                        i.plan.gates.max_lag = span(v, base::milliseconds(10), hours(1));
                      }));
  table.push_back(one(
      "verify-gate", "", "full|none", "", "what must be compared before the switch (default full)",
      [](Invocation& i, const Value& v) {
        i.plan.gates.verify =
            word<plan::VerifyGate>(v, {{"none", plan::VerifyGate::none}, {"full", plan::VerifyGate::full}});
      }));
  auto cancel =
      flag("cancel-blockers", &Invocation::json, "", "cancel sessions that block the fence's locks", true);
  cancel.apply = [](Invocation& i, const Value&) { i.plan.gates.cancel_blockers = true; };
  table.push_back(cancel);
  table.push_back(one("lock-limit", "", "SPAN", "", "time for all attempts to lock the tables (default 10s)",
                      [](Invocation& i, const Value& v) {
                        i.plan.gates.lock_limit = span(v, base::milliseconds(100), minutes(10));
                      }));
  table.push_back(one(
      "unstreamed", "", "copy|refuse|defer", "",
      "unlogged tables, large objects, matviews that changed in the last moment (default copy)",
      [](Invocation& i, const Value& v) {
        using plan::Unstreamed;
        i.plan.gates.unstreamed = word<Unstreamed>(
            v, {{"copy", Unstreamed::copy}, {"refuse", Unstreamed::refuse}, {"defer", Unstreamed::defer}});
      }));
}

void add_verb_options(std::vector<Option>& table) {
  using std::chrono::hours;
  using std::chrono::minutes;
  table.push_back(one("until", "", "STEP", " run ",
                      "stop after this step of the preparation (see `pgcutover plan`)",
                      [](Invocation& i, const Value& v) { i.until = step_name(v); }));
  table.back().in_environment = false;
  table.push_back(many("table", "PATTERN", "table on the source, or several: schema.table",
                       [](Invocation& i, const Value& v) { i.tables.push_back(not_empty(v)); }));
  table.back().verbs = " resync ";
  table.back().in_environment = false;
  table.push_back(flag("takeover", &Invocation::takeover,
                       " run switch rollback finish cancel verify resync throttle ",
                       "end another controller's sessions and take its place"));
  table.push_back(flag("no-wait", &Invocation::no_wait,
                       " switch rollback verify finish cancel resync throttle ",
                       "don't wait for the controller's answer"));
  table.push_back(flag("yes", &Invocation::yes, " run rollback finish cancel unfence sequences ",
                       "don't ask (run: for --reset-target); `sequences watch`: issue new ranges too"));
  table.back().letter = "y";
  table.push_back(flag("reset-target", &Invocation::reset_target, " check plan run ",
                       "drop everything that the target's database holds before beginning; lists it first"));
  table.push_back(flag("target-lost", &Invocation::target_lost, " rollback ",
                       "the target is gone: open the source, losing what only the target had"));
  table.push_back(flag("watch", &Invocation::watch, " status ", "again and again, until interrupted"));
  table.push_back(
      one("interval", "", "SPAN", " status sequences ",
          "how often, with --watch; of the rate that is measured (default 1s)",
          [](Invocation& i, const Value& v) { i.interval = span(v, base::milliseconds(100), hours(1)); }));
  table.push_back(one("output", "o", "FILE", " report ", "where to write it (default: stdout)",
                      [](Invocation& i, const Value& v) { i.output = not_empty(v); }));
  table.push_back(one("format", "", "html|json", " report ", "what to write (default html)",
                      [](Invocation& i, const Value& v) {
                        i.format = word<std::string>(v, {{"html", "html"}, {"json", "json"}});
                      }));
}

void add_general(std::vector<Option>& table) {
  using std::chrono::hours;
  using std::chrono::minutes;
  table.push_back(flag("json", &Invocation::json, "", "results on stdout as JSON", true));
  table.push_back(
      one("timeout", "", "SPAN", " switch rollback verify finish cancel report resync throttle ",
          "how long to wait for the controller's answer (default: no limit)",
          [](Invocation& i, const Value& v) { i.timeout = span(v, base::milliseconds(1), hours(720)); }));
  table.push_back(one("connect-timeout", "", "SPAN", "", "limit for one connection (default 10s)",
                      [](Invocation& i, const Value& v) {
                        i.connect_timeout = span(v, base::milliseconds(100), minutes(10));
                      }));
  using base::log::Format;
  using base::log::Level;
  table.push_back(one(
      "log-level", "", "LEVEL", "", "debug, info, warn or error (default info)",
      [](Invocation& i, const Value& v) {
        i.log_level = word<Level>(
            v,
            {{"debug", Level::debug}, {"info", Level::info}, {"warn", Level::warn}, {"error", Level::error}});
      }));
  table.push_back(one("log-format", "", "text|json", "", "lines on stderr (default text)",
                      [](Invocation& i, const Value& v) {
                        i.log_format = word<Format>(v, {{"text", Format::text}, {"json", Format::json}});
                      }));
}

}  // namespace

const std::vector<Verb>& verb_table() {
  static const std::vector<Verb> table{
      {"check", "look at both sides, say what blocks or is risky and how to mend it; changes nothing", ""},
      {"plan", "print the steps that `run` would take, with real values; changes nothing", ""},
      {"run", "prepare, copy and stream up to the switch; goes on where it stopped", ""},
      {"status", "where it stands, who takes writes, lag, room left", ""},
      {"verify", "compare both sides, table by table, while they are live", ""},
      {"resync", "copy tables again while streaming, or take in those created since the run began", ""},
      {"throttle",
       "set how fast tables are copied, also while they are: --max-rate=MB a second, 0 for no limit",
       "Also --max-active-sessions, --max-replica-lag and --max-xmin-age; what isn't given stays as it is.\n"
       "It holds for copies to come as well, until it is called again.\n"},
      {"switch", "pass the gate: hold, fence, drain, sequences, open, move", ""},
      {"rollback", "go back to the source, with everything written on the target", ""},
      {"finish", "drop slots, publications and our objects after a switch", ""},
      {"cancel", "give up before the switch; both servers as they were found", ""},
      {"unfence",
       "open the source again after a switch that was cut off, with nothing but the source at hand", ""},
      {"report", "the evidence: plan, findings, fence, comparison, pauses", ""},
      {"sequences", "list, plan, bump or watch the ids each side hands out; also without a migration",
       "What comes after the verb:\n"
       "  list   every sequence, the columns it feeds, its limits, and the keys that need none\n"
       "  plan   observed rate, headroom and the values `bump` would set; changes nothing (3: it blocks)\n"
       "  bump   set disjoint ranges on the given servers while they are live; needs --yes\n"
       "  watch  how much of each range is used, again and again until interrupted; with --yes the\n"
       "         next ranges are issued once 80 % of one are used\n"
       "One server is enough: --source or --target alone.\n"},
      {"journal", "look into a spool (--spool DIR), or apply it to a staging database",
       "What comes after the verb:\n"
       "  stat    its segments, positions and sizes; says where it is damaged\n"
       "  cat     one line for each change\n"
       "  replay  apply it to --target, which holds what the first copy saw\n"},
      {"guardian", "", "", false},
      {"list-fault-points", "", "", false},
  };
  return table;
}

const Verb* find_verb(std::string_view name) {
  const auto& table = verb_table();
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const Verb& verb) { return verb.name == name; });
  return found == table.end() ? nullptr : &*found;
}

bool is_later_verb(std::string_view name) {
  return name == "drill";
}

const std::vector<Option>& option_table() {
  static const std::vector<Option> table = [] {
    std::vector<Option> rows;
    add_connections(rows);
    add_plan_options(rows);
    add_gates(rows);
    add_verb_options(rows);
    add_general(rows);
    return rows;
  }();
  return table;
}

bool allowed(const Option& option, std::string_view verb) {
  return option.verbs.empty() || option.verbs.find(" " + std::string(verb) + " ") != std::string_view::npos;
}

std::string environment_name(std::string_view option) {
  std::string name = "PGCUTOVER_";
  for (const char c : option) {
    name.push_back(c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c));
  }
  return name;
}

}  // namespace cutover::cli
