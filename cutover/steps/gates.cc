#include "cutover/steps/gates.h"

#include <chrono>
#include <cmath>

#include "cutover/steps/columns.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/publication_watch.h"
#include "cutover/steps/sequence_watch.h"
#include "cutover/steps/settle.h"
#include "cutover/steps/slot_watch.h"
#include "cutover/traffic/traffic.h"
#include "replication/apply/duplicates.h"
#include "replication/base/log.h"
#include "replication/catalog/fit.h"
#include "replication/catalog/server.h"
#include "replication/postgres/quote.h"
#include "replication/stream/publication.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

constexpr base::milliseconds kDuplicates{600'000};

base::Finding blocking(std::string id, Side side, std::string object, std::string message,
                       std::string remedy) {
  return {base::Severity::blocks, std::move(id),      std::string(to_string(side)),
          std::move(object),      std::move(message), std::move(remedy)};
}

// Found before the pause rather than in it.
void sequence_findings(Context& context, Side from, base::Findings& findings) {
  for (auto& finding : plan_sequences(context, from).findings) {
    finding.server = to_string(from);
    findings.push_back(std::move(finding));
  }
}

void transaction_findings(Context& context, Side from, base::Findings& findings) {
  auto& connection = context.servers.at(from);
  for (const auto& prepared : catalog::prepared_transactions(connection)) {
    if (prepared.database == connection.database()) {
      findings.push_back(blocking("prepared-transactions", from, prepared.gid,
                                  "a prepared transaction of " + prepared.owner + " is open",
                                  "COMMIT PREPARED or ROLLBACK PREPARED it"));
    }
  }
  const double limit = std::chrono::duration<double>(context.plan.gates.max_pause).count();
  for (const auto& session : catalog::foreign_sessions(connection)) {
    if (session.transaction_seconds > limit) {
      findings.push_back(blocking(
          "long-transaction", from, "pid " + std::to_string(session.pid),
          "role " + session.user + " (" + session.application_name + ") has a transaction open for " +
              state::seconds_text(session.transaction_seconds) + ", longer than the pause may be",
          "let it end, or SELECT pg_terminate_backend(" + std::to_string(session.pid) + ")"));
    }
  }
}

// Its worker is no client session: the fence doesn't end it, and it would go on writing on the closed side.
void subscription_findings(Context& context, Side from, base::Findings& findings) {
  const auto rows = context.servers.at(from).exec(
      "SELECT subname FROM pg_catalog.pg_subscription WHERE subenabled AND subdbid = "
      "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) ORDER BY 1");
  for (int i = 0; i < rows.rows(); ++i) {
    findings.push_back(blocking("subscription", from, rows.text(i, 0),
                                "subscription " + rows.text(i, 0) + " writes into this database",
                                "ALTER SUBSCRIPTION " + postgres::quote_identifier(rows.view(i, 0)) +
                                    " DISABLE;  and hand it over as docs/content.md#subscriptions says"));
  }
}

// DROP TABLE isn't in the stream, and no comparison looks for a table that is only on the other side.
std::vector<std::string> dropped_partitions(Context& context, const catalog::Catalog& here,
                                            const catalog::Catalog& there, Side to) {
  std::vector<std::string> names;
  for (const auto& table : there.tables) {
    const auto* root = table.partition ? there.find(table.root) : nullptr;
    if (root != nullptr && table.stores_rows() && here.find(root->schema, root->name) != nullptr &&
        here.find(table.schema, table.name) == nullptr &&
        context.servers.at(to).one_value("SELECT EXISTS (SELECT FROM " + table.qualified() + ")") == "t") {
      names.push_back(table.display());
    }
  }
  return names;
}

// What the stream doesn't carry would be missing on the side that opens: every table has to be published on
// this side and to be there, alike, on the other one.
void schema_findings(Context& context, Side from, base::Findings& findings) {
  auto& connection = context.servers.at(from);
  const auto here = catalog::load(connection, context.plan.tables);
  const auto there = catalog::load(context.servers.at(other(from)), context.plan.tables);
  for (const auto& difference : structure_differences(here, there, to_string(other(from)))) {
    findings.push_back(
        blocking("schema-changed", from, "", difference,
                 "make both sides alike and `pgcutover verify`; a table that was created meanwhile is "
                 "taken in by `pgcutover resync --table schema.table`"));
  }
  for (const auto& name : dropped_partitions(context, here, there, other(from))) {
    findings.push_back(blocking("schema-changed", other(from), name,
                                "partition " + name + " isn't on the " + std::string(to_string(from)) +
                                    " any more, but here, with rows: its table would have them again",
                                "DROP TABLE or DETACH it here too"));
  }
  try {
    replication::stream::ensure_publication(connection, publication_name(context.plan.name, from),
                                            here.published(connection.server_major()));
  } catch (const base::StateError& error) {
    findings.push_back(blocking(
        "schema-changed", from, "publication", error.message(),
        "a table that was created meanwhile is taken in by `pgcutover resync --table schema.table`; one too "
        "much, such as a partition that was detached, is taken out by ALTER PUBLICATION " +
            postgres::quote_identifier(publication_name(context.plan.name, from)) + " DROP TABLE"));
  }
}

// Deferrable constraints aren't enforced while changes are applied: rows that break one would stay unnoticed
// on the side that opens.
void duplicate_findings(Context& context, Side from, base::Findings& findings) {
  const Side to = other(from);
  auto session = context.servers.open(to, "duplicates");
  const auto tables = catalog::load(session, context.plan.tables).tables;
  for (const auto& duplicate :
       replication::apply::find_duplicates(session, tables, base::Deadline::in(kDuplicates))) {
    findings.push_back(blocking("duplicates", to, duplicate.table,
                                std::to_string(duplicate.rows) + " rows have " + duplicate.key +
                                    ", which constraint " + duplicate.constraint + " forbids",
                                "`pgcutover verify` shows what differs; pgcutover resync --table " +
                                    duplicate.table + " copies the table again"));
  }
}

// Put off by the plan: the side that opens would answer every query by reading whole tables.
void index_findings(Context& context, base::Findings& findings) {
  if (read_fact(context.servers.target(), "indexes.left") != "yes") {
    return;
  }
  auto& source = context.servers.source();
  const auto missing =
      catalog::missing_indexes(source, context.servers.target(), catalog::load(source, context.plan.tables));
  for (const auto& index : missing) {
    findings.push_back(blocking("indexes-missing", Side::target, index,
                                std::to_string(missing.size()) +
                                    " indexes are left for later and not built yet, " + index + " among them",
                                "stop `pgcutover run` and call it with --indexes now; or accept by name: "
                                "--accept indexes-missing"));
  }
}

// The way back has to work before the way there is taken.
void opposite_findings(Context& context, Side from, base::Findings& findings) {
  const Side to = other(from);
  const auto name = slot_name(context.plan.name, to);
  const auto slot = replication::stream::slot_state(context.servers.at(to), name);
  if (!slot || !slot->restart_lsn.valid() || slot->wal_status == "lost") {
    findings.push_back(blocking("no-way-back", to, name, "the slot for the way back is missing or lost",
                                "call `pgcutover run`: it makes the slot again"));
  } else if (const auto limit = wal_budget(context.plan).limit;
             limit > 0 && slot->retained_bytes > static_cast<std::uint64_t>(limit)) {
    // It would be given up at once.
    findings.push_back(blocking(
        "no-way-back", to, name,
        "the slot for the way back keeps " +
            state::bytes_text(static_cast<std::int64_t>(slot->retained_bytes)) +
            " of WAL, more than slot: {wal-limit: " + std::to_string(context.plan.slot_wal_limit_mb) +
            "} allows: it would be given up right after the hand-over",
        "try again in a minute: it is let go on every few seconds, where no transaction that is open there "
        "holds it; or a larger wal-limit"));
  }
  try {
    const auto tables = catalog::load(context.servers.at(to), context.plan.tables);
    replication::stream::ensure_publication(context.servers.at(to), publication_name(context.plan.name, to),
                                            tables.published(context.servers.at(to).server_major()));
  } catch (const base::StateError& error) {
    findings.push_back(blocking("no-way-back", to, "publication",
                                "what is written there would not all come back: " + error.message(),
                                "drop there what the other side doesn't have, or put the publication back "
                                "as it was (ALTER PUBLICATION ... ADD TABLE ...)"));
  }
  try {
    auto session = context.servers.open(from, "probe");
    session.exec("SET session_replication_role = replica");
  } catch (const base::Error& error) {
    findings.push_back(
        blocking("no-way-back", from, "session_replication_role",
                 "the stream back could not be applied here: " + error.message(),
                 "GRANT SET ON PARAMETER session_replication_role TO our role (15+), or use a superuser"));
  }
}

// Conflicts on this side that no comparison has found repaired since; kept in the database, so that a restart
// of the controller doesn't forget them.
std::int64_t unsettled_conflicts(Context& context, Side side) {
  const auto settled =
      read_fact(context.servers.target(), "conflicts-settled." + std::string(to_string(side)));
  return open_conflicts(context.servers.at(side), settled.value_or("0"));
}

}  // namespace

