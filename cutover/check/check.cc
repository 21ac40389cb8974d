#include "cutover/check/check.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "cutover/check/context.h"
#include "cutover/plan/plan.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"

namespace cutover::check {
namespace {

// Both sides carry this pair's record: a run that was begun and goes on.
bool record_matches(Context& context, Side& side) {
  if (run_table(side.connection) != RunTable::readable)
    return false;  // without the right to read it, it isn't ours
  return side.connection
      .maybe_value(
          "SELECT 1 FROM pgcutover.run WHERE source_system = $1 AND target_system = $2 AND source_database = "
          "$3 "
          "AND target_database = $4",
          {context.source.facts.system_identifier, context.target.facts.system_identifier,
           context.source.facts.database, context.target.facts.database})
      .has_value();
}

void check_server(Context& context) {
  check_versions(context);
  check_recovery(context);
  check_same_database(context);
  for (Side* side : {&context.source, &context.target}) {
    if (context.streams()) {
      check_wal_level(context, *side);
      check_slots_and_walsenders(context, *side);
    }
    check_leftover(context, *side);
  }
  check_encoding_and_collation(context);
  check_extensions(context);
  check_target_content(context);
}

void check_privileges(Context& context) {
  for (Side* side : {&context.source, &context.target}) {
    check_role(context, *side);
    if (context.streams()) {
      check_replica_role(context, *side);
    }
  }
  if (context.streams()) {
    check_table_ownership(context);
    check_large_object_privileges(context);
  }
  check_schema_usage(context);
  check_sequence_privileges(context);
}

void check_tables(Context& context) {
  check_keys(context);
  check_enum_hash_partitions(context);
  check_virtual_columns(context);
  check_columns(context);
  check_unlogged(context);
  check_unlogged_sequences(context);
  check_row_security(context);
  check_triggers(context);
  check_outside_stream(context);
  check_inherited_order(context);
  check_large_rows(context);
}

void check_objects(Context& context) {
  if (context.restores()) {
    check_roles(context);
    check_indexes_left(context);
    check_tablespaces(context);
    check_collations(context);
    check_extension_rights(context);
    check_user_mappings(context);
  }
  check_default_settings(context);
  check_left_out(context);
  check_event_triggers(context);
  check_publications(context);
  check_subscriptions(context);
  check_target_row_security(context);
  check_extension_tables(context);
}

void check_clients(Context& context) {
  for (Side* side : {&context.source, &context.target}) {
    check_tool_role(context, *side);
    check_superuser_sessions(context, *side);
    check_connect_revoke(context, *side);
    check_long_transactions(context, *side);
  }
  check_prepared_transactions(context);
  check_other_replication(context);
  check_scheduled_jobs(context);
}

}  // namespace

base::Findings run_checks(const CheckInput& input) {
  Context context{.input = input,
                  .source = {"source", input.source, catalog::server_facts(input.source)},
                  .target = {"target", input.target, catalog::server_facts(input.target)},
                  .catalog = catalog::load(input.source, input.filter)};
  context.resuming = record_matches(context, context.source) && record_matches(context, context.target);
  const WalSample before = sample_wal(context.source);
  check_server(context);
  check_privileges(context);
  if (context.streams()) {
    check_tables(context);
  }
  check_objects(context);
  if (context.streams()) {
    check_clients(context);
  }
  check_connections(context, context.source);
  check_connections(context, context.target);
  if (context.streams()) {
    check_locks(context);
  }
  if (context.restores()) {
    check_pg_dump(context);
  }
  if (context.streams()) {
    check_runway(context, before);
    check_failover_slots(context);
  }
  for (base::Finding& finding : context.findings) {
    if (finding.severity == base::Severity::blocks && plan::is_accepted(input.accepted, finding)) {
      finding.severity = base::Severity::warns;
      finding.message += " (accepted)";
    }
  }
  return std::move(context.findings);
}

bool blocks(const base::Findings& findings) {
  return std::ranges::any_of(findings,
                             [](const base::Finding& f) { return f.severity == base::Severity::blocks; });
}

const std::vector<FindingKind>& finding_kinds() {
  static const std::vector<FindingKind> kinds = {
      {"source-version", "the source's PostgreSQL version isn't supported"},
      {"target-version", "the target's PostgreSQL version isn't supported"},
      {"target-older", "the target is older than the source"},
      {"source-in-recovery", "the source is a standby"},
      {"target-in-recovery", "the target is a standby"},
      {"same-database", "source and target are one database"},
      {"same-cluster", "source and target are databases of one server"},
      {"wal-level", "wal_level isn't logical"},
      {"no-free-slot", "no replication slot is free"},
      {"no-free-walsender", "no walsender is free"},
      {"leftover", "a schema pgcutover that isn't this migration's"},
      {"encoding-differs", "the databases' encodings differ"},
      {"collation-differs", "the databases' default collations differ"},
      {"extensions-missing", "an extension of the source isn't available on the target"},
      {"extension-version", "an extension has another version on the target"},
      {"tablespace-missing", "a tablespace that tables of the source lie in isn't on the target"},
      {"collation-missing", "a collation that the source uses isn't on the target"},
      {"settings-differ", "sessions begin with another value of a setting on the target"},
      {"user-mapping", "a user mapping whose options our role can't see"},
      {"target-not-empty", "the target holds objects or rows of its own"},
      {"target-differs", "a table that is on the target already can't take the source's rows"},
      {"indexes-missing", "secondary indexes that were put off"},
      {"reset-target", "what --reset-target will take away"},
      {"missing-privilege", "our role lacks a right"},
      {"keyless-table", "a table without a replica identity"},
      {"identity-nothing", "a table with REPLICA IDENTITY NOTHING"},
      {"generated-key", "a generated column in a key or, virtual, under REPLICA IDENTITY FULL"},
      {"enum-hash-partition", "a table partitioned by the hash of an enum"},
      {"left-out-column", "a column that can't be left out"},
      {"columns-left-out", "columns that are left out, as asked"},
      {"left-out-way-back", "a table whose rows may lose what is left out on the way back"},
      {"exclude-columns-unused", "a pattern of exclude-columns that matches nothing"},
      {"unlogged-tables", "an unlogged table, which no stream carries"},
      {"sequence-unlogged", "an unlogged sequence, which a crash sets back"},
      {"row-security", "row security hides rows from our role"},
      {"trigger-fires-always", "a trigger that fires for applied changes too"},
      {"large-objects", "large objects, which no stream carries"},
      {"matviews", "materialized views, which no stream carries"},
      {"foreign-tables", "foreign tables, whose rows aren't moved"},
      {"inherited-column-order", "an inheritance child whose columns change places"},
      {"large-rows", "a table with very large values"},
      {"roles-missing", "a role of the source that the target lacks"},
      {"role-map", "a name in roles.map that doesn't fit, or what it means for applications"},
      {"role-password", "a role whose password isn't the source's"},
      {"needs-left-out", "something that needs a table which is left out"},
      {"event-triggers", "an event trigger that may fire for our own DDL"},
      {"extension-tables", "rows in tables of extensions, which no stream carries"},
      {"tool-role-shared", "an application connects as our role"},
      {"member-of-tool-role", "a login role is a member of our role"},
      {"superuser-sessions", "a superuser is connected, whom the fence can't keep out"},
      {"connect-survives-revoke", "a role could still connect after the fence"},
      {"prepared-transactions", "a prepared transaction is open"},
      {"long-transactions", "a transaction is open for long"},
      {"foreign-slots", "another consumer's slot won't follow"},
      {"publications", "publications of the source's own"},
      {"subscriptions", "subscriptions of the source, whether they are enabled or not"},
      {"subscription", "a subscription writes into the side that closes"},
      {"scheduled-jobs", "scheduled jobs run inside the database"},
      {"max-connections", "too few connections are free"},
      {"max-locks", "too many tables for the lock table"},
      {"pg-dump", "pg_dump is missing or too old"},
      {"failover-slots", "slots that shall survive a failover can't, or not for sure"},
      {"slot-runway", "how long the free space lasts while a slot keeps WAL"},
      {"max-slot-wal-keep-size", "the slot would be lost too soon"},
  };
  return kinds;
}

void require_known_ids(const std::vector<std::string>& accepted) {
  // Of the gate before a hand-over, of poolers and hooks, and of sequences.
  std::vector<std::string> known{"long-transaction",
                                 "schema-changed",
                                 "no-way-back",
                                 "publication-changed",
                                 "conflicts",
                                 "lag",
                                 "hook-address",
                                 "hook-failed",
                                 "hook-missing",
                                 "hook-no-hold",
                                 "pooler-address",
                                 "pooler-database",
                                 "pooler-ini",
                                 "pooler-paused",
                                 "pooler-query-wait",
                                 "pooler-login-timeout",
                                 "pooler-unreachable",
                                 "pooler-unusable",
                                 "pooler-session-pooling",
                                 "sequence-behind-data",
                                 "sequence-cycles",
                                 "sequence-differs",
                                 "sequence-exhausted",
                                 "sequence-headroom",
                                 "sequence-missing",
                                 "sequence-near-limit",
                                 "sequence-only-there",
                                 "sequence-overflow",
                                 "sequence-privilege",
                                 "sequence-range"};
  for (const auto& kind : finding_kinds()) {
    known.emplace_back(kind.id);
  }
  for (const auto& name : accepted) {
    const auto id = name.substr(0, name.find(':'));
    if (std::ranges::find(known, id) == known.end()) {
      const auto near = plan::nearest(id, known);
      throw base::UsageError("there is no finding '" + id + "' to accept",
                             near ? "did you mean '" + *near + "'?" : "`pgcutover check` prints the ids");
    }
  }
}

RunTable run_table(postgres::Connection& connection) {
  const auto readable = connection.maybe_value(R"(
    SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'pgcutover' AND c.relname = 'run')");
  if (!readable)
    return RunTable::none;
  return *readable == "t" ? RunTable::readable : RunTable::unreadable;
}

void Context::blocks(const Side& side, std::string_view id, std::string object, std::string message,
                     std::string remedy) {
  findings.push_back({base::Severity::blocks, std::string(id), side.name, std::move(object),
                      std::move(message), std::move(remedy)});
}

void Context::warns(const Side& side, std::string_view id, std::string object, std::string message,
                    std::string remedy) {
  blocks(side, id, std::move(object), std::move(message), std::move(remedy));
  findings.back().severity = base::Severity::warns;
}

std::string list_text(const std::vector<std::string>& items, std::size_t shown) {
  std::string out;
  for (std::size_t i = 0; i < items.size() && i < shown; ++i)
    out += (i == 0 ? "" : ", ") + items[i];
  if (items.size() > shown)
    out += " and " + std::to_string(items.size() - shown) + " more";
  return out;
}

std::string bytes_text(double bytes) {
  constexpr std::array kUnits = {"bytes", "kB", "MB", "GB", "TB", "PB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit)
    bytes /= 1024;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes,
                kUnits[unit]);
  return text.data();
}

}  // namespace cutover::check
