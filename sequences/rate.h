// How fast sequences are used: two looks at them give a rate, and the peaks of the last 24 hours are kept on
// the server, so that a headroom can be computed from what really happened.
//
// What CACHE takes in one go counts as used, since no other session will get it. Threads: none of its own.
// Errors: base::Error of the server.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "replication/base/deadline.h"
#include "sequences/headroom.h"

namespace sequences {

// DDL (idempotent) of pgcutover.sequence_sample: one row for each sequence that moved and each ten minutes,
// with the peak rate in them; at most 144 rows a sequence.
std::string sample_schema_sql();

// Compares looks at one server. Pure but for the time it is given.
class RateObserver {
 public:
  // Increments a second since the look before, of the sequences that moved forwards; empty at the first look.
  // With `reads` (count_reads()) a jump that nobody's nextval made, a setval, doesn't count as use.
  std::map<Name, double> look(const std::vector<Sequence>& sequences, base::Clock::time_point at,
                              const std::map<Name, std::int64_t>& reads = {});

 private:
  struct Seen {
    std::int64_t value = 0;
    bool is_called = false;
    std::optional<std::int64_t> reads;
    std::uint64_t unexplained = 0;  // increments for which no nextval was counted yet
  };
  static std::uint64_t explained(std::uint64_t moved, const Sequence& sequence, const Seen& before,
                                 Seen& now);

  std::map<Name, Seen> seen_;
  base::Clock::time_point at_{};
  bool looked_ = false;
};

// How often each sequence's block was asked for: by every nextval that isn't answered from a session's cache,
// by every setval and look. Reported by the server when a transaction ends, up to ten seconds late. Empty
// where it doesn't count.
std::map<Name, std::int64_t> count_reads(postgres::Connection& connection);
// Sessions of others in this database now.
std::int64_t count_sessions(postgres::Connection& connection);
// Adds to the peaks of the current ten minutes and forgets what is older than 24 hours.
void store_rates(postgres::Connection& connection, const std::map<Name, double>& rates, std::int64_t sessions,
                 const postgres::FencingToken& token);
// The peaks stored on this server and the sessions there now; only the latter where there is no table.
Demand stored_demand(postgres::Connection& connection);
// Both sides' demand: the greater of each number.
Demand merged(Demand one, const Demand& other);

}  // namespace sequences
