// The report as one page: no script, nothing loaded from anywhere, every text escaped.
#include <algorithm>
#include <vector>

#include "cutover/report/report.h"
#include "cutover/state/message.h"
#include "cutover/state/status.h"

namespace cutover::report {
namespace {

constexpr std::string_view kStyle =
    "body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem;border-bottom:1px solid #d0d7de}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem .25rem 0;"
    "border-bottom:1px solid "
    "#eaeef2;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}"
    "pre{background:#f6f8fa;padding:.8rem;overflow:auto}.bad{color:#b3261e;font-weight:600}.good{color:#"
    "1a7f37}"
    "@media print{body{margin:0}}";

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : state::clean(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

struct Cell {
  std::string text;
  std::string_view css = {};  // "n" for numbers, "good", "bad"
};
Cell number(std::int64_t value) {
  return {std::to_string(value), "n"};
}

void table(std::string& out, const std::vector<std::string_view>& heads,
           const std::vector<std::vector<Cell>>& rows) {
  out += "<table><tr>";
  for (const auto head : heads) {
    out += "<th>" + escape(head) + "</th>";
  }
  out += "</tr>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const auto& cell : row) {
      out += cell.css.empty() ? std::string("<td>") : "<td class=\"" + std::string(cell.css) + "\">";
      out += escape(cell.text) + "</td>";
    }
    out += "</tr>\n";
  }
  out += "</table>\n";
}

void heading(std::string& out, std::string_view text) {
  out += "<h2>" + escape(text) + "</h2>\n";
}

void none(std::string& out, std::string_view text) {
  out += "<p>" + escape(text) + "</p>\n";
}

std::string milliseconds_text(double pause_ms) {
  return pause_ms < 0 ? "unknown" : state::seconds_text(pause_ms / 1000);
}

void write_summary(std::string& out, const Report& report) {
  const auto& status = report.status;
  std::vector<std::vector<Cell>> rows{
      {{"state"}, {status.state}},
      {{"writes go to"}, {status.writes_go_to.empty() ? "unknown" : status.writes_go_to}},
      {{"source"}, {status.source.address + ", PostgreSQL " + status.source.version}},
      {{"target"}, {status.target.address + ", PostgreSQL " + status.target.version}},
      {{"run by"}, {report.who + " on " + report.host}},
      {{"made at"}, {state::time_text(report.made_us)}},
      {{"pgcutover"}, {report.product_version}},
  };
  table(out, {"", ""}, rows);
}

void write_switches(std::string& out, const Report& report) {
  heading(out, "Switches");
  if (report.status.switches.empty()) {
    none(out, "None yet.");
    return;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& one : report.status.switches) {
    rows.push_back({{state::time_text(one.at_us)},
                    {one.direction},
                    {one.outcome, one.outcome == "done" ? "good" : "bad"},
                    {milliseconds_text(one.pause_ms), "n"},
                    {one.fence_lsn},
                    {one.message}});
  }
  table(out, {"at", "direction", "outcome", "pause", "fence LSN", ""}, rows);
}

void write_fences(std::string& out, const Report& report) {
  heading(out, "Fences");
  if (report.fences.empty()) {
    none(out, "None yet.");
    return;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& fence : report.fences) {
    rows.push_back(
        {{state::time_text(fence.at_us)},
         {fence.server},
         {fence.method},
         {fence.marker},
         {fence.marker_lsn},
         number(fence.sessions_ended),
         {std::to_string(fence.changes_after_marker), fence.changes_after_marker == 0 ? "good" : "bad"}});
  }
  table(out, {"at", "server", "method", "marker", "marker LSN", "sessions ended", "changes after the marker"},
        rows);
}

void write_verify(std::string& out, const Report& report) {
  heading(out, "Comparison");
  if (report.verify.empty()) {
    none(out, "Nothing was compared.");
    return;
  }
  const auto equal = std::count_if(report.verify.begin(), report.verify.end(),
                                   [](const VerifyRecord& table) { return table.verdict == "equal"; });
  const bool all = equal == static_cast<std::ptrdiff_t>(report.verify.size());
  out += "<p class=\"" + std::string(all ? "good" : "bad") + "\">" + std::to_string(equal) + " of " +
         std::to_string(report.verify.size()) + " tables are equal, compared at " +
         escape(state::time_text(report.verified_us)) + ".</p>\n";
  std::vector<std::vector<Cell>> rows;
  for (const auto& table : report.verify) {
    rows.push_back({{table.table},
                    {table.verdict, table.verdict == "equal" ? "good" : "bad"},
                    number(table.source_rows),
                    number(table.target_rows),
                    {table.detail}});
  }
  table(out, {"table", "verdict", "rows on the source", "rows on the target", ""}, rows);
}

void write_copied(std::string& out, const Report& report) {
  heading(out, "First copy");
  if (!report.copied) {
    none(out, "Not at its end yet.");
    return;
  }
  auto whole = *report.copied;
  whole.left_out.clear();
  none(out, copy_text(whole));
  if (report.copied->left_out.empty()) {
    none(out, "Nothing was left out.");
    return;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& one : report.copied->left_out) {
    rows.push_back({{one.object}, {one.why}});
  }
  table(out, {"not copied or not kept up to date", "why"}, rows);
}

void write_sequences(std::string& out, const Report& report) {
  if (report.sequences.empty()) {
    return;
  }
  heading(out, "Sequences");
  std::vector<std::vector<Cell>> rows;
  for (const auto& one : report.sequences) {
    rows.push_back({{one.sequence},
                    number(one.from),
                    number(one.target_value),
                    number(one.source_value),
                    {one.clipped ? "less room than asked for" : "", "bad"}});
  }
  table(out, {"sequence", "last value", "set on the target", "set on the source", ""}, rows);
}

void write_findings(std::string& out, const Report& report) {
  heading(out, "Findings");
  if (report.status.findings.empty()) {
    none(out, "None.");
    return;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& finding : report.status.findings) {
    const bool blocks = finding.severity == base::Severity::blocks;
    rows.push_back({{blocks ? "blocks" : "warns", blocks ? "bad" : ""},
                    {finding.id},
                    {finding.server},
                    {finding.object},
                    {finding.message},
                    {finding.remedy}});
  }
  table(out, {"", "id", "server", "object", "found", "remedy"}, rows);
}

void write_conflicts(std::string& out, const Report& report) {
  heading(out, "Conflicts");
  if (report.conflicts.empty()) {
    none(out, "None: every change of the stream hit exactly its row.");
    return;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& one : report.conflicts) {
    rows.push_back({{state::time_text(one.at_us)},
                    {one.direction},
                    {one.table},
                    {one.key},
                    {one.kind, "bad"},
                    {one.made_by.empty() ? "not known" : one.made_by},
                    {one.lsn}});
  }
  table(out, {"at", "direction", "table", "key", "what", "id made by", "LSN"}, rows);
}

void write_steps(std::string& out, const Report& report) {
  heading(out, "Steps");
  if (report.steps.empty()) {
    none(out, "None yet.");
    return;
  }
  std::vector<std::vector<Cell>> rows;
  for (const auto& step : report.steps) {
    const bool timed = step.began_us > 0 && step.ended_us >= step.began_us;
    rows.push_back(
        {{step.step},
         {step.outcome, step.outcome == "done" ? "good" : "bad"},
         {state::time_text(step.began_us)},
         {timed ? state::seconds_text(static_cast<double>(step.ended_us - step.began_us) / 1e6) : "", "n"},
         {step.message}});
  }
  table(out, {"step", "outcome", "began", "took", ""}, rows);
}

}  // namespace

std::string to_html(const Report& report) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Migration " +
      escape(report.name) + "</title>\n<style>" + std::string(kStyle) +
      "</style></head>\n<body>\n<h1>Migration " + escape(report.name) + "</h1>\n";
  write_summary(out, report);
  write_switches(out, report);
  write_copied(out, report);
  write_fences(out, report);
  write_verify(out, report);
  write_conflicts(out, report);
  write_sequences(out, report);
  write_findings(out, report);
  write_steps(out, report);
  heading(out, "Plan");
  out += "<pre>" + escape(report.plan_text) + "</pre>\n</body></html>\n";
  return out;
}

}  // namespace cutover::report
