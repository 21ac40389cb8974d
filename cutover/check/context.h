// What the groups of checks share: the two sides with their facts, and the list they add to. Internal to this
// room.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cutover/check/check.h"
#include "replication/catalog/server.h"

namespace cutover::check {

struct Side {
  std::string name;  // "source" or "target"
  postgres::Connection& connection;
  catalog::ServerFacts facts;

  bool is_source() const { return name == "source"; }
};

struct Context {
  const CheckInput& input;
  Side source, target;
  catalog::Catalog catalog;  // of the source, filtered
  bool resuming = false;     // both sides carry the record of this very migration: what we made is expected
  base::Findings findings = {};

  // A schema alone needs no stream; where the target has the schema already, nothing of it is restored.
  bool streams() const { return input.content != plan::Content::schema_only; }
  bool restores() const { return input.content != plan::Content::data_only; }

  void blocks(const Side& side, std::string_view id, std::string object, std::string message,
              std::string remedy);
  void warns(const Side& side, std::string_view id, std::string object, std::string message,
             std::string remedy);
};

// pgcutover.run of one side. Looked up by hand: to_regclass() throws where the schema isn't ours to use.
enum class RunTable { none, unreadable, readable };
RunTable run_table(postgres::Connection& connection);

// One subject each; they add to context.findings.
// server.cc
void check_versions(Context& context);
void check_recovery(Context& context);
void check_same_database(Context& context);
void check_wal_level(Context& context, Side& side);
void check_slots_and_walsenders(Context& context, Side& side);
void check_encoding_and_collation(Context& context);
void check_extensions(Context& context);
void check_leftover(Context& context, Side& side);
// target.cc
void check_target_content(Context& context);
void check_indexes_left(Context& context);
// privileges.cc
void check_role(Context& context, Side& side);
void check_replica_role(Context& context, Side& side);
void check_table_ownership(Context& context);
void check_schema_usage(Context& context);
void check_sequence_privileges(Context& context);
void check_large_object_privileges(Context& context);
// tables.cc
void check_keys(Context& context);
void check_enum_hash_partitions(Context& context);
void check_virtual_columns(Context& context);
void check_unlogged(Context& context);
void check_unlogged_sequences(Context& context);
void check_row_security(Context& context);
void check_triggers(Context& context);
void check_outside_stream(Context& context);
// columns.cc
void check_columns(Context& context);
// roles.cc
void check_roles(Context& context);
// objects.cc
void check_left_out(Context& context);
void check_event_triggers(Context& context);
void check_publications(Context& context);
void check_subscriptions(Context& context);
void check_target_row_security(Context& context);
void check_inherited_order(Context& context);
void check_extension_tables(Context& context);
void check_large_rows(Context& context);
// surroundings.cc
void check_tablespaces(Context& context);
void check_collations(Context& context);
void check_extension_rights(Context& context);
void check_user_mappings(Context& context);
void check_default_settings(Context& context);
// clients.cc
void check_tool_role(Context& context, Side& side);
void check_superuser_sessions(Context& context, Side& side);
void check_connect_revoke(Context& context, Side& side);
void check_prepared_transactions(Context& context);
void check_long_transactions(Context& context, Side& side);
void check_other_replication(Context& context);
void check_scheduled_jobs(Context& context);
// capacity.cc
void check_connections(Context& context, Side& side);
void check_locks(Context& context);
void check_pg_dump(Context& context);
struct WalSample {
  base::Clock::time_point at{};
  base::Lsn lsn{};
};
WalSample sample_wal(Side& source);
void check_runway(Context& context, const WalSample& before);
void check_failover_slots(Context& context);

// "12.3 GB"
std::string bytes_text(double bytes);

}  // namespace cutover::check
