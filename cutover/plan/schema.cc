#include "cutover/plan/schema.h"

#include <chrono>
#include <limits>

namespace cutover::plan {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr std::int64_t kSpoolLimitMin = std::int64_t{1} << 20;

Field address(std::string_view key, Address& value, std::string_view meaning) {
  return map(
      key,
      {text("host", value.host, "host or socket directory as the pooler reaches it"),
       text("port", value.port, "port"), text("dbname", value.dbname, "name of the database on that server")},
      meaning);
}

Fields pgbouncer_fields(PgbouncerSpec& spec) {
  return {
      connection("admin", spec.admin, "admin console of the pooler, as a user of admin_users"),
      text("database", spec.database, "the database's name at the pooler"),
      text("ini", spec.ini, "file with the database's line, edited in place; an %include file is best"),
      texts("edit-command", spec.edit_command,
            "instead of ini: a command that edits, with PGCUTOVER_HOST, PGCUTOVER_PORT, PGCUTOVER_DBNAME"),
      address("source", spec.source,
              "the source as the pooler reaches it, where that differs from source.url"),
      address("target", spec.target,
              "the target as the pooler reaches it, where that differs from target.url"),
  };
}

// The hooks of one app. `command` is empty until the key is seen.
Field command_field(std::optional<CommandSpec>& command) {
  const auto fields_of = [](CommandSpec& spec) -> Fields {
    return {texts("hold", spec.hold, "stop new transactions and wait for open ones"),
            texts("release", spec.release, "let them go on; may be run twice"),
            texts("move", spec.move, "point the app at the side in PGCUTOVER_SIDE"),
            texts("undo", spec.undo, "point it back; without it, move is run with the old side"),
            texts("where", spec.where, "print source or target: where the app points now")};
  };
  static CommandSpec shown;
  auto field = map("command", fields_of(shown), "hooks of your own, run without a shell");
  field.read = [&command, fields_of](const Source& source, const Item& item) {
    CommandSpec spec;
    read_map(source, item, fields_of(spec));
    command = std::move(spec);
  };
  field.write = [&command, fields_of](YAML::Emitter& out, Secrets secrets) {
    write_map(out, secrets, fields_of(*command));
  };
  field.empty = [&command] { return !command; };
  return field;
}

Fields app_fields(App& app) {
  return {
      text("name", app.name, "name of the app, for messages and hooks"),
      flag("writes", app.writes, "does it write to the database"),
      map("traffic",
          {list("pgbouncer", app.pgbouncers, &pgbouncer_fields, "poolers in front of the database"),
           command_field(app.command), later("atomic")},
          "how the app is held and moved; without it the app has to find the new server by itself"),
      later("writes_to"),
      later("reads"),
      later("deploy"),
      later("health"),
  };
}

Field tables_field(Plan& plan) {
  return map("tables",
             {texts("include", plan.tables.include, "shell patterns on schema.table; default: every table"),
              texts("exclude", plan.tables.exclude, "shell patterns on schema.table, stronger than include"),
              texts("exclude-columns", plan.tables.columns.exclude,
                    "shell patterns on schema.table.column: neither copied nor streamed"),
              choice("keyless", plan.keyless_full, {{"refuse", false}, {"full", true}},
                     "tables without a key: refuse, or set REPLICA IDENTITY FULL on them"),
              choice("unlogged", plan.unlogged_data, {{"data", true}, {"no-data", false}},
                     "unlogged tables: with their rows, or empty")},
             "which tables are moved");
}

Field schema_changes_field(Plan& plan) {
  auto field = choice("schema-changes", plan.follow_schema, {{"stop", false}, {"apply", true}},
                      "a table is changed in mid-stream: wait for a person, or follow what is proven safe");
  field.read = [read = field.read](const Source& source, const Item& item) {
    if (item.value.IsScalar() && item.value.Scalar() == "ignore") {
      source.fail(item, item.path + " wants one of stop, apply: to ignore is a matter of single columns",
                  "name them in tables: {exclude-columns: [schema.table.column]}; what matches is ignored "
                  "under both, also a column that is added later");
    }
    read(source, item);
  };
  return field;
}

Field gates_field(Gates& gates) {
  return map(
      "gates",
      {choice("before-switch", gates.manual, {{"manual", true}, {"auto", false}},
              "wait for the verb switch, or switch as soon as everything is ready"),
       duration("max-pause", gates.max_pause, base::milliseconds(100), minutes(10),
                "whole budget of the pause; where it would be passed, the switch is undone"),
       duration("max-lag", gates.max_lag, base::milliseconds(10), hours(1),
                "a switch isn't begun while the stream lags more"),
       choice("verify", gates.verify, {{"none", VerifyGate::none}, {"full", VerifyGate::full}},
              "what must have been compared and equal before the switch"),
       flag("cancel-blockers", gates.cancel_blockers,
            "after three attempts cancel who blocks the fence's locks"),
       duration("lock-limit", gates.lock_limit, base::milliseconds(100), minutes(10),
                "time for all attempts to lock the tables, where no pooler holds the traffic"),
       choice("unstreamed", gates.unstreamed,
              {{"copy", Unstreamed::copy}, {"refuse", Unstreamed::refuse}, {"defer", Unstreamed::defer}},
              "what no stream carries changed late: copy it in the pause, undo, or leave it")},
      "what must be true before the switch, and its limits");
}

}  // namespace

