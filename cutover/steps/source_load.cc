#include "cutover/steps/source_load.h"

#include <algorithm>

#include "cutover/state/status.h"
#include "replication/base/error.h"

namespace cutover::steps {
namespace {

using base::milliseconds;

constexpr milliseconds kSeenMin{60'000};
constexpr std::size_t kSeenMax = 20'000;

// Work of others: what this tool does isn't a reason for it to rest.
std::int64_t active_sessions(postgres::Connection& source) {
  return source
      .one_row(
          "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND backend_type = "
          "'client backend' AND pid <> pg_catalog.pg_backend_pid() AND application_name NOT LIKE "
          "'pgcutover%'")
      .integer(0, 0);
}

}  // namespace

void require_sight(postgres::Connection& source) {
  if (!source.one_row("SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')").boolean(0, 0)) {
    throw base::StateError(
        "copy: {max-active-sessions, max-replica-lag, max-xmin-age} can't be kept: this role doesn't see "
        "what other sessions do",
        "on the source: GRANT pg_read_all_stats TO the tool's role, or leave the limits out")
        .on("source");
  }
}

std::string SourceLoad::too_busy(postgres::Connection& source, const CopyLimits& limits) {
  if (limits.active_sessions > 0 && active_sessions(source) > limits.active_sessions) {
    return "held back: more than " + std::to_string(limits.active_sessions) +
           " sessions of others are active on the source";
  }
  return limits.replica_lag.count() > 0 ? lagging(source, limits.replica_lag) : std::string();
}

milliseconds SourceLoad::behind(base::Lsn replayed, base::Clock::time_point now) const {
  const auto first =
      std::find_if(seen_.begin(), seen_.end(), [&](const Seen& one) { return one.lsn > replayed; });
  return first == seen_.end() ? milliseconds(0) : std::chrono::duration_cast<milliseconds>(now - first->at);
}

std::string SourceLoad::lagging(postgres::Connection& source, milliseconds limit) {
  const auto rows = source.exec(R"(
    SELECT pg_catalog.pg_current_wal_lsn()::text, r.application_name, r.replay_lsn::text,
           coalesce(extract(epoch FROM r.replay_lag) * 1000, 0)::bigint,
           pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn)::bigint
      FROM (SELECT) one LEFT JOIN pg_catalog.pg_stat_replication r
        ON r.replay_lsn IS NOT NULL AND r.application_name NOT LIKE 'pgcutover%'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s
                        WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
     ORDER BY r.replay_lsn)");
  const auto now = base::Clock::now();
  seen_.push_back({now, base::Lsn::parse(rows.text(0, 0))});
  const auto kept = std::max(kSeenMin, limit * 2);
  while (seen_.size() > kSeenMax || now - seen_.front().at > kept) {
    seen_.pop_front();
  }
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.is_null(row, 2)) {
      continue;
    }
    const auto lag =
        std::max(milliseconds(rows.integer(row, 3)), behind(base::Lsn::parse(rows.text(row, 2)), now));
    if (lag > limit) {
      return "held back: standby " + rows.text(row, 1) + " is " +
             state::seconds_text(std::chrono::duration<double>(lag).count()) + " (" +
             state::bytes_text(rows.integer(row, 4)) + ") behind";
    }
  }
  return "";
}

std::string SourceLoad::too_old(postgres::Connection& source, const CopyLimits& limits) {
  if (limits.xmin_age <= 0) {
    return "";
  }
  const auto rows = source.exec(R"(
    SELECT age, who FROM (
      SELECT pg_catalog.age(backend_xmin) AS age,
             'pid ' || pid || ' ' || coalesce(usename::text, '') || ' app="' || application_name || '"' AS who
        FROM pg_catalog.pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
      UNION ALL
      SELECT pg_catalog.age(xmin), 'slot ' || slot_name FROM pg_catalog.pg_replication_slots WHERE xmin IS NOT NULL
      UNION ALL
      SELECT pg_catalog.age(transaction), 'prepared transaction ' || pg_catalog.quote_literal(gid)
        FROM pg_catalog.pg_prepared_xacts) oldest
    ORDER BY age DESC LIMIT 1)");
  if (rows.rows() == 0 || rows.integer(0, 0) <= limits.xmin_age) {
    return "";
  }
  return "held back: no further table is begun while a snapshot on the source is " + rows.text(0, 0) +
         " transactions old (" + rows.text(0, 1) + ")";
}

}  // namespace cutover::steps
