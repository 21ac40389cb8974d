#include "cutover/state/message.h"

#include <google/protobuf/util/json_util.h>

#include "pgcutover.pb.h"
#include "replication/base/error.h"
#include "replication/base/redaction.h"

namespace cutover::state {
namespace {

namespace v1 = ::pgcutover::v1;

// The length of the UTF-8 character at `at`, 0 where there is none (RFC 3629: no overlong forms, no
// surrogates).
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xc0U) == 0x80U; };
  const unsigned first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  if (first >= 0xc2 && first <= 0xdf) {
    return tail(1) ? 2 : 0;
  }
  if (first >= 0xe0 && first <= 0xef) {
    const bool overlong = first == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = first == 0xed && byte(1) >= 0xa0;
    return tail(1) && tail(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool outside = (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) >= 0x90);
    return tail(1) && tail(2) && tail(3) && !outside ? 4 : 0;
  }
  return 0;
}

v1::Finding finding_message(const base::Finding& finding) {
  v1::Finding message;
  message.set_severity(finding.severity == base::Severity::blocks ? v1::Finding::BLOCKS : v1::Finding::WARNS);
  message.set_id(clean(finding.id));
  message.set_server(clean(finding.server));
  message.set_object(clean(finding.object));
  message.set_message(clean(finding.message));
  message.set_remedy(clean(finding.remedy));
  return message;
}

base::Finding finding_of(const v1::Finding& message) {
  base::Finding finding;
  finding.severity =
      message.severity() == v1::Finding::BLOCKS ? base::Severity::blocks : base::Severity::warns;
  finding.id = message.id();
  finding.server = message.server();
  finding.object = message.object();
  finding.message = message.message();
  finding.remedy = message.remedy();
  return finding;
}

void write_server(const ServerStatus& server, v1::Server& message) {
  message.set_address(clean(server.address));
  message.set_database(clean(server.database));
  message.set_version(clean(server.version));
  message.set_database_bytes(server.database_bytes);
  message.set_reachable(server.reachable);
  message.set_takes_writes(server.takes_writes);
}

ServerStatus read_server(const v1::Server& message) {
  return {.address = message.address(),
          .database = message.database(),
          .version = message.version(),
          .database_bytes = message.database_bytes(),
          .reachable = message.reachable(),
          .takes_writes = message.takes_writes()};
}

void write_stream(const StreamStatus& stream, v1::Stream& message) {
  message.set_direction(clean(stream.direction));
  message.set_connected(stream.connected);
  message.set_received_lsn(clean(stream.received_lsn));
  message.set_applied_lsn(clean(stream.applied_lsn));
  message.set_confirmed_lsn(clean(stream.confirmed_lsn));
  message.set_transactions(stream.transactions);
  message.set_changes(stream.changes);
  message.set_applied(stream.applied);
  message.set_compacted(stream.compacted);
  message.set_filtered(stream.filtered);
  message.set_conflicts(stream.conflicts);
  message.set_changes_per_second(stream.changes_per_second);
  message.set_lag_seconds(stream.lag_seconds);
  message.set_lag_bytes(stream.lag_bytes);
  message.set_counted_from_lsn(clean(stream.counted_from_lsn));
  message.set_counted_since_us(stream.counted_since_us);
  for (const auto& one : stream.tables) {
    auto& table = *message.add_tables();
    table.set_table(clean(one.table));
    table.set_received(one.received);
    table.set_applied(one.applied);
    table.set_compacted(one.compacted);
    table.set_filtered(one.filtered);
    table.set_echoes(one.echoes);
    table.set_conflicts(one.conflicts);
  }
  message.set_tables_left_out(stream.tables_left_out);
}

StreamStatus read_stream(const v1::Stream& message) {
  std::vector<TableChanges> tables;
  for (const auto& table : message.tables()) {
    tables.push_back({.table = table.table(),
                      .received = table.received(),
                      .applied = table.applied(),
                      .compacted = table.compacted(),
                      .filtered = table.filtered(),
                      .echoes = table.echoes(),
                      .conflicts = table.conflicts()});
  }
  return {.direction = message.direction(),
          .connected = message.connected(),
          .received_lsn = message.received_lsn(),
          .applied_lsn = message.applied_lsn(),
          .confirmed_lsn = message.confirmed_lsn(),
          .transactions = message.transactions(),
          .changes = message.changes(),
          .applied = message.applied(),
          .compacted = message.compacted(),
          .filtered = message.filtered(),
          .conflicts = message.conflicts(),
          .changes_per_second = message.changes_per_second(),
          .lag_seconds = message.lag_seconds(),
          .lag_bytes = message.lag_bytes(),
          .counted_from_lsn = message.counted_from_lsn(),
          .counted_since_us = message.counted_since_us(),
          .tables = std::move(tables),
          .tables_left_out = message.tables_left_out()};
}

