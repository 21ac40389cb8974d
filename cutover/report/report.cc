#include "cutover/report/report.h"

#include <algorithm>

#include "cutover/state/message.h"
#include "pgcutover.pb.h"

namespace cutover::report {
namespace {

namespace v1 = ::pgcutover::v1;
using state::clean;

void write_records(const Report& report, v1::Report& message) {
  for (const auto& step : report.steps) {
    auto& to = *message.add_steps();
    to.set_step(clean(step.step));
    to.set_outcome(clean(step.outcome));
    to.set_message(clean(step.message));
    to.set_began_us(step.began_us);
    to.set_ended_us(step.ended_us);
  }
  for (const auto& fence : report.fences) {
    auto& to = *message.add_fences();
    to.set_server(clean(fence.server));
    to.set_method(clean(fence.method));
    to.set_marker(clean(fence.marker));
    to.set_marker_lsn(clean(fence.marker_lsn));
    to.set_at_us(fence.at_us);
    to.set_sessions_ended(fence.sessions_ended);
    to.set_changes_after_marker(fence.changes_after_marker);
  }
}

void write_copied(const CopyRecord& copied, v1::Report::Copied& message) {
  message.set_tables(copied.tables);
  message.set_rows(copied.rows);
  message.set_bytes(copied.bytes);
  message.set_tables_before(copied.tables_before);
  message.set_bytes_before(copied.bytes_before);
  message.set_seconds(copied.seconds);
  for (const auto& one : copied.left_out) {
    auto& to = *message.add_left_out();
    to.set_object(clean(one.object));
    to.set_why(clean(one.why));
  }
}

CopyRecord read_copied(const v1::Report::Copied& message) {
  CopyRecord copied{.tables = message.tables(),
                    .rows = message.rows(),
                    .bytes = message.bytes(),
                    .tables_before = message.tables_before(),
                    .bytes_before = message.bytes_before(),
                    .seconds = message.seconds()};
  for (const auto& one : message.left_out()) {
    copied.left_out.push_back({one.object(), one.why()});
  }
  return copied;
}

void write_results(const Report& report, v1::Report& message) {
  for (const auto& table : report.verify) {
    auto& to = *message.add_verify();
    to.set_table(clean(table.table));
    to.set_verdict(clean(table.verdict));
    to.set_detail(clean(table.detail));
    to.set_source_rows(table.source_rows);
    to.set_target_rows(table.target_rows);
  }
  for (const auto& sequence : report.sequences) {
    auto& to = *message.add_sequences();
    to.set_sequence(clean(sequence.sequence));
    to.set_from(sequence.from);
    to.set_target_value(sequence.target_value);
    to.set_source_value(sequence.source_value);
    to.set_clipped(sequence.clipped);
  }
  for (const auto& conflict : report.conflicts) {
    state::to_message(conflict, *message.add_conflicts());
  }
}

void read_records(const v1::Report& message, Report& report) {
  for (const auto& step : message.steps()) {
    report.steps.push_back({.step = step.step(),
                            .outcome = step.outcome(),
                            .message = step.message(),
                            .began_us = step.began_us(),
                            .ended_us = step.ended_us()});
  }
  for (const auto& fence : message.fences()) {
    report.fences.push_back({.server = fence.server(),
                             .method = fence.method(),
                             .marker = fence.marker(),
                             .marker_lsn = fence.marker_lsn(),
                             .at_us = fence.at_us(),
                             .sessions_ended = fence.sessions_ended(),
                             .changes_after_marker = fence.changes_after_marker()});
  }
}

void read_results(const v1::Report& message, Report& report) {
  for (const auto& table : message.verify()) {
    report.verify.push_back({.table = table.table(),
                             .verdict = table.verdict(),
                             .detail = table.detail(),
                             .source_rows = table.source_rows(),
                             .target_rows = table.target_rows()});
  }
  for (const auto& sequence : message.sequences()) {
    report.sequences.push_back({.sequence = sequence.sequence(),
                                .from = sequence.from(),
                                .target_value = sequence.target_value(),
                                .source_value = sequence.source_value(),
                                .clipped = sequence.clipped()});
  }
  for (const auto& conflict : message.conflicts()) {
    report.conflicts.push_back(state::from_message(conflict));
  }
}

}  // namespace

std::string copy_text(const CopyRecord& copied) {
  constexpr std::size_t kNamed = 10;
  constexpr double kShortest = 0.001;
  const auto rate =
      static_cast<double>(copied.bytes - copied.bytes_before) / std::max(copied.seconds, kShortest);
  auto text =
      std::to_string(copied.tables) + " tables, " + std::to_string(copied.rows) + " rows, " +
      state::bytes_text(copied.bytes) + " in " + state::seconds_text(copied.seconds) +
      (copied.tables_before > 0 ? " (" + std::to_string(copied.tables_before) + " tables by an earlier run)"
                                : "") +
      ", " + state::bytes_text(static_cast<std::int64_t>(rate)) + "/s";
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const auto& one : copied.left_out) {
    by_reason[one.why].push_back(one.object);
  }
  for (const auto& [why, objects] : by_reason) {
    text += "; " + why + ": ";
    for (std::size_t i = 0; i < std::min(objects.size(), kNamed); ++i) {
      text += (i == 0 ? "" : ", ") + objects[i];
    }
    text += objects.size() > kNamed ? " and " + std::to_string(objects.size() - kNamed) + " more" : "";
  }
  return text;
}

std::string to_json(const Report& report) {
  v1::Report message;
  message.set_name(clean(report.name));
  message.set_product_version(clean(report.product_version));
  message.set_who(clean(report.who));
  message.set_host(clean(report.host));
  message.set_made_us(report.made_us);
  message.set_plan_text(clean(report.plan_text));
  state::to_message(report.status, *message.mutable_status());
  message.set_verified_us(report.verified_us);
  if (report.copied) {
    write_copied(*report.copied, *message.mutable_copied());
  }
  write_records(report, message);
  write_results(report, message);
  return state::message_to_json(message);
}

Report from_json(const std::string& json) {
  v1::Report message;
  state::message_from_json(json, message, "the report");
  Report report;
  report.name = message.name();
  report.product_version = message.product_version();
  report.who = message.who();
  report.host = message.host();
  report.made_us = message.made_us();
  report.plan_text = message.plan_text();
  report.status = state::from_message(message.status());
  report.verified_us = message.verified_us();
  if (message.has_copied()) {
    report.copied = read_copied(message.copied());
  }
  read_records(message, report);
  read_results(message, report);
  return report;
}

}  // namespace cutover::report
