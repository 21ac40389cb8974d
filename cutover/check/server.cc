// Are these two servers a pair between which a database can move, and back?

#include <map>
#include <set>

#include "cutover/check/context.h"
#include "replication/postgres/quote.h"

namespace cutover::check {
namespace {

constexpr int kSourceMajorMin = 12, kTargetMajorMin = 13, kMajorMax = 18;

std::string version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000);
}

std::string restart_setting(const std::string& name, const std::string& value) {
  return "ALTER SYSTEM SET " + name + " = " + value + ";  then restart the server";
}

}  // namespace

void check_versions(Context& context) {
  const int source = context.source.facts.version / 10000, target = context.target.facts.version / 10000;
  if (source < kSourceMajorMin || source > kMajorMax) {
    context.blocks(context.source, "source-version", "",
                   "PostgreSQL " + version_text(context.source.facts.version) + ", supported are 12 to 18",
                   source < kSourceMajorMin ? "move with pg_dump, or upgrade the source to 12 or later first"
                                            : "use a pgcutover that knows this version");
  }
  if (target < kTargetMajorMin || target > kMajorMax) {
    context.blocks(context.target, "target-version", "",
                   "PostgreSQL " + version_text(context.target.facts.version) + ", supported are 13 to 18",
                   "use a target of a supported version");
  }
  if (target < source) {
    context.blocks(context.target, "target-older", "",
                   "the target is PostgreSQL " + std::to_string(target) + ", older than the source's " +
                       std::to_string(source),
                   "use a target of version " + std::to_string(source) + " or later");
  }
}

void check_recovery(Context& context) {
  for (const Side* side : {&context.source, &context.target}) {
    if (!side->facts.in_recovery)
      continue;
    context.blocks(*side, side->name + "-in-recovery", "",
                   "this server is a standby: neither slot nor fence can be made here",
                   "give the primary's address (target_session_attrs=read-write finds it)");
  }
}

void check_same_database(Context& context) {
  const catalog::ServerFacts &source = context.source.facts, &target = context.target.facts;
  if (source.system_identifier != target.system_identifier)
    return;
  if (source.database == target.database) {
    context.blocks(
        context.target, "same-database", target.database,
        "source and target are the same database (system identifier " + source.system_identifier + ")",
        "check --source and --target");
  } else {
    context.warns(context.target, "same-cluster", target.database,
                  "source and target are databases of one server: its loss is the loss of both",
                  "nothing, where a move inside one server is what you want");
  }
}

void check_wal_level(Context& context, Side& side) {
  const std::string level = catalog::setting(side.connection, "wal_level");
  if (level == "logical")
    return;
  context.blocks(side, "wal-level", "wal_level",
                 "wal_level is " + level + ", " +
                     (side.is_source() ? "changes can't be streamed" : "the way back couldn't be streamed"),
                 restart_setting("wal_level", "'logical'"));
}

constexpr std::int64_t kSlotsNeeded = 2;  // the stream's, and verify's temporary one

void check_slots_and_walsenders(Context& context, Side& side) {
  if (context.resuming)
    return;  // ours are among those in use
  const postgres::Result row = side.connection.one_row(R"(
    SELECT pg_catalog.current_setting('max_replication_slots')::int,
           (SELECT count(*) FROM pg_catalog.pg_replication_slots)::int,
           pg_catalog.current_setting('max_wal_senders')::int,
           (SELECT count(*) FROM pg_catalog.pg_stat_replication)::int)");
  const std::int64_t slots = row.integer(0, 0), slots_used = row.integer(0, 1);
  const std::int64_t senders = row.integer(0, 2), senders_used = row.integer(0, 3);
  const std::string use = side.is_source() ? "the stream" : "the way back";
  if (slots_used + kSlotsNeeded > slots) {
    context.blocks(side, "no-free-slot", "max_replication_slots",
                   std::to_string(slots_used) + " of " + std::to_string(slots) +
                       " replication slots are in use, " + use + " needs one and verify another",
                   "drop an unused slot (SELECT slot_name, active FROM pg_replication_slots), or " +
                       restart_setting("max_replication_slots", std::to_string(slots + 2)));
  }
  if (senders_used + kSlotsNeeded > senders) {
    context.blocks(side, "no-free-walsender", "max_wal_senders",
                   std::to_string(senders_used) + " of " + std::to_string(senders) +
                       " walsenders are in use, " + use + " needs one and verify another",
                   restart_setting("max_wal_senders", std::to_string(senders + 2)));
  }
}