void write_slot(const SlotStatus& slot, v1::Slot& message) {
  message.set_name(clean(slot.name));
  message.set_server(clean(slot.server));
  message.set_wal_status(clean(slot.wal_status));
  message.set_retained_bytes(slot.retained_bytes);
  message.set_safe_bytes(slot.safe_bytes);
  message.set_runway_seconds(slot.runway_seconds);
}

void write_switch(const SwitchStatus& one, v1::Switch& message) {
  message.set_direction(clean(one.direction));
  message.set_outcome(clean(one.outcome));
  message.set_pause_ms(one.pause_ms);
  message.set_at_us(one.at_us);
  message.set_fence_lsn(clean(one.fence_lsn));
  message.set_message(clean(one.message));
}

void write_range(const SequenceRangeStatus& range, v1::SequenceRange& message) {
  message.set_sequence(clean(range.sequence));
  message.set_server(clean(range.server));
  message.set_start(range.start);
  message.set_has_until(range.has_until);
  message.set_until(range.until);
  message.set_at(range.at);
  message.set_used_share(range.used_share);
  message.set_seconds_left(range.seconds_left);
  message.set_state(clean(range.state));
}

SequenceRangeStatus read_range(const v1::SequenceRange& message) {
  return {.sequence = message.sequence(),
          .server = message.server(),
          .start = message.start(),
          .has_until = message.has_until(),
          .until = message.until(),
          .at = message.at(),
          .used_share = message.used_share(),
          .seconds_left = message.seconds_left(),
          .state = message.state()};
}

void write_lists(const Status& status, v1::Status& message) {
  for (const auto& stream : status.streams) {
    write_stream(stream, *message.add_streams());
  }
  for (const auto& slot : status.slots) {
    write_slot(slot, *message.add_slots());
  }
  for (const auto& one : status.switches) {
    write_switch(one, *message.add_switches());
  }
  for (const auto& range : status.sequence_ranges) {
    write_range(range, *message.add_sequence_ranges());
  }
  for (const auto& conflict : status.conflicts) {
    to_message(conflict, *message.add_conflicts());
  }
  for (const auto& finding : status.findings) {
    *message.add_findings() = finding_message(finding);
  }
}

void read_lists(const v1::Status& message, Status& status) {
  for (const auto& stream : message.streams()) {
    status.streams.push_back(read_stream(stream));
  }
  for (const auto& slot : message.slots()) {
    status.slots.push_back({.name = slot.name(),
                            .server = slot.server(),
                            .wal_status = slot.wal_status(),
                            .retained_bytes = slot.retained_bytes(),
                            .safe_bytes = slot.safe_bytes(),
                            .runway_seconds = slot.runway_seconds()});
  }
  for (const auto& one : message.switches()) {
    status.switches.push_back({.direction = one.direction(),
                               .outcome = one.outcome(),
                               .pause_ms = one.pause_ms(),
                               .at_us = one.at_us(),
                               .fence_lsn = one.fence_lsn(),
                               .message = one.message()});
  }
  for (const auto& range : message.sequence_ranges()) {
    status.sequence_ranges.push_back(read_range(range));
  }
  for (const auto& conflict : message.conflicts()) {
    status.conflicts.push_back(from_message(conflict));
  }
  for (const auto& finding : message.findings()) {
    status.findings.push_back(finding_of(finding));
  }
}

void write_parts(const Status& status, v1::Status& message) {
  auto& progress = *message.mutable_progress();
  progress.set_step(clean(status.progress.step));
  progress.set_done(status.progress.done);
  progress.set_total(status.progress.total);
  progress.set_unit(clean(status.progress.unit));
  progress.set_seconds(status.progress.seconds);
  progress.set_current(clean(status.progress.current));
  progress.set_rate(status.progress.rate);
  auto& copy = *message.mutable_copy();
  copy.set_tables_done(status.copy.tables_done);
  copy.set_tables_total(status.copy.tables_total);
  copy.set_bytes_done(status.copy.bytes_done);
  copy.set_bytes_total(status.copy.bytes_total);
  copy.set_rows_done(status.copy.rows_done);
  for (const auto& table : status.copy.tables) {
    auto& to = *copy.add_tables();
    to.set_table(clean(table.table));
    to.set_state(clean(table.state));
    to.set_bytes_done(table.bytes_done);
    to.set_bytes_total(table.bytes_total);
    to.set_rows(table.rows);
    to.set_sent_bytes(table.sent_bytes);
    to.set_since_us(table.since_us);
  }
  auto& controller = *message.mutable_controller();
  controller.set_host(clean(status.controller.host));
  controller.set_version(clean(status.controller.version));
  controller.set_pid(status.controller.pid);
  controller.set_epoch(status.controller.epoch);
  controller.set_alive(status.controller.alive);
  controller.set_since_us(status.controller.since_us);
}

