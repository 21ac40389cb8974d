// How fast sequences are used: two looks at them give a rate, and the peaks of the last 24 hours are kept on
// the server, so that a headroom can be computed from what really happened.
//
// What CACHE takes in one go counts as used, since no other session will get it. Threads: none of its own.
// Errors: base::Error of the server.
#pragma once

#include <chrono>
#include <map>
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
  std::map<Name, double> look(const std::vector<Sequence>& sequences, base::Clock::time_point at);

 private:
  struct Seen {
    std::int64_t value = 0;
    bool is_called = false;
  };
  std::map<Name, Seen> seen_;
  base::Clock::time_point at_{};
  bool looked_ = false;
};

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
