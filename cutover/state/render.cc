// Status as text for people: several lines, and the one line of progress.
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "cutover/state/status.h"

namespace cutover::state {
namespace {

// printf for one number. printf's %f, not to_string, for digits after the point.
std::string number(const char* format, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, value);
  return buffer.data();
}

std::string count_text(std::int64_t count) {
  std::string digits = std::to_string(count);
  const std::size_t begin = count < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > begin + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string amount_text(std::int64_t amount, const std::string& unit) {
  return unit == "bytes" ? bytes_text(amount) : count_text(amount) + (unit.empty() ? "" : " " + unit);
}

// "12.1/19.2 GB": the unit once where both have the same.
std::string of_text(std::int64_t done, std::int64_t total, const std::string& unit) {
  auto left = amount_text(done, unit);
  const auto right = amount_text(total, unit);
  const auto left_space = left.find(' ');
  const auto right_space = right.find(' ');
  if (left_space != std::string::npos && right_space != std::string::npos &&
      left.substr(left_space) == right.substr(right_space)) {
    left.resize(left_space);
  }
  return left + "/" + right;
}

void add_line(std::string& out, const std::string& head, const std::string& text) {
  std::string padded = head;
  padded.resize(std::max<std::size_t>(padded.size() + 1, 12), ' ');
  out += padded + text + "\n";
}

std::string writes_text(const std::string& side) {
  if (side == "nobody") {
    return "are held: a switch is under way";
  }
  return side == "source" || side == "target" ? "go to the " + side : "unknown";
}

std::string server_text(const ServerStatus& server, bool known) {
  std::string text = server.address;
  if (!server.version.empty()) {
    text += ", PostgreSQL " + server.version;
  }
  if (server.database_bytes >= 0) {
    text += ", " + bytes_text(server.database_bytes);
  }
  if (!server.reachable) {
    return text + ", NOT REACHABLE";
  }
  return text + (!known ? "" : server.takes_writes ? ", takes writes" : ", closed");
}

std::string stream_text(const StreamStatus& stream) {
  std::string text = stream.connected ? "connected" : "NOT CONNECTED";
  if (stream.lag_seconds >= 0) {
    text += ", lag " + seconds_text(stream.lag_seconds);
  }
  if (stream.lag_bytes >= 0) {
    text += " (" + bytes_text(stream.lag_bytes) + ")";
  }
  if (!stream.applied_lsn.empty()) {
    text += ", applied to " + stream.applied_lsn;
  }
  text +=
      ", " + count_text(stream.changes) + " changes in " + count_text(stream.transactions) + " transactions";
  if (stream.compacted > 0 || stream.filtered > 0) {
    text += " (" + count_text(stream.compacted) + " compacted, " + count_text(stream.filtered) + " filtered)";
  }
  if (stream.conflicts > 0) {
    text += ", " + count_text(stream.conflicts) + " CONFLICTS";
  }
  return text;
}

std::string slot_text(const SlotStatus& slot) {
  std::string text = slot.name + " on " + slot.server;
  if (!slot.wal_status.empty()) {
    text += ", WAL " + slot.wal_status;
  }
  if (slot.retained_bytes >= 0) {
    text += ", holds " + bytes_text(slot.retained_bytes);
  }
  if (slot.safe_bytes >= 0) {
    text += ", room for " + bytes_text(slot.safe_bytes);
  }
  if (slot.runway_seconds >= 0) {
    text += ", lasts " + seconds_text(slot.runway_seconds);
  }
  return text;
}

std::string switch_text(const SwitchStatus& one) {
  std::string text = one.direction + " " + one.outcome;
  if (one.at_us > 0) {
    text += " at " + time_text(one.at_us);
  }
  if (one.pause_ms >= 0) {
    text += ", pause " + number("%.0f ms", one.pause_ms);
  }
  return text + (one.message.empty() ? "" : ": " + one.message);
}

}  // namespace

std::string range_text(const SequenceRangeStatus& range) {
  std::string text = range.sequence + " on " + range.server + ": behind " + std::to_string(range.start) +
                     (range.has_until ? " to " + std::to_string(range.until) : "") + ", at " +
                     std::to_string(range.at);
  if (range.has_until) {
    text += number(", %.0f %% used", std::floor(range.used_share * 100));
  }
  if (range.seconds_left >= 0) {
    text += ", lasts " + seconds_text(range.seconds_left);
  }
  return text + (range.state == "fine"      ? ""
                 : range.state == "outside" ? ", OUTSIDE OF ITS RANGE"
                 : range.state == "used-up" ? ", USED UP"
                                            : ", " + range.state);
}

namespace {

std::string conflict_text(const ConflictRecord& conflict) {
  return conflict.table + " " + conflict.key + ": " + conflict.kind + ", " + conflict.direction + " at " +
         conflict.lsn + (conflict.made_by.empty() ? "" : ", id made by the " + conflict.made_by);
}

std::string controller_text(const ControllerStatus& controller) {
  std::string text = controller.alive ? "alive" : "none alive";
  if (!controller.host.empty()) {
    text += (controller.alive ? " on " : "; last one on ") + controller.host + ", pid " +
            std::to_string(controller.pid) + ", epoch " + std::to_string(controller.epoch);
  }
  if (controller.since_us > 0) {
    text += ", since " + time_text(controller.since_us);
  }
  return text;
}

constexpr std::size_t kTableLines = 10;

// Those under way; all of them are in --json.
void add_tables(std::string& out, const std::vector<CopyTableStatus>& tables) {
  std::size_t lines = 0;
  for (const auto& table : tables) {
    if (table.state != "copying" || ++lines > kTableLines) {
      continue;
    }
    std::string text = table.table;
    if (table.bytes_total > 0) {
      const double part = static_cast<double>(table.bytes_done) / static_cast<double>(table.bytes_total);
      text += number(" %.0f %%, ", std::floor(std::min(part * 100, 99.0))) +
              of_text(table.bytes_done, table.bytes_total, "bytes");
    }
    add_line(out, "copying",
             text + ", " + count_text(table.rows) + " rows, since " + time_text(table.since_us));
  }
  if (lines > kTableLines) {
    add_line(out, "copying", "and " + std::to_string(lines - kTableLines) + " more tables");
  }
}

std::string progress_text(const StepProgress& progress) {
  std::string text = progress.step;
  if (progress.total > 0) {
    const double part = static_cast<double>(progress.done) / static_cast<double>(progress.total);
    // The total is an estimate: 100 % is said when the step is over, not before.
    text += number(" %.0f %% ",
                   std::floor(std::min(part * 100, 99.0 + (progress.done == progress.total ? 1 : 0))));
    text += of_text(progress.done, progress.total, progress.unit);
  } else if (progress.done > 0) {
    text += " " + amount_text(progress.done, progress.unit);
  }
  if (progress.done > 0 && progress.seconds >= 1 && !progress.unit.empty()) {
    const double rate =
        progress.rate > 0 ? progress.rate : static_cast<double>(progress.done) / progress.seconds;
    text += " " + (progress.unit == "bytes" ? bytes_text(std::llround(rate)) : number("%.0f", rate)) + "/s";
    if (progress.total > progress.done) {
      text += " ETA " + seconds_text(static_cast<double>(progress.total - progress.done) / rate);
    }
  }
  return text;
}

}  // namespace

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 0) {
    return "unknown";
  }
  static constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return number(unit == 0 || value >= 100 ? "%.0f " : "%.1f ", value) + kUnits.at(unit);
}