void read_parts(const v1::Status& message, Status& status) {
  // An object that isn't there keeps our "unknown", which isn't protobuf's zero.
  if (message.has_progress()) {
    const auto& progress = message.progress();
    status.progress = {.step = progress.step(),
                       .done = progress.done(),
                       .total = progress.total(),
                       .unit = progress.unit(),
                       .seconds = progress.seconds(),
                       .current = progress.current(),
                       .rate = progress.rate()};
  }
  const auto& copy = message.copy();
  status.copy = {.tables_done = copy.tables_done(),
                 .tables_total = copy.tables_total(),
                 .bytes_done = copy.bytes_done(),
                 .bytes_total = copy.bytes_total(),
                 .rows_done = copy.rows_done(),
                 .tables = {}};
  for (const auto& table : copy.tables()) {
    status.copy.tables.push_back({.table = table.table(),
                                  .state = table.state(),
                                  .bytes_done = table.bytes_done(),
                                  .bytes_total = table.bytes_total(),
                                  .rows = table.rows(),
                                  .sent_bytes = table.sent_bytes(),
                                  .since_us = table.since_us()});
  }
  const auto& controller = message.controller();
  status.controller = {.host = controller.host(),
                       .version = controller.version(),
                       .pid = controller.pid(),
                       .epoch = controller.epoch(),
                       .alive = controller.alive(),
                       .since_us = controller.since_us()};
}

}  // namespace

void to_message(const ConflictRecord& conflict, v1::Report_Conflict& message) {
  message.set_at_us(conflict.at_us);
  message.set_direction(clean(conflict.direction));
  message.set_table(clean(conflict.table));
  message.set_key(clean(conflict.key));
  message.set_kind(clean(conflict.kind));
  message.set_lsn(clean(conflict.lsn));
  message.set_made_by(clean(conflict.made_by));
}

ConflictRecord from_message(const v1::Report_Conflict& message) {
  return {.at_us = message.at_us(),
          .direction = message.direction(),
          .table = message.table(),
          .key = message.key(),
          .kind = message.kind(),
          .lsn = message.lsn(),
          .made_by = message.made_by()};
}

std::string clean(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto length = utf8_length(text, at);
    if (length == 0 || text[at] == '\0') {  // jsonb, where this is stored, takes no zero either
      valid += '?';
      ++at;
    } else {
      valid.append(text, at, length);
      at += length;
    }
  }
  return base::redact(valid);
}

std::string message_to_json(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto result = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!result.ok()) {
    throw base::Bug("can't write JSON: " + result.ToString());
  }
  return json;
}

void message_from_json(std::string_view json, google::protobuf::Message& message, std::string_view what) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto result = google::protobuf::util::JsonStringToMessage(std::string(json), &message, options);
  if (!result.ok()) {
    throw base::Error(std::string(what) + " is not the JSON expected: " + base::redact(result.ToString()),
                      "was it written by another program?");
  }
}

void to_message(const Status& status, v1::Status& message) {
  message.set_name(clean(status.name));
  message.set_state(clean(status.state));
  message.set_step(clean(status.step));
  write_server(status.source, *message.mutable_source());
  write_server(status.target, *message.mutable_target());
  message.set_primary(clean(status.primary));
  message.set_writes_go_to(clean(status.writes_go_to));
  write_parts(status, message);
  write_lists(status, message);
  message.set_message(clean(status.message));
  message.set_at_us(status.at_us);
}

Status from_message(const v1::Status& message) {
  Status status;
  status.name = message.name();
  status.state = message.state();
  status.step = message.step();
  if (message.has_source()) {
    status.source = read_server(message.source());
  }
  if (message.has_target()) {
    status.target = read_server(message.target());
  }
  status.primary = message.primary();
  status.writes_go_to = message.writes_go_to();
  read_parts(message, status);
  read_lists(message, status);
  status.message = message.message();
  status.at_us = message.at_us();
  return status;
}

std::string to_json(const Status& status) {
  v1::Status message;
  to_message(status, message);
  return message_to_json(message);
}

Status from_json(std::string_view json) {
  v1::Status message;
  message_from_json(json, message, "the status");
  return from_message(message);
}

std::string findings_json(const base::Findings& findings) {
  v1::Findings message;
  for (const auto& finding : findings) {
    *message.add_findings() = finding_message(finding);
  }
  return message_to_json(message);
}

}  // namespace cutover::state
