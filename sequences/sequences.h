// Sequences: what both sides hand out, read from the sequence relations themselves, and headroom set on each
// side.
//
// Sequence values are not in the change stream, and setval is not transactional (PostgreSQL manual, "Sequence
// Manipulation Functions"): every function here is idempotent and never moves a sequence backwards (in the
// direction of its increment). CYCLE sequences have no "further": they are copied exactly. Values are clipped
// at the limits of the sequence and of the columns it feeds.
//
// Threads: none of its own; a Connection belongs to the calling thread. Units: headroom is a number of
// increments, all other values are ids. Errors: base::Error with SQLSTATE; what an operator can expect is a
// Finding.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/base/finding.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/fencing_token.h"

namespace sequences {

namespace base = replication::base;
namespace postgres = replication::postgres;

// DDL (idempotent) of pgcutover.sequence_ledger: the id ranges each side may hand out. Needed on both
// servers, after FencingToken::schema_sql(), which makes the schema. Rows are only ever added.
std::string ledger_schema_sql();

struct Sequence {
  std::string schema, name;
  std::int64_t last_value = 0;
  bool is_called = false;
  std::int64_t increment = 1, minimum = 1, maximum = 0, start = 1, cache = 1;
  bool cycle = false;
  std::vector<std::string> used_by;  // "public.orders.id": owned, identity or by default expression
  std::int64_t column_limit = 0;  // nearest limit of the columns it feeds, in its direction; 0 = none known

  bool settable = true;  // whether our role may set it
  // A crash of the server sets it back to its start, and rows it feeds stay (15+).
  bool unlogged = false;

  // Filled by the functions of details.h only: they cost more than a look at the sequence itself.
  std::vector<std::string> mentioned_in;  // functions and defaults that name it in their text
  std::optional<std::int64_t> highest;    // the furthest id really present, where an index knows it

  std::string qualified() const;  // quoted: "public"."orders_id_seq"
  std::string display() const;    // for people: public.orders_id_seq
};

// Every sequence of the database outside system and temporary schemas, extensions and our own schema, whoever
// owns it, by schema and name. Values are those of the moment of reading: sequences have no snapshot. Error
// naming those our role may not read.
std::vector<Sequence> inventory(postgres::Connection& connection);

// What to set on both sides. Ids up to `from` were handed out; the opening side goes on behind target_value,
// the closing one, once it opens again, behind source_value.
struct Bump {
  std::string schema, name;
  std::int64_t from = 0;          // last value handed out (or reserved) on the side that was the primary
  std::int64_t target_value = 0;  // last_value to set on the side that opens
  std::int64_t source_value =
      0;                  // last_value to set on the side that closes, further ahead: for the way back
  bool is_called = true;  // false: the sequence was never used, it is copied as it is
  bool clipped = false;   // the limit left less room than asked for
  std::int64_t increment = 1;
  bool cycle = false;                      // copied exactly, may move "backwards"
  std::optional<std::int64_t> source_end;  // both sides live: the last id of the source's range
};
struct BumpPlan {
  std::vector<Bump> bumps;
  base::Findings findings;  // sequences without room, different, or missing on the other side
};
// Pure. `closing` is the inventory of the side being fenced, its values are final; `opening` that of the side
// that will take writes. The target's margin, the range between the two sides and what is left for the way
// back each get `headroom` increments, or a third of what the limit leaves where that is less. Throws
// UsageError for headroom < 1.
BumpPlan plan_bumps(const std::vector<Sequence>& closing, const std::vector<Sequence>& opening,
                    std::int64_t headroom);

enum class Side { opens, closes };
// Sets the values of one side, never backwards, reads them back (Error where one isn't as planned: somebody
// used the sequence after the plan was made) and writes the ledger. Sequences are taken a few hundred at a
// time, each lot in one transaction that checks the token, so that thousands of them don't fill the server's
// lock table.
void apply_bumps(postgres::Connection& connection, const std::vector<Bump>& bumps, Side side,
                 const postgres::FencingToken& token);

// Waits until nobody else bumps these servers and keeps others out until the session ends: two plans made at
// the same time would give one range to both sides. StateError where it takes too long. Lock the source
// first.
void lock_bumps(postgres::Connection& connection, base::Deadline deadline);
void unlock_bumps(postgres::Connection& connection);  // also where it isn't locked

// The same for a live server, whose sessions go on: what they take meanwhile is left alone, the proof is a
// real nextval (which uses up one value of each sequence). Error where a session ran past the headroom while
// the plan was made: then plan again. Bump the side that is ahead in use (Side::closes) first.
void bump_live(postgres::Connection& connection, const std::vector<Bump>& bumps, Side side,
               const postgres::FencingToken& token);

}  // namespace sequences
