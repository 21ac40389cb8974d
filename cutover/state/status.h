// Where a migration stands, as plain data: shown by `status`, the progress line, the report and --json.
//
// The schema is pgcutover.proto (one schema for every reader); its generated header stays in status.cc.
// Unknown numbers are -1, unknown texts empty. Times: microseconds since 1970 UTC (`_us`), seconds as double
// (`_seconds`). from_json ignores fields it doesn't know, so that an older program reads a newer one's
// status; it throws Error on text that isn't JSON of this shape.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/finding.h"

namespace cutover::state {

namespace base = replication::base;

struct StepProgress {
  std::string step = {};  // "copy", "indexes", "catch-up"...
  std::int64_t done = 0;  // units of `unit`
  std::int64_t total = -1;
  std::string unit = {};     // "bytes", "tables", "rows"
  double seconds = 0;        // since the step began
  std::string current = {};  // the thing under way, e.g. a table
  double rate = -1;          // units a second of late; not above 0 = not known
};

struct ServerStatus {
  std::string address = {};  // without secrets
  std::string database = {};
  std::string version = {};  // "15.18"
  std::int64_t database_bytes = -1;
  bool reachable = false;
  bool takes_writes = false;
};

// A table whose rows are copied.
struct CopyTableStatus {
  std::string table = {};
  std::string state = {};                        // "waiting", "copying", "copied"
  std::int64_t bytes_done = 0, bytes_total = 0;  // of its size on the source; 0 = not known any more
  std::int64_t rows = 0;                         // so far
  std::int64_t sent_bytes = 0;                   // of a copied one, as they went over the wire
  std::int64_t since_us = 0;  // copying: its first row; copied: when that was done; waiting: 0
};

struct CopyStatus {
  std::int64_t tables_done = 0, tables_total = 0;
  std::int64_t bytes_done = 0, bytes_total = 0;
  std::int64_t rows_done = 0;
  std::vector<CopyTableStatus> tables = {};  // copying first, then waiting, then copied
};

// received = applied + compacted + filtered + echoes + conflicts
struct TableChanges {
  std::string table = {};
  std::int64_t received = 0, applied = 0, compacted = 0, filtered = 0, echoes = 0, conflicts = 0;
};

struct StreamStatus {
  std::string direction = {};  // "forward", "reverse"
  bool connected = false;
  std::string received_lsn = {}, applied_lsn = {}, confirmed_lsn = {};
  std::int64_t transactions = 0;
  std::int64_t changes = 0, applied = 0, compacted = 0, filtered = 0, conflicts = 0;
  double changes_per_second = -1;
  double lag_seconds = -1;
  std::int64_t lag_bytes = -1;
  std::string counted_from_lsn = {};  // all numbers are of changes behind it
  std::int64_t counted_since_us = 0;
  std::vector<TableChanges> tables = {};  // the most changed first
  std::int64_t tables_left_out = 0;
};

struct SlotStatus {
  std::string name = {}, server = {}, wal_status = {};
  std::int64_t retained_bytes = -1;
  std::int64_t safe_bytes = -1;  // -1 = no limit
  double runway_seconds = -1;    // until safe_bytes are used up at the observed rate
};

struct SwitchStatus {
  std::string direction = {};  // "switch" or "rollback"
  std::string outcome = {};    // "done", "undone"
  double pause_ms = -1;
  std::int64_t at_us = 0;
  std::string fence_lsn = {};
  std::string message = {};
};

// The ids a server may hand out: behind `start`, up to and with `until`.
struct SequenceRangeStatus {
  std::string sequence = {}, server = {};
  std::int64_t start = 0;
  bool has_until = false;
  std::int64_t until = 0;
  std::int64_t at = 0;  // last value now
  double used_share = 0;
  double seconds_left = -1;
  std::string state = {};  // "fine", "half-used", "nearly-used", "used-up", "outside"
};
std::string range_text(const SequenceRangeStatus& range);

// A change that met no row on the other side.
struct ConflictRecord {
  std::int64_t at_us = 0;
  std::string direction = {}, table = {}, key = {}, kind = {}, lsn = {};
  std::string made_by = {};  // the server whose sequence the row's id is from; empty: not known
};

struct ControllerStatus {
  std::string host = {}, version = {};
  std::int64_t pid = 0, epoch = 0;
  bool alive = false;
  std::int64_t since_us = 0;
};

struct Status {
  std::string name = {};
  std::string state = {};  // the state machine's word
  std::string step = {};
  StepProgress progress;
  ServerStatus source, target;
  std::string primary = {};       // "source" or "target"
  std::string writes_go_to = {};  // "source", "target", "nobody" (a pause), "unknown"
  CopyStatus copy;
  std::vector<StreamStatus> streams = {};
  std::vector<SlotStatus> slots = {};
  std::vector<SwitchStatus> switches = {};                // oldest first
  std::vector<SequenceRangeStatus> sequence_ranges = {};  // the most used first
  std::vector<ConflictRecord> conflicts = {};             // not yet found repaired, the newest first
  ControllerStatus controller;
  base::Findings findings = {};
  std::string message = {};  // one line: what happens next, or what is needed
  std::int64_t at_us = 0;    // when this was true
};

std::string to_json(const Status& status);
Status from_json(std::string_view json);
// For people, several lines.
std::string render_text(const Status& status);
// One compact line: "copy 63 % 12.1/19.2 GB 118 MB/s ETA 1m02s | lag 0.2 s".
std::string progress_line(const Status& status);

// Findings alone, for `check --json` and for people.
std::string findings_json(const base::Findings& findings);
std::string findings_text(const base::Findings& findings);

// "1.2 GB", "17 kB"; "1h02m", "3.4 s".
std::string bytes_text(std::int64_t bytes);
std::string seconds_text(double seconds);
// "2026-11-21 23:58:01 UTC"
std::string time_text(std::int64_t at_us);

}  // namespace cutover::state
