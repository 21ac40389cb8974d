// Is there room: connections, locks, disk for the WAL that a slot keeps; and is there a pg_dump that fits?

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "cutover/check/context.h"
#include "replication/base/error.h"
#include "replication/base/subprocess.h"
#include "replication/postgres/quote.h"

namespace cutover::check {
namespace {

constexpr int kOwnSessions = 7;  // control, lock, observer, stream, apply, guardian, slots
constexpr double kRunwayHoursMin = 4;
constexpr base::milliseconds kHintSample{200};

std::string hours_text(double hours) {
  if (hours < 1)
    return std::to_string(static_cast<std::int64_t>(hours * 60)) + " minutes";
  if (hours > 24.0 * 365)
    return "more than a year";
  return std::to_string(static_cast<std::int64_t>(hours)) + " hours";
}

// Bytes of WAL a second on average since the statistics were reset; 0 where the server doesn't count (before
// 14).
double average_wal_rate(Side& side) {
  if (side.facts.version < 140000)
    return 0;
  return side.connection
      .one_row(R"(
    SELECT coalesce(wal_bytes / nullif(extract(epoch FROM pg_catalog.clock_timestamp() - stats_reset), 0), 0)::float8
      FROM pg_catalog.pg_stat_wal)")
      .number(0, 0);
}

}  // namespace

void check_connections(Context& context, Side& side) {
  if (context.resuming)
    return;  // ours are among those in use
  const postgres::Result row = side.connection.one_row(R"(
    SELECT pg_catalog.current_setting('max_connections')::int,
           pg_catalog.current_setting('superuser_reserved_connections')::int
             + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int,
           (SELECT count(*) FROM pg_catalog.pg_stat_activity
             WHERE coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL)::int,
           (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = current_user),
           (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))");
  const std::int64_t needed = context.input.jobs + kOwnSessions;
  const std::int64_t free =
      row.integer(0, 0) - (side.facts.superuser ? 0 : row.integer(0, 1)) - row.integer(0, 2);
  const std::string need =
      "; " + std::to_string(needed) + " are needed with " + std::to_string(context.input.jobs) + " copy jobs";
  if (free < needed) {
    context.blocks(side, "max-connections", "max_connections",
                   "max_connections is " + row.text(0, 0) + ", " +
                       std::to_string(std::max<std::int64_t>(free, 0)) + " are free for us" + need,
                   "use fewer --jobs, let a pool go, or ALTER SYSTEM SET max_connections = " +
                       std::to_string(row.integer(0, 0) + needed) + ";  then restart the server");
  }
  if (side.facts.superuser)
    return;  // no limit holds for superusers
  if (const std::int64_t limit = row.integer(0, 3); limit >= 0 && limit < needed) {
    context.blocks(side, "max-connections", side.facts.user,
                   "role " + side.facts.user + " has CONNECTION LIMIT " + std::to_string(limit) + need,
                   "ALTER ROLE " + postgres::quote_identifier(side.facts.user) + " CONNECTION LIMIT -1;");
  }
  if (const std::int64_t limit = row.integer(0, 4); limit >= 0 && limit < needed) {
    context.blocks(
        side, "max-connections", side.facts.database,
        "database " + side.facts.database + " has CONNECTION LIMIT " + std::to_string(limit) + need,
        "ALTER DATABASE " + postgres::quote_identifier(side.facts.database) + " CONNECTION LIMIT -1;");
  }
}

void check_locks(Context& context) {
  // The fence locks every table at once. The formula is what PostgreSQL promises; real room is about twice
  // that.
  const auto tables = static_cast<std::int64_t>(context.catalog.tables.size());
  for (Side* side : {&context.source, &context.target}) {
    const postgres::Result row = side->connection.one_row(R"(
      SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint,
             pg_catalog.current_setting('max_connections')::bigint
               + pg_catalog.current_setting('max_prepared_transactions')::bigint)");
    const std::int64_t room = row.integer(0, 0) * row.integer(0, 1);
    if (tables <= room)
      continue;
    context.blocks(*side, "max-locks", "max_locks_per_transaction",
                   std::to_string(tables) + " tables are locked at the switch, the lock table has room for " +
                       std::to_string(room),
                   "ALTER SYSTEM SET max_locks_per_transaction = " +
                       std::to_string(64 + tables / row.integer(0, 1) + 1) + ";  then restart the server");
  }
}

void check_pg_dump(Context& context) {
  const int needed = context.source.facts.version / 10000;
  const std::string program =
      context.input.pg_bindir.empty() ? "pg_dump" : context.input.pg_bindir + "/pg_dump";
  const std::string remedy = "install postgresql-client-" + std::to_string(needed) +
                             " (or later) on this host and name its directory with --pg-bindir";
  try {
    const base::CommandResult result =
        base::run_command({.argv = {program, "--version"}, .env = {}, .stdin_text = {}},
                          base::Deadline::in(base::milliseconds(10'000)), context.source.connection.stop());
    // "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    const std::size_t at = result.output.find(") ");
    const int major = at == std::string::npos ? 0 : std::atoi(result.output.c_str() + at + 2);
    if (result.exit_code == 0 && major >= needed)
      return;
    context.blocks(
        context.source, "pg-dump", program,
        major == 0 ? program + " didn't say its version (exit code " + std::to_string(result.exit_code) + ")"
                   : program + " is of version " + std::to_string(major) +
                         " and can't dump a server of version " + std::to_string(needed),
        remedy);
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    context.blocks(context.source, "pg-dump", program, error.message(), remedy);
  }
}

WalSample sample_wal(Side& source) {
  if (source.facts.in_recovery)
    return {};
  return {base::Clock::now(), catalog::insert_lsn(source.connection)};
}

void check_runway(Context& context, const WalSample& before) {
  Side& source = context.source;
  if (source.facts.in_recovery)
    return;
  const std::int64_t free = context.input.source_free_bytes;
  const double keep_mb = source.facts.version < 130000
                             ? -1
                             : source.connection
                                   .one_row(
                                       "SELECT setting::float8 FROM pg_catalog.pg_settings "
                                       "WHERE name = 'max_slot_wal_keep_size'")
                                   .number(0, 0);
  // A rate needs two looks some time apart: this wait is the measurement. Where nothing is held against it,
  // the rate is a hint, and the other checks have taken most of that time.
  const bool decides = free >= 0 || keep_mb >= 0;
  const auto span = decides ? context.input.wal_sample : std::min(context.input.wal_sample, kHintSample);
  if (source.connection.stop().wait(base::Deadline::at(before.at + span))) {
    source.connection.stop().check();
  }
  const WalSample now = sample_wal(source);
  const double seconds = std::chrono::duration<double>(now.at - before.at).count();
  const double rate =
      std::max(average_wal_rate(source), static_cast<double>(now.lsn.bytes_since(before.lsn)) / seconds);
  const auto hours = [rate](double bytes) { return rate > 0 ? bytes / rate / 3600 : HUGE_VAL; };
  const std::string at_rate = " at the observed " + bytes_text(rate * 3600) + " of WAL an hour";
  if (free >= 0) {
    const double left = hours(static_cast<double>(free));
    if (left < kRunwayHoursMin) {
      context.blocks(
          source, "slot-runway", "",
          "free space of " + bytes_text(static_cast<double>(free)) + " lasts " + hours_text(left) + at_rate +
              ": a slot whose consumer stops would fill the disk",
          "make room on the WAL volume, or ALTER SYSTEM SET max_slot_wal_keep_size = '...';  then the slot "
          "is lost before the disk is full");
    }
  } else if (keep_mb < 0) {
    context.warns(
        source, "slot-runway", "",
        "a slot keeps WAL without limit (" + bytes_text(rate * 3600) +
            " an hour as observed) and the free space isn't known",
        "give the WAL volume's free space with --source-free-space BYTES (df -B1 --output=avail on the "
        "source's data directory)");
  }
  if (keep_mb >= 0 && hours(keep_mb * 1024 * 1024) < kRunwayHoursMin) {
    context.warns(
        source, "max-slot-wal-keep-size", "max_slot_wal_keep_size",
        "max_slot_wal_keep_size of " + bytes_text(keep_mb * 1024 * 1024) + " lasts " +
            hours_text(hours(keep_mb * 1024 * 1024)) + at_rate + ": a slot that falls behind is lost then",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '...';  SELECT pg_reload_conf();  with room for the whole "
        "copy");
  }
}

void check_failover_slots(Context& context) {
  constexpr int kMajor = 17;
  if (!context.input.failover_slots)
    return;
  Side& source = context.source;
  if (source.facts.version / 10000 < kMajor) {
    context.blocks(source, "failover-slots", "",
                   "the plan asks for failover slots, which PostgreSQL has from 17 on",
                   "leave out slot: {failover}: after a failover of this server the copy is needed again");
  } else if (source.connection.one_value("SELECT pg_catalog.current_setting('synchronized_standby_slots')") ==
             "") {
    context.warns(
        source, "failover-slots", "synchronized_standby_slots",
        "the stream may run ahead of the standby: a failover then ends it, since the target has what "
        "the standby never had",
        "ALTER SYSTEM SET synchronized_standby_slots = 'SLOT_OF_THE_STANDBY';  SELECT "
        "pg_reload_conf();");
  }
  if (context.target.facts.version / 10000 < kMajor) {
    context.warns(context.target, "failover-slots", "",
                  "failover slots exist from PostgreSQL 17 on: the way back won't survive a failover here",
                  "nothing: a failover of the target ends the way back");
  }
}

}  // namespace cutover::check
