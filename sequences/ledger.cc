#include "sequences/ledger.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <tuple>

#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "sequences/arithmetic.h"

namespace sequences {
namespace {

constexpr double kHalf = 0.5;
constexpr double kNearly = 0.8;
constexpr std::size_t kBatch = 250;

constexpr const char* kColumns =
    "epoch, sequence_schema, sequence_name, side, increment, handed_out, last_value, is_called, "
    "reserved_until, "
    "server";

bool has_ledger(postgres::Connection& connection) {
  return connection.one_row("SELECT pg_catalog.to_regclass('pgcutover.sequence_ledger') IS NOT NULL")
      .boolean(0, 0);
}

bool holds(const Range& range, std::int64_t value) {
  return range.is_called && further(value, range.start, range.increment) &&
         (!range.until || !further(value, *range.until, range.increment));
}

bool same(const Range& range, const std::string& schema, const std::string& name) {
  return range.schema == schema && range.name == name;
}

void insert_rows(postgres::Connection& connection, const std::vector<Range>& ranges,
                 const postgres::FencingToken& token) {
  for (std::size_t begin = 0; begin < ranges.size(); begin += kBatch) {
    postgres::Transaction transaction(connection);
    token.assert_current(connection);
    std::string values;
    for (std::size_t i = begin; i < std::min(begin + kBatch, ranges.size()); ++i) {
      const auto& range = ranges[i];
      values += (values.empty() ? "(" : ", (") + std::to_string(range.epoch) + ", " +
                postgres::quote_literal(range.schema) + ", " + postgres::quote_literal(range.name) + ", " +
                (range.opens ? "'opens'" : "'closes'") + ", " + std::to_string(range.increment) + ", " +
                std::to_string(range.handed_out) + ", " + std::to_string(range.start) + ", " +
                (range.is_called ? "true" : "false") + ", " +
                (range.until ? std::to_string(*range.until) : "NULL::bigint") + ", " +
                postgres::quote_literal(range.server) + ", pg_catalog.to_timestamp(" +
                std::to_string(range.set_at_us) + " / 1000000.0))";
    }
    connection.exec(
        "INSERT INTO pgcutover.sequence_ledger (" + std::string(kColumns) + ", set_at) VALUES " + values +
        " ON CONFLICT (sequence_schema, sequence_name, epoch, side, last_value, is_called) DO UPDATE SET "
        "reserved_until = excluded.reserved_until, server = excluded.server, set_at = excluded.set_at "
        "WHERE pgcutover.sequence_ledger.server IS NULL OR pgcutover.sequence_ledger.set_at < "
        "excluded.set_at");
    transaction.commit_or_throw();
  }
}

std::map<Name, const Range*> newest_ranges(const std::vector<Range>& ledger, const std::string& server) {
  std::map<Name, const Range*> ranges;
  for (const auto& range : ledger) {
    if (range.server == server) {
      ranges[{range.schema, range.name}] = &range;
    }
  }
  return ranges;
}

// Its value lies before the range it was given, in the same direction.
bool is_behind(const Sequence& sequence, const Range& range) {
  return range.is_called && !sequence.cycle && (range.increment > 0) == (sequence.increment > 0) &&
         (!sequence.is_called || further(range.start, sequence.last_value, range.increment));
}

// The one value that plan_closed() is about.
std::optional<Bump> plan_one_closed(const Sequence& open, const Sequence& closed, const Range* range,
                                    const Demand& demand, const HeadroomRule& rule) {
  const bool usable = range != nullptr && range->is_called && range->until.has_value();
  const auto limit = limit_of(open, closed);
  const auto left = room(open.last_value, limit, open.increment);
  const auto step = std::min(needed_increments(open, demand, left, rule), left / 2);
  std::int64_t wanted = advance(open.last_value, step, open.increment);
  if (usable) {
    const auto state = usage(*range, open, demand.rate_of(open), true).state;
    // A range that was set back to its start is an alarm, not a reason for a new one.
    const bool keeps = state == RangeState::fine || state == RangeState::half_used ||
                       !further(open.last_value, range->start, open.increment);
    wanted = keeps ? *range->until : furthest(wanted, *range->until, open.increment);
  }
  const auto value = closed.is_called ? furthest(closed.last_value, wanted, open.increment) : wanted;
  const bool moves = !closed.is_called || value != closed.last_value;
  const bool covered = usable && *range->until == value;
  if (!moves && covered) {
    return std::nullopt;
  }
  if (usable && !moves && !further(value, *range->until, open.increment)) {
    return std::nullopt;  // nothing left to give
  }
  Bump bump;
  bump.schema = open.schema;
  bump.name = open.name;
  bump.increment = open.increment;
  bump.from = open.last_value;
  bump.source_value = value;
  bump.clipped = step < needed_increments(open, demand, left, rule);
  // The ids between two ranges of one side belong to it as well; where there was none, all it ever gave out
  // do.
  std::int64_t before_first = open.start;
  if (__builtin_sub_overflow(open.start, open.increment, &before_first)) {
    before_first = open.start;
  }
  bump.target_value = usable ? range->start : before_first;
  return bump;
}

}  // namespace

std::vector<Range> read_ledger(postgres::Connection& connection) {
  std::vector<Range> ledger;
  if (!has_ledger(connection)) {
    return ledger;
  }
  const auto rows =
      connection.exec("SELECT " + std::string(kColumns) +
                      ", (EXTRACT(epoch FROM set_at) * 1000000)::bigint FROM pgcutover.sequence_ledger "
                      "ORDER BY set_at, epoch, side DESC");
  for (int row = 0; row < rows.rows(); ++row) {
    Range range;
    range.epoch = rows.integer(row, 0);
    range.schema = rows.text(row, 1);
    range.name = rows.text(row, 2);
    range.opens = rows.view(row, 3) == "opens";
    range.increment = rows.integer(row, 4);
    range.handed_out = rows.integer(row, 5);
    range.start = rows.integer(row, 6);
    range.is_called = rows.boolean(row, 7);
    if (!rows.is_null(row, 8)) {
      range.until = rows.integer(row, 8);
    }
    range.server = rows.text_or(row, 9, connection.server());
    range.set_at_us = rows.integer(row, 10);
    ledger.push_back(std::move(range));
  }
  return ledger;
}

void share_ledger(postgres::Connection& one, const postgres::FencingToken& token_of_one,
                  postgres::Connection& other, const postgres::FencingToken& token_of_other) {
  const auto here = read_ledger(one);
  const auto there = read_ledger(other);
  const auto lacking = [](const std::vector<Range>& ledger, const std::string& server,
                          const std::vector<Range>& others) {
    const auto key = [](const Range& range) {
      return std::tuple(range.schema, range.name, range.epoch, range.opens, range.start, range.is_called,
                        range.until, range.server, range.set_at_us);
    };
    std::set<decltype(key(Range{}))> has;
    std::transform(others.begin(), others.end(), std::inserter(has, has.end()), key);
    std::vector<Range> rows;
    std::copy_if(ledger.begin(), ledger.end(), std::back_inserter(rows),
                 [&](const Range& range) { return range.server == server && !has.contains(key(range)); });
    return rows;
  };
  insert_rows(other, lacking(here, one.server(), there), token_of_other);
  insert_rows(one, lacking(there, other.server(), here), token_of_one);
}

const Range* current_range(const std::vector<Range>& ledger, const std::string& schema,
                           const std::string& name, const std::string& server) {
  const auto found = std::find_if(ledger.rbegin(), ledger.rend(), [&](const Range& range) {
    return same(range, schema, name) && range.server == server;
  });
  return found == ledger.rend() ? nullptr : &*found;
}

std::string attribute(const std::vector<Range>& ledger, const std::string& schema, const std::string& name,
                      std::int64_t value) {
  const Range* first = nullptr;
  for (auto at = ledger.rbegin(); at != ledger.rend(); ++at) {
    if (!same(*at, schema, name) || !at->is_called) {
      continue;
    }
    if (at->opens) {
      first = &*at;  // in the end: the first hand-over
    }
    const bool ends = at->until || current_range(ledger, schema, name, at->server) == &*at;
    if (ends && holds(*at, value)) {
      return at->server;
    }
  }
  if (first != nullptr && !further(value, first->handed_out, first->increment)) {
    return first->server == "target" ? "source" : "target";  // from before the first hand-over
  }
  return {};
}

bool overlap(const Range& one, const Range& other) {
  if (!one.is_called || !other.is_called) {
    return false;
  }
  if ((one.increment > 0) != (other.increment > 0)) {
    return true;  // made for different sequences: they say nothing about each other
  }
  const auto reaches = [](const Range& range, const Range& into) {
    return !range.until || further(*range.until, into.start, range.increment);
  };
  return reaches(one, other) && reaches(other, one);
}

std::string_view to_string(RangeState state) {
  switch (state) {
    case RangeState::fine:
      return "fine";
    case RangeState::half_used:
      return "half-used";
    case RangeState::nearly_used:
      return "nearly-used";
    case RangeState::used_up:
      return "used-up";
    case RangeState::outside:
      return "outside";
  }
  return "unknown";
}

Usage usage(const Range& range, const Sequence& now, double rate, bool open) {
  Usage usage;
  usage.range = range;
  usage.at = now.last_value;
  const bool moved = now.last_value != range.start;
  // A sequence that was turned round leaves its range at the wrong end, into the other side's.
  const bool turned = (range.increment > 0) != (now.increment > 0);
  const bool behind =
      turned || further(range.start, now.last_value, range.increment) || (range.is_called && !now.is_called);
  if (!open) {
    usage.state = moved || behind ? RangeState::outside : RangeState::fine;
    return usage;
  }
  const auto limit = limit_of(now, now);
  const auto until = range.until ? *range.until : limit;
  const auto size = room(range.start, until, range.increment);
  const auto used = room(range.start, now.last_value, range.increment);
  if (behind || further(now.last_value, until, range.increment)) {
    usage.used_share = behind ? 0 : 1;
    const bool ran_on = !behind && room(until, now.last_value, range.increment) <= size;
    usage.state = ran_on ? RangeState::used_up : RangeState::outside;
    return usage;
  }
  usage.used_share = size == 0 ? 1 : static_cast<double>(used) / static_cast<double>(size);
  if (rate > 0) {
    usage.seconds_left = static_cast<double>(size - used) / rate;
  }
  usage.state = usage.used_share >= kNearly ? RangeState::nearly_used
                : usage.used_share >= kHalf ? RangeState::half_used
                                            : RangeState::fine;
  return usage;
}

void count_abandoned(std::vector<Sequence>& sequences, const std::vector<Range>& ledger,
                     const std::string& server) {
  const auto ranges = newest_ranges(ledger, server);
  for (auto& sequence : sequences) {
    const auto range = ranges.find({sequence.schema, sequence.name});
    if (range != ranges.end() && is_behind(sequence, *range->second)) {
      const auto end = range->second->until.value_or(range->second->start);
      sequence.highest = sequence.highest ? furthest(*sequence.highest, end, sequence.increment) : end;
    }
  }
}

std::vector<Bump> lost_values(const std::vector<Sequence>& sequences, const std::vector<Range>& ledger,
                              const std::string& server) {
  const auto ranges = newest_ranges(ledger, server);
  std::vector<Bump> bumps;
  for (const auto& sequence : sequences) {
    const auto range = ranges.find({sequence.schema, sequence.name});
    if (range == ranges.end() || !range->second->opens || !is_behind(sequence, *range->second)) {
      continue;
    }
    Bump bump;
    bump.schema = sequence.schema;
    bump.name = sequence.name;
    bump.increment = sequence.increment;
    bump.from = range->second->handed_out;
    bump.target_value = range->second->start;
    bump.source_value = range->second->until.value_or(range->second->start);
    bumps.push_back(std::move(bump));
  }
  return bumps;
}

std::vector<Bump> plan_closed(const std::vector<Sequence>& open, const std::vector<Sequence>& closed,
                              const std::vector<Range>& ledger, const std::string& open_server,
                              const Demand& demand, const HeadroomRule& rule) {
  std::map<Name, const Sequence*> there;
  for (const auto& sequence : closed) {
    there.emplace(Name{sequence.schema, sequence.name}, &sequence);
  }
  const auto ranges = newest_ranges(ledger, open_server);
  std::vector<Bump> bumps;
  for (const auto& sequence : open) {
    const Name name{sequence.schema, sequence.name};
    const auto other = there.find(name);
    if (other == there.end() || sequence.cycle || !sequence.is_called ||
        other->second->increment != sequence.increment || other->second->cycle || !other->second->settable) {
      continue;
    }
    const auto range = ranges.find(name);
    if (auto bump = plan_one_closed(sequence, *other->second, range == ranges.end() ? nullptr : range->second,
                                    demand, rule)) {
      bumps.push_back(std::move(*bump));
    }
  }
  return bumps;
}

void extend_ranges(postgres::Connection& open, const std::vector<Bump>& bumps,
                   const postgres::FencingToken& token) {
  const auto now =
      open.one_row("SELECT (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint");
  std::vector<Range> ranges;
  for (const auto& bump : bumps) {
    Range range;
    range.schema = bump.schema;
    range.name = bump.name;
    range.server = open.server();
    range.epoch = token.epoch();
    range.increment = bump.increment;
    range.handed_out = bump.target_value;
    range.start = bump.target_value;
    range.until = bump.source_value;
    range.set_at_us = now.integer(0, 0);
    ranges.push_back(std::move(range));
  }
  insert_rows(open, ranges, token);
}

}  // namespace sequences
