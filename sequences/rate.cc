#include "sequences/rate.h"

#include <algorithm>
#include <limits>

#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "sequences/arithmetic.h"

namespace sequences {
namespace {

constexpr std::size_t kBatch = 500;
constexpr std::uint64_t kOwnReads = 10;  // of one look, generously
constexpr std::uint64_t kMostUnexplained = std::uint64_t{1} << 40;

std::uint64_t used_between(const Sequence& now, std::int64_t value, bool is_called) {
  if (!now.is_called || now.cycle) {
    return 0;
  }
  return room(value, now.last_value, now.increment) + (is_called ? 0 : 1);
}

}  // namespace

std::string sample_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.sequence_sample (
  sequence_schema text NOT NULL,
  sequence_name text NOT NULL,
  since timestamptz NOT NULL,
  rate double precision NOT NULL,
  sessions bigint NOT NULL,
  PRIMARY KEY (sequence_schema, sequence_name, since)
);
COMMENT ON TABLE pgcutover.sequence_sample IS 'peak increments a second in the ten minutes after "since"';
)";
}

// At most CACHE increments for each read are use. The rest waits for reads that are reported late (a long
// transaction's), those of our own looks aside.
std::uint64_t RateObserver::explained(std::uint64_t moved, const Sequence& sequence, const Seen& before,
                                      Seen& now) {
  if (!before.reads || !now.reads || *now.reads < *before.reads) {
    return moved;  // not counted, or counted anew
  }
  const auto reads = static_cast<std::uint64_t>(*now.reads - *before.reads);
  const auto most = [&](std::uint64_t of) {
    std::uint64_t all = 0;
    const bool over = __builtin_mul_overflow(of, static_cast<std::uint64_t>(sequence.cache), &all);
    return over ? std::numeric_limits<std::uint64_t>::max() : all;
  };
  const auto late = most(reads > kOwnReads ? reads - kOwnReads : 0);
  // Where there was a jump, a few reads are ours and those of whoever made it.
  const auto used = moved <= most(reads) ? moved : late;
  const auto made_up = std::min(before.unexplained, late > used ? late - used : 0);
  now.unexplained = before.unexplained - made_up + std::min(moved - used, kMostUnexplained);
  return used + made_up;
}

std::map<Name, double> RateObserver::look(const std::vector<Sequence>& sequences, base::Clock::time_point at,
                                          const std::map<Name, std::int64_t>& reads) {
  std::map<Name, double> rates;
  std::map<Name, Seen> seen;
  const double seconds = std::chrono::duration<double>(at - at_).count();
  for (const auto& sequence : sequences) {
    const Name name{sequence.schema, sequence.name};
    auto& here =
        seen.emplace(name, Seen{sequence.last_value, sequence.is_called, std::nullopt, 0}).first->second;
    if (const auto counted = reads.find(name); counted != reads.end()) {
      here.reads = counted->second;
    }
    const auto before = seen_.find(name);
    if (!looked_ || before == seen_.end() || !(seconds > 0)) {
      continue;
    }
    const auto used = explained(used_between(sequence, before->second.value, before->second.is_called),
                                sequence, before->second, here);
    if (used > 0) {
      rates.emplace(name, static_cast<double>(used) / seconds);
    }
  }
  seen_ = std::move(seen);  // what was dropped meanwhile is forgotten
  at_ = at;
  looked_ = true;
  return rates;
}

std::map<Name, std::int64_t> count_reads(postgres::Connection& connection) {
  const auto rows = connection.exec(
      "SELECT n.nspname, c.relname, pg_catalog.pg_stat_get_blocks_fetched(c.oid) FROM pg_catalog.pg_class c "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND "
      "pg_catalog.current_setting('track_counts')::boolean");
  std::map<Name, std::int64_t> reads;
  for (int row = 0; row < rows.rows(); ++row) {
    if (!rows.is_null(row, 2)) {
      reads.emplace(Name{rows.text(row, 0), rows.text(row, 1)}, rows.integer(row, 2));
    }
  }
  return reads;
}

std::int64_t count_sessions(postgres::Connection& connection) {
  return connection
      .one_row(
          "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() "
          "AND backend_type = 'client backend' AND application_name NOT LIKE 'pgcutover%'")
      .integer(0, 0);
}

void store_rates(postgres::Connection& connection, const std::map<Name, double>& rates, std::int64_t sessions,
                 const postgres::FencingToken& token) {
  postgres::Transaction transaction(connection);
  auto next = rates.begin();
  while (next != rates.end()) {
    std::string values;
    for (std::size_t i = 0; i < kBatch && next != rates.end(); ++i, ++next) {
      values += (values.empty() ? "(" : ", (") + postgres::quote_literal(next->first.first) + ", " +
                postgres::quote_literal(next->first.second) + ", " + std::to_string(next->second) +
                "::double precision)";
    }
    connection.exec(
        "INSERT INTO pgcutover.sequence_sample AS s (sequence_schema, sequence_name, since, rate, sessions) "
        "SELECT v.a, v.b, pg_catalog.to_timestamp(pg_catalog.floor(EXTRACT(epoch FROM "
        "pg_catalog.clock_timestamp()) / 600) * 600), v.r, " +
        std::to_string(sessions) + " FROM (VALUES " + values +
        ") v(a, b, r) ON CONFLICT (sequence_schema, sequence_name, since) DO UPDATE SET rate = "
        "GREATEST(s.rate, excluded.rate), sessions = GREATEST(s.sessions, excluded.sessions)");
  }
  connection.exec(
      "DELETE FROM pgcutover.sequence_sample WHERE since < pg_catalog.clock_timestamp() - INTERVAL '24 "
      "hours'");
  token.assert_current(connection);
  transaction.commit_or_throw();
}

Demand stored_demand(postgres::Connection& connection) {
  Demand demand;
  demand.sessions = count_sessions(connection);
  if (!connection.one_row("SELECT pg_catalog.to_regclass('pgcutover.sequence_sample') IS NOT NULL")
           .boolean(0, 0)) {
    return demand;
  }
  const auto rows = connection.exec(
      "SELECT sequence_schema, sequence_name, pg_catalog.max(rate), pg_catalog.max(sessions) FROM "
      "pgcutover.sequence_sample GROUP BY 1, 2");
  for (int row = 0; row < rows.rows(); ++row) {
    demand.rates.emplace(Name{rows.text(row, 0), rows.text(row, 1)}, rows.number(row, 2));
    demand.sessions = std::max(demand.sessions, rows.integer(row, 3));
  }
  return demand;
}

Demand merged(Demand one, const Demand& other) {
  for (const auto& [name, rate] : other.rates) {
    auto& here = one.rates[name];
    here = std::max(here, rate);
  }
  one.sessions = std::max(one.sessions, other.sessions);
  return one;
}

}  // namespace sequences
