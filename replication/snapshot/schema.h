// The schema's way to the target: pg_dump and pg_restore in sections, under the copy's snapshot.
//
// Passwords reach the child processes through their environment only. The archive lies in a private temporary
// directory of the tool's host that is removed at the end; after a crash it is simply dumped again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/catalog/role_map.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/fencing_token.h"
#include "replication/snapshot/sql_script.h"
#include "replication/snapshot/stream_objects.h"

namespace replication::snapshot {

struct SchemaTools {
  std::string pg_dump, pg_restore;
  int major = 0;
  // From `bindir` (or PATH where empty). Throws Error with a remedy where missing or older than
  // `server_major`.
  static SchemaTools locate(const std::string& bindir, int server_major, const base::Stop& stop);
};

class SchemaArchive {
 public:
  // Dumps the schema (no data). `snapshot` may be empty. What it restores names roles as `roles` says.
  SchemaArchive(const SchemaTools& tools, const postgres::ConnInfo& source, const std::string& snapshot,
                const catalog::TableFilter& filter, const base::Stop& stop, StreamObjects wanted = {},
                catalog::RoleMap roles = {});
  ~SchemaArchive();
  SchemaArchive(const SchemaArchive&) = delete;
  SchemaArchive& operator=(const SchemaArchive&) = delete;

  // Schemas, types, functions, tables, sequences. What exists already is left as it is (a repeated call after
  // a kill).
  void restore_pre_data(const postgres::ConnInfo& target, const postgres::FencingToken& token) const;
  // Leaves out what secondary_indexes() (index_statement.h) says may wait. Before the post-data is asked for.
  void put_off_secondary_indexes();
  // What restore_post_data runs, in its order.
  const std::vector<ScriptItem>& post_data() const;
  // What was put off by an earlier archive: secondary indexes alone, those that aren't there yet. Returns how
  // many statements it ran.
  std::size_t restore_secondary_indexes(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                                        int jobs) const;
  // Indexes, constraints, triggers, rules... without foreign keys and without matviews' data; `jobs` in
  // parallel.
  void restore_post_data(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                         int jobs) const;

  // Publications and subscriptions: the statements of those that are wanted.
  std::vector<ScriptItem> stream_objects() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Creates each missing foreign key NOT VALID and validates it (rule: only once the stream has passed every
// table's snapshot). Returns those that the source's own data violates: they stay NOT VALID.
std::vector<std::string> ensure_foreign_keys(postgres::Connection& target,
                                             const std::vector<catalog::ForeignKey>& keys);

// A materialized view that the server refused to refresh: what it computes, or what its owner may do there,
// fails. It holds what it held before, be it nothing.
struct StaleMatview {
  std::string name;  // quoted, qualified
  std::string reason;
};

// All that is left once both sides are consistent, in `jobs` sessions: foreign keys are added one by one and
// validated in parallel; tables that weren't written frozen are vacuumed, those without statistics analyzed;
// materialized views are refreshed.
struct Finished {
  std::vector<std::string> violated;  // foreign keys
  std::vector<StaleMatview> stale;
};
Finished finish_tables(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                       const catalog::Catalog& catalog, int jobs, const base::Stop& stop);

// One after the other, in this order; returns those that the server refused. What has nothing to do with the
// view (a lost session, a full disk, the deadline) is thrown, with its name.
std::vector<StaleMatview> refresh_matviews(postgres::Connection& target,
                                           const std::vector<std::string>& matviews,
                                           base::Deadline deadline = base::Deadline::never());

}  // namespace replication::snapshot
