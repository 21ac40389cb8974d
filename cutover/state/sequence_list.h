// What `pgcutover sequences` prints, as plain data; its JSON is the message Sequences of pgcutover.proto.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cutover/state/status.h"

namespace cutover::state {

struct SequenceLine {
  std::string server = {}, sequence = {};
  std::int64_t last_value = 0;
  bool is_called = false;
  std::int64_t increment = 1, minimum = 1, maximum = 0, column_limit = 0, cache = 1;
  bool cycle = false;
  std::vector<std::string> used_by = {}, mentioned_in = {};
  std::optional<std::int64_t> highest = {};
  double rate = 0;  // increments a second
};

struct BumpLine {
  std::string sequence = {};
  std::int64_t from = 0;
  std::optional<std::int64_t> target_value = {}, source_value = {};  // of the servers that were given
  bool clipped = false;
  std::string need = {};
  bool done = false;
};

struct KeyLine {
  std::string server = {}, column = {}, type = {}, kind = {};
  bool primary = false;
  bool needs_no_headroom = false;  // false: headroom can't help
};

struct SequenceList {
  std::vector<SequenceLine> sequences = {};
  std::vector<BumpLine> bumps = {};
  std::vector<KeyLine> other_keys = {};
  std::vector<SequenceRangeStatus> ranges = {};
  base::Findings findings = {};
  std::int64_t sessions = 0;
};

std::string to_json(const SequenceList& list);
std::string to_text(const SequenceList& list);

}  // namespace cutover::state
