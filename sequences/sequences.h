// Sequences: what both sides hand out, read from the sequence relations themselves, and headroom set on each side.
//
// setval is not transactional in PostgreSQL: every function here is idempotent and never moves a sequence backwards
// (in the direction of its increment). CYCLE sequences get no headroom. Values are clipped at the limits of the
// sequence and of the columns it feeds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replication/base/finding.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/fencing_token.h"

namespace sequences {

namespace base = replication::base;
namespace postgres = replication::postgres;

// DDL (idempotent) of pgcutover.sequence_ledger: the id ranges each side may hand out.
std::string ledger_schema_sql();

struct Sequence {
  std::string schema, name;
  std::int64_t last_value = 0;
  bool is_called = false;
  std::int64_t increment = 1, minimum = 1, maximum = 0, start = 1, cache = 1;
  bool cycle = false;
  std::vector<std::string> used_by;    // "public.orders.id": owned, identity or by default expression
  std::int64_t column_limit = 0;       // smallest limit of the columns it feeds, in its direction; 0 = none known

  std::string qualified() const;
  std::string display() const;
};

// Every sequence of the database outside system schemas and our own, whoever owns it.
std::vector<Sequence> inventory(postgres::Connection& connection);

// What to set. Pure.
struct Bump {
  std::string schema, name;
  std::int64_t from = 0;               // last value handed out (or reserved) on the side that was the primary
  std::int64_t target_value = 0;       // last_value to set on the side that opens, is_called = true
  std::int64_t source_value = 0;       // last_value to set on the side that closes, further ahead: for the way back
  bool is_called = true;               // false: the sequence was never used, it is copied as it is
  bool clipped = false;                // the limit left less room than asked for
};
struct BumpPlan {
  std::vector<Bump> bumps;
  base::Findings findings;             // sequences without room, or missing on the other side
};
// `opening` and `closing` are the inventories of the two sides; `headroom` is a number of increments.
BumpPlan plan_bumps(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening, std::int64_t headroom);

enum class Side { opens, closes };
// Sets the values of one side, never backwards, reads them back (Error where one isn't as planned), writes the ledger.
void apply_bumps(postgres::Connection& connection, const std::vector<Bump>& bumps, Side side,
                 const postgres::FencingToken& token);

}  // namespace sequences
