// The evidence report: what was done, by whom, with which proof. One self-contained HTML page and the same as
// JSON.
//
// Plain data in, text out. No secret may be in the data; both writers redact every text once more. Times are
// microseconds since 1970 UTC.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cutover/state/status.h"
#include "replication/base/finding.h"

namespace cutover::report {

namespace base = replication::base;

struct StepRecord {
  std::string step = {}, outcome = {}, message = {};  // outcome: "done", "failed", "undone"
  std::int64_t began_us = 0, ended_us = 0;            // 0 = not known
};

struct FenceRecord {
  std::string server = {};  // which side was closed
  std::string method = {};  // how
  std::string marker = {}, marker_lsn = {};
  std::int64_t at_us = 0;
  std::int64_t sessions_ended = 0;
  std::int64_t changes_after_marker = 0;  // must be 0
};

struct VerifyRecord {
  std::string table = {}, verdict = {}, detail = {};  // verdict: "equal", "different", "not compared"
  std::int64_t source_rows = 0, target_rows = 0;
};

struct SequenceRecord {
  std::string sequence = {};
  std::int64_t from = 0, target_value = 0, source_value = 0;
  bool clipped = false;
};

struct LeftOutRecord {
  std::string object = {}, why = {};
};

// The first copy, at its end.
struct CopyRecord {
  std::int64_t tables = 0, rows = 0, bytes = 0;      // all; bytes as they went over the wire
  std::int64_t tables_before = 0, bytes_before = 0;  // of these, by runs before the last
  double seconds = 0;                                // of the last run
  std::vector<LeftOutRecord> left_out = {};
};
// "15 tables, 14319 rows, 7.7 MB in 0.4 s, 20.4 MB/s; left out by include and exclude: app.a, app.b"
std::string copy_text(const CopyRecord& copied);

using state::ConflictRecord;

struct Report {
  std::string name = {};
  std::string product_version = {};
  std::string who = {}, host = {};  // who ran it, from where
  std::int64_t made_us = 0;
  std::string plan_text = {};             // redacted
  state::Status status;                   // where it stands now; its findings and switches are shown
  std::optional<CopyRecord> copied = {};  // nothing before the copy's end
  std::vector<StepRecord> steps = {};
  std::vector<FenceRecord> fences = {};
  std::vector<VerifyRecord> verify = {};
  std::int64_t verified_us = 0;
  std::vector<SequenceRecord> sequences = {};
  std::vector<ConflictRecord> conflicts = {};
};

std::string to_json(const Report& report);
Report from_json(const std::string& json);
std::string to_html(const Report& report);

}  // namespace cutover::report