Fields plan_fields(Plan& plan) {
  return {
      text("name", plan.name, "name of the migration, [a-z0-9_], at most 30; default: from the database"),
      connection("source", plan.source, "the server that has the data: {url: URI, keywords or service=NAME}"),
      connection("target", plan.target, "the server that shall have it"),
      text("strategy", plan.strategy, "how it is moved"),
      tables_field(plan),
      schema_changes_field(plan),
      choice("conflicts", plan.stop_at_conflict, {{"report", false}, {"stop", true}},
             "a change meets no row on the other side: record it and go on, or stop there"),
      word_or_map(
          "roles",
          {choice("missing", plan.create_roles, {{"create", true}, {"require", false}},
                  "roles that the target lacks: make them like the source's, or refuse to begin"),
           names("map", plan.role_map, "names that roles of the source have on the target: {old: new}")},
          "roles: what missing says, or a map"),
      choice("publications", plan.copy_publications, {{"skip", false}, {"copy", true}},
             "the source's own publications: make them on the target too"),
      choice("subscriptions", plan.copy_subscriptions, {{"skip", false}, {"copy-disabled", true}},
             "the source's subscriptions: make them on the target too, disabled and without a slot"),
      texts("accept", plan.accepted, "ids of findings that shall not block"),
      map("copy",
          {choice("content", plan.content,
                  {{"all", Content::all},
                   {"data-only", Content::data_only},
                   {"schema-only", Content::schema_only}},
                  "all; or rows alone, into tables that are there, empty and alike; or the schema alone"),
           integer("jobs", plan.copy_jobs, 1, 64, "tables copied at the same time"),
           integer("index-jobs", plan.index_jobs, 1, 64, "indexes built at the same time"),
           choice("indexes", plan.indexes_later, {{"now", false}, {"later", true}},
                  "later: secondary ones are built by a later run with now; no switch before that"),
           integer("split-above", plan.split_above_mb, std::int64_t{0}, std::int64_t{1} << 30,
                   "MB above which a table is copied in parts by all jobs; 0 = by itself"),
           integer("max-rate", plan.copy_max_rate_mb, std::int64_t{0}, kMaxRateMb,
                   "MB of rows a second, all tables together; 0 = no limit"),
           integer("max-active-sessions", plan.copy_max_active_sessions, 0, 1'000'000,
                   "the copy rests while more sessions of others are active on the source; 0 = off"),
           duration("max-replica-lag", plan.copy_max_replica_lag, base::milliseconds(0), kMaxReplicaLag,
                    "the copy rests while a standby of the source is further behind; 0s = off"),
           integer("max-xmin-age", plan.copy_max_xmin_age, std::int64_t{0}, kMaxXminAge,
                   "no table is begun while a snapshot on the source is N transactions old; 0 = off"),
           choice("snapshot", plan.snapshot_per_table, {{"shared", false}, {"per-table", true}},
                  "one for all tables, or one each, which pins no xmin for long"),
           text("pg-bindir", plan.pg_bindir, "directory of pg_dump and pg_restore; default: PATH")},
          "the first copy"),
      map("spool",
          {text("directory", plan.spool_directory,
                "on the tool's host: changes are kept there, so that the source may recycle its WAL"),
           integer("limit", plan.spool_limit_bytes, kSpoolLimitMin, std::numeric_limits<std::int64_t>::max(),
                   "bytes; where it is full, the source keeps its WAL again")},
          "a spool for changes while the first copy lasts or the target is away; off without a directory"),
      map("slot",
          {integer("wal-warn", plan.slot_wal_warn_mb, std::int64_t{1}, kMaxWalMb,
                   "MB (2^20 bytes) of WAL kept by a slot, above which `status` warns"),
           integer("wal-limit", plan.slot_wal_limit_mb, std::int64_t{0}, kMaxWalMb,
                   "MB above which the stream's slot is dropped rather than fill the disk; 0 = never"),
           flag("failover", plan.slot_failover,
                "slots that standbys keep in step: the stream survives a failover (17 on)")},
          "what the stream may cost the server that is written"),
      map("sequences",
          {integer("headroom", plan.sequence_headroom, std::int64_t{0}, std::numeric_limits<int>::max(),
                   "increments left free beyond the last value, instead of the computed ones; 0 = compute"),
           duration("window", plan.sequence_window, std::chrono::seconds(1), hours(24 * 90),
                    "how long both sides may have to live before the switch is through"),
           duration("rollback-window", plan.sequence_rollback_window, std::chrono::seconds(1), hours(24 * 90),
                    "how long the way back shall stay open"),
           integer("safety", plan.sequence_safety, 1, 1000, "factor on what the observed rate says")},
          "id headroom: observed rate x (window + rollback-window) x safety + cache x sessions"),
      list("apps", plan.apps, &app_fields, "who uses the database"),
      gates_field(plan.gates),
      later("map"),
      later("sql"),
      later("health"),
      later("deploy"),
  };
}

}  // namespace cutover::plan
