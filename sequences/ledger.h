// The ledger of id ranges: which server may hand out which ids. Kept on both servers; tells which side made a
// row, how much of a range is used, and when somebody hands out ids outside of it.
//
// attribute(), usage() and plan_closed() are pure. Errors: base::Error of the server.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sequences/headroom.h"

namespace sequences {

// The ids behind `start`, up to and with `until` (none: no end is known), in the direction of `increment`.
struct Range {
  std::string schema, name;
  std::string server;  // "source" or "target": whose ids these are
  bool opens = true;   // false: the range waits for the way back
  std::int64_t epoch = 0, increment = 1;
  std::int64_t handed_out = 0;  // what the side that closed had handed out when the range was made
  std::int64_t start = 0;
  bool is_called = true;  // false: the sequence was never used, there is no range
  std::optional<std::int64_t> until;
  std::int64_t set_at_us = 0;

  std::string display() const { return schema + "." + name; }
};

// Oldest first. Empty where there is no ledger. Rows that don't say their server are those of `connection`.
std::vector<Range> read_ledger(postgres::Connection& connection);
// Each server gets the rows of the other one that it doesn't have. Each is written under its own token: where
// no controller lives the epochs of two servers may differ.
void share_ledger(postgres::Connection& one, const postgres::FencingToken& token_of_one,
                  postgres::Connection& other, const postgres::FencingToken& token_of_other);

// Whether there is an id that both may hand out.
bool overlap(const Range& one, const Range& other);

// The server's newest range of a sequence; nothing where it has none.
const Range* current_range(const std::vector<Range>& ledger, const std::string& schema,
                           const std::string& name, const std::string& server);

// The server that may have handed out `value`: "source", "target", or empty where no range has it. An open
// end counts only until the server got a newer range.
std::string attribute(const std::vector<Range>& ledger, const std::string& schema, const std::string& name,
                      std::int64_t value);

// used_up: the sequence ran on behind the end, by no more than the range's own size; further is rather a
// setval.
enum class RangeState { fine, half_used, nearly_used, used_up, outside };
struct Usage {
  Range range;
  std::int64_t at = 0;       // last_value now
  double used_share = 0;     // 0 to 1
  double seconds_left = -1;  // at the given rate; -1: not known, or it doesn't move
  RangeState state = RangeState::fine;
};
std::string_view to_string(RangeState state);
// `open`: whether the server takes writes now. One that doesn't must not move at all.
Usage usage(const Range& range, const Sequence& now, double rate, bool open);

// A sequence that is behind its range was set back, by a crash (unlogged) or by somebody: how much of the
// range was handed out before nobody knows, so all of it counts (Sequence::highest).
void count_abandoned(std::vector<Sequence>& sequences, const std::vector<Range>& ledger,
                     const std::string& server);

// What has to be set once more before `server` opens: values of the hand-over that a crash has taken since.
std::vector<Bump> lost_values(const std::vector<Sequence>& sequences, const std::vector<Range>& ledger,
                              const std::string& server);

// The values for a closed side whose other side is open: behind the open side's range, and further ahead
// where 80 % of that range are used or there is none yet. Empty where everything is as it should be: planning
// twice is planning once. Bump::source_value is the closed side's new value, target_value the start of the
// open side's range.
std::vector<Bump> plan_closed(const std::vector<Sequence>& open, const std::vector<Sequence>& closed,
                              const std::vector<Range>& ledger, const std::string& open_server,
                              const Demand& demand, const HeadroomRule& rule);
// Records the open side's (longer) ranges that plan_closed() made; sets nothing.
void extend_ranges(postgres::Connection& open, const std::vector<Bump>& bumps,
                   const postgres::FencingToken& token);

}  // namespace sequences