base::Findings handover_findings(Context& context, Side from, Link& link) {
  base::Findings findings = publication_findings(context, from);
  transaction_findings(context, from, findings);
  subscription_findings(context, from, findings);
  opposite_findings(context, from, findings);
  schema_findings(context, from, findings);
  sequence_findings(context, from, findings);
  duplicate_findings(context, from, findings);
  column_findings(context, from, findings);
  if (from == Side::source) {
    index_findings(context, findings);
  }
  if (const auto open = unsettled_conflicts(context, other(from)); open > 0) {
    findings.push_back(
        blocking("conflicts", other(from), "pgcutover.conflict",
                 std::to_string(open) + " change(s) met no row on the other side",
                 "look at pgcutover.conflict, repair, then `pgcutover verify`; or accept by name: "
                 "--accept conflicts"));
  }
  const auto began = base::Clock::now();
  try {
    pass_marker(context.servers.at(from), link, "gate " + random_hex(4),
                base::Deadline::in(context.plan.gates.max_lag));
  } catch (const base::TimeoutError&) {
    findings.push_back(blocking(
        "lag", other(from), "stream",
        "a marker took longer than " + plan::duration_text(context.plan.gates.max_lag) + " to arrive (" +
            std::to_string(
                std::chrono::duration_cast<base::milliseconds>(base::Clock::now() - began).count()) +
            " ms)",
        "wait until the stream has caught up: `pgcutover status --watch`"));
  }
  traffic::TrafficSet traffic(context.plan, traffic_guard(context), context.servers.stop());
  for (auto& finding : traffic.check_all(destination(from), context.plan.gates.max_pause)) {
    findings.push_back(std::move(finding));
  }
  for (auto& finding : findings) {
    if (context.plan.accepts(finding)) {
      finding.severity = base::Severity::warns;
    }
  }
  return findings;
}

}  // namespace cutover::steps
