// `check`: every prerequisite and hazard on both servers as findings, each with its remedy.
//
// Changes nothing: everything is read, and the one thing that has to be tried (taking CONNECT away) is tried
// in a transaction that is rolled back. An accepted finding stays in the list as a warning. Servers that
// can't be reached never get here: Connection::open says so. Threads: uses both connections from the caller's
// thread. Takes `wal_sample` where the WAL rate decides something.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cutover/plan/plan.h"
#include "replication/base/deadline.h"
#include "replication/base/finding.h"
#include "replication/catalog/catalog.h"
#include "replication/catalog/server.h"
#include "replication/postgres/connection.h"

namespace cutover::check {

namespace base = replication::base;
namespace catalog = replication::catalog;
namespace postgres = replication::postgres;

struct CheckInput {
  // Sessions of the tool's own role in the databases that are moved. Outlive the call; not in a transaction.
  postgres::Connection& source;
  postgres::Connection& target;
  catalog::TableFilter filter = {};
  // What is moved: decides which prerequisites count, and whether the target must be empty.
  plan::Content content = plan::Content::all;
  // Secondary indexes are put off.
  bool indexes_later = false;
  // What is in the way on the target will be dropped: listed, not blocking.
  bool reset_target = false;
  // The plan lets us set REPLICA IDENTITY FULL on tables without a key.
  bool keyless_full = false;
  // Unlogged tables arrive with their rows.
  bool unlogged_data = true;
  // The source's own publications and subscriptions are made on the target.
  bool copy_publications = false;
  bool copy_subscriptions = false;
  // Roles that the target lacks are made; false: they must be there.
  bool create_roles = true;
  // What sessions of applications begin with (Servers::default_settings); empty: not compared.
  std::vector<catalog::DefaultSetting> source_settings = {};
  std::vector<catalog::DefaultSetting> target_settings = {};
  // The names that roles of the source have on the target.
  catalog::RoleMap roles = {};
  // A value of this size or more is named.
  std::int64_t large_row_bytes = std::int64_t{100} << 20;
  // The plan asks for slots that standbys keep in step.
  bool failover_slots = false;
  // Sessions the copy opens on each side.
  int jobs = 2;
  // Where pg_dump is; empty = PATH.
  std::string pg_bindir = {};
  // "keyless-table" or "keyless-table:public.log": these only warn.
  std::vector<std::string> accepted = {};
  // Free bytes on the source's WAL volume, which SQL can't see; -1 = unknown.
  std::int64_t source_free_bytes = -1;
  // A transaction open for longer than this is named.
  base::milliseconds long_transaction{300'000};
  // The WAL rate is measured over this span at least where a finding depends on it.
  base::milliseconds wal_sample{1'000};
};

// In the order of the groups below: server, privileges, tables, clients, capacity.
base::Findings run_checks(const CheckInput& input);

// Of one side's tables: what can't be left out of them (blocks), and what the way back can't keep for each
// row (warns). Asked again before each hand-over, since DDL goes on.
base::Findings column_findings(const std::string& server, postgres::Connection& connection,
                               const catalog::Catalog& tables, bool unlogged_data);
// Names what is left out and stays behind on this side; nothing where that is nothing.
std::optional<base::Finding> columns_left_out(const std::string& server, const catalog::Catalog& tables);

// "table public.a": what is in the way of a schema. Objects of extensions, the system's and our own aren't
// there.
std::vector<std::string> target_objects(postgres::Connection& target);
// What --reset-target would drop: these, and what a provider may have put into an empty database.
std::vector<std::string> objects_to_drop(postgres::Connection& target);

// What applications notice where it differs: the results of their statements, or whether they end.
const std::vector<std::string>& compared_settings();

// "a, b, c and 4 more"
std::string list_text(const std::vector<std::string>& items, std::size_t shown = 5);

// Whether anything blocks.
bool blocks(const base::Findings& findings);

// Every id there is with what it is about, for documentation and for refusing `--accept` of a mistyped one.
struct FindingKind {
  std::string_view id;
  std::string_view about;
};
const std::vector<FindingKind>& finding_kinds();

// Throws UsageError, naming the nearest id, where one of `accepted` ("id" or "id:object") is none that
// `check`, the gate before a switch or `sequences` can give.
void require_known_ids(const std::vector<std::string>& accepted);

}  // namespace cutover::check