// Statements that take away what a migration of this name left on a side whose other side is gone: a slot
// keeps WAL for ever, whatever becomes of the schema.
std::string removal_of(Side& side, const std::string& run) {
  const auto statements = side.connection.exec(R"(
    SELECT pg_catalog.format('SELECT pg_drop_replication_slot(%L)', slot_name) FROM pg_catalog.pg_replication_slots
     WHERE slot_name IN ('pgcutover_' || $1 || '_forward', 'pgcutover_' || $1 || '_reverse')
       AND database = pg_catalog.current_database()
    UNION ALL
    SELECT pg_catalog.format('DROP PUBLICATION %I', pubname) FROM pg_catalog.pg_publication
     WHERE pubname IN ('pgcutover_' || $1 || '_forward', 'pgcutover_' || $1 || '_reverse'))",
                                               {run});
  std::string text;
  for (int row = 0; row < statements.rows(); ++row) {
    text += statements.text(row, 0) + "; ";
  }
  return text + "DROP SCHEMA pgcutover CASCADE";
}

void check_leftover(Context& context, Side& side) {
  if (context.resuming)
    return;
  const std::string relations = side.connection.one_value(R"(
    SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'pgcutover')");
  if (relations == "0")
    return;
  std::string whose = "tables that aren't this tool's";
  std::string removal = "DROP SCHEMA pgcutover CASCADE";
  const RunTable table = run_table(side.connection);
  if (table == RunTable::unreadable) {
    whose = "a migration's state that another role wrote";
  } else if (table == RunTable::readable) {
    const postgres::Result run = side.connection.exec(
        "SELECT name, source_database, target_database, created_at::text FROM pgcutover.run LIMIT 1");
    if (run.rows() == 0)
      return;  // ended before it wrote its record: made again, idempotently
    whose = "the state of migration " + run.text(0, 0) + " (" + run.text(0, 1) + " to " + run.text(0, 2) +
            ", begun " + run.text(0, 3) + "), of which the other side knows nothing";
    removal = removal_of(side, run.text(0, 0));
  }
  context.blocks(
      side, "leftover", "pgcutover", "the schema pgcutover holds " + whose,
      "end that migration with `pgcutover finish` or `pgcutover cancel`; if its other side is gone, here: " +
          removal);
}

void check_encoding_and_collation(Context& context) {
  const catalog::ServerFacts &source = context.source.facts, &target = context.target.facts;
  if (source.encoding != target.encoding) {
    context.blocks(context.target, "encoding-differs", target.database,
                   "encoding is " + target.encoding + ", the source's is " + source.encoding +
                       ": some text might not be storable",
                   "CREATE DATABASE ... ENCODING '" + source.encoding + "' TEMPLATE template0");
  }
  const auto collation = [](const catalog::ServerFacts& f) {
    return f.locale_provider + " " + (f.locale.empty() ? f.collate + "/" + f.ctype : f.locale);
  };
  if (collation(source) != collation(target)) {
    context.warns(
        context.target, "collation-differs", target.database,
        "default collation is " + collation(target) + ", the source's is " + collation(source) +
            ": text sorts and compares differently",
        "create the target database with the source's locale, or make sure no application depends on order");
  }
}

void check_extensions(Context& context) {
  const postgres::Result rows = context.target.connection.exec(
      "SELECT name, coalesce(default_version, '') FROM pg_catalog.pg_available_extensions");
  std::map<std::string, std::string, std::less<>> available;
  for (int i = 0; i < rows.rows(); ++i)
    available.emplace(rows.text(i, 0), rows.text(i, 1));
  for (const auto& [name, version] : context.catalog.extensions) {
    const auto found = available.find(name);
    if (found == available.end()) {
      context.blocks(context.target, "extensions-missing", name,
                     "extension " + name + " " + version + " of the source isn't available here",
                     "install the package that holds it on the target's host, or DROP EXTENSION " +
                         postgres::quote_identifier(name) + " on the source where it isn't used");
    } else if (found->second != version && name != "plpgsql") {
      context.warns(context.target, "extension-version", name,
                    "extension " + name + " is " + version + " on the source, CREATE EXTENSION makes it " +
                        found->second + " here",
                    "read the extension's release notes; ALTER EXTENSION " +
                        postgres::quote_identifier(name) + " UPDATE on the source first, where it can be");
    }
  }
}

}  // namespace cutover::check