std::string seconds_text(double seconds) {
  if (!(seconds >= 0)) {
    return "unknown";
  }
  constexpr double kLongest = 86'400.0 * 36'500;
  const auto whole = std::llround(std::min(seconds, kLongest));
  if (seconds < 59.95) {
    return number(seconds < 0.0995 ? "%.3f s" : "%.1f s", seconds);
  }
  const auto two = [](long long value) { return (value < 10 ? "0" : "") + std::to_string(value); };
  if (whole < 3'600) {
    return std::to_string(whole / 60) + "m" + two(whole % 60) + "s";
  }
  if (whole < 172'800) {
    return std::to_string(whole / 3'600) + "h" + two(whole % 3'600 / 60) + "m";
  }
  return std::to_string(whole / 86'400) + " days";
}

std::string time_text(std::int64_t at_us) {
  if (at_us <= 0) {
    return "unknown";
  }
  const std::time_t seconds = at_us / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 64> buffer{};
  std::strftime(buffer.data(), buffer.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return buffer.data();
}

std::string findings_text(const base::Findings& findings) {
  std::string out;
  for (const auto severity : {base::Severity::blocks, base::Severity::warns}) {
    for (const auto& finding : findings) {
      if (finding.severity != severity) {
        continue;
      }
      out += severity == base::Severity::blocks ? "BLOCKS  " : "warns   ";
      out += finding.id + (finding.server.empty() ? "" : " (" + finding.server + ")") + ": ";
      if (!finding.object.empty() && finding.message.find(finding.object) == std::string::npos) {
        out += finding.object + ": ";
      }
      out += finding.message + "\n";
      if (!finding.remedy.empty()) {
        out += "        HINT: " + finding.remedy + "\n";
      }
    }
  }
  return out;
}

std::string progress_line(const Status& status) {
  auto progress = status.progress;
  if (progress.step.empty()) {
    progress = StepProgress{};
    progress.step = status.step.empty() ? status.state : status.step;
  }
  std::string line = progress_text(progress);
  if (!status.progress.current.empty()) {
    line += " (" + status.progress.current + ")";
  }
  for (const auto& stream : status.streams) {
    line += " | " + (stream.direction == "forward" ? std::string() : stream.direction + " ");
    line += !stream.connected         ? std::string("not connected")
            : stream.lag_seconds >= 0 ? "lag " + seconds_text(stream.lag_seconds)
            : stream.lag_bytes >= 0   ? "lag " + bytes_text(stream.lag_bytes)
                                      : std::string("lag unknown");
    if (stream.changes_per_second >= 0) {
      line += number(" %.0f changes/s", stream.changes_per_second);
    }
    if (stream.conflicts > 0) {
      line += " " + count_text(stream.conflicts) + " CONFLICTS";
    }
  }
  return line;
}

std::string render_text(const Status& status) {
  std::string out;
  add_line(out, "migration",
           status.name + ": " + status.state +
               (status.step.empty() || status.step == status.state ? "" : ", " + status.step));
  if (!status.progress.step.empty()) {
    add_line(out, "progress",
             progress_text(status.progress) +
                 (status.progress.current.empty() ? "" : ", at " + status.progress.current));
  }
  add_line(out, "writes", writes_text(status.writes_go_to));
  add_line(out, "source", server_text(status.source, status.state != "none"));
  add_line(out, "target", server_text(status.target, status.state != "none"));
  if (status.copy.tables_total > 0) {
    add_line(out, "copy",
             of_text(status.copy.tables_done, status.copy.tables_total, "tables") + ", " +
                 of_text(status.copy.bytes_done, status.copy.bytes_total, "bytes") + ", " +
                 count_text(status.copy.rows_done) + " rows");
  }
  add_tables(out, status.copy.tables);
  for (const auto& stream : status.streams) {
    add_line(out, stream.direction, stream_text(stream));
  }
  for (const auto& slot : status.slots) {
    add_line(out, "slot", slot_text(slot));
  }
  for (const auto& one : status.switches) {
    add_line(out, "switch", switch_text(one));
  }
  for (const auto& range : status.sequence_ranges) {
    add_line(out, "ids", range_text(range));
  }
  for (const auto& conflict : status.conflicts) {
    add_line(out, "conflict", conflict_text(conflict));
  }
  add_line(out, "controller", controller_text(status.controller));
  out += findings_text(status.findings);
  if (!status.message.empty()) {
    add_line(out, "next", status.message);
  }
  return out;
}

}  // namespace cutover::state
