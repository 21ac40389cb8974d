#include "cutover/state/sequence_list.h"

#include "cutover/state/message.h"
#include "pgcutover.pb.h"

namespace cutover::state {
namespace {

namespace v1 = ::pgcutover::v1;

void write_sequence(const SequenceLine& line, v1::Sequences::Sequence& message) {
  message.set_server(clean(line.server));
  message.set_sequence(clean(line.sequence));
  message.set_last_value(line.last_value);
  message.set_is_called(line.is_called);
  message.set_increment(line.increment);
  message.set_minimum(line.minimum);
  message.set_maximum(line.maximum);
  message.set_column_limit(line.column_limit);
  message.set_cache(line.cache);
  message.set_cycle(line.cycle);
  for (const auto& column : line.used_by) {
    message.add_used_by(clean(column));
  }
  for (const auto& place : line.mentioned_in) {
    message.add_mentioned_in(clean(place));
  }
  message.set_has_highest(line.highest.has_value());
  message.set_highest(line.highest.value_or(0));
  message.set_rate(line.rate);
}

void write_bump(const BumpLine& line, v1::Sequences::Bump& message) {
  message.set_sequence(clean(line.sequence));
  message.set_from(line.from);
  message.set_has_target_value(line.target_value.has_value());
  message.set_target_value(line.target_value.value_or(0));
  message.set_has_source_value(line.source_value.has_value());
  message.set_source_value(line.source_value.value_or(0));
  message.set_clipped(line.clipped);
  message.set_need(clean(line.need));
  message.set_done(line.done);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

std::string sequence_text(const SequenceLine& line) {
  std::string text = line.server + ": " + line.sequence +
                     (line.is_called ? " at " : " not used, starts at ") + std::to_string(line.last_value);
  if (line.increment != 1) {
    text += ", increment " + std::to_string(line.increment);
  }
  if (line.cache != 1) {
    text += ", cache " + std::to_string(line.cache);
  }
  text += ", limit " + std::to_string(line.column_limit != 0 ? line.column_limit
                                      : line.increment > 0   ? line.maximum
                                                             : line.minimum);
  if (line.cycle) {
    text += ", CYCLES";
  }
  if (line.highest) {
    text += ", furthest id present " + std::to_string(*line.highest);
  }
  if (line.rate > 0) {
    text += ", " + std::to_string(line.rate) + " ids/s";
  }
  if (!line.used_by.empty()) {
    text += "; feeds " + joined(line.used_by);
  }
  if (!line.mentioned_in.empty()) {
    text += "; named in " + joined(line.mentioned_in);
  }
  return text +
         (line.used_by.empty() && line.mentioned_in.empty() ? "; used by nothing in the database\n" : "\n");
}

std::string bump_text(const BumpLine& line) {
  std::string text = line.sequence + ": from " + std::to_string(line.from);
  if (line.target_value) {
    text += ", target behind " + std::to_string(*line.target_value);
  }
  if (line.source_value) {
    text += ", source behind " + std::to_string(*line.source_value);
  }
  return text + " (" + line.need + (line.clipped ? "; CUT to what is left" : "") + ")" +
         (line.done ? ", set\n" : "\n");
}

}  // namespace

std::string to_json(const SequenceList& list) {
  v1::Sequences message;
  for (const auto& line : list.sequences) {
    write_sequence(line, *message.add_sequences());
  }
  for (const auto& line : list.bumps) {
    write_bump(line, *message.add_bumps());
  }
  for (const auto& key : list.other_keys) {
    auto& to = *message.add_other_keys();
    to.set_server(clean(key.server));
    to.set_column(clean(key.column));
    to.set_type(clean(key.type));
    to.set_kind(clean(key.kind));
    to.set_primary(key.primary);
    to.set_needs_no_headroom(key.needs_no_headroom);
  }
  // One way from these structs to messages: a status that has nothing else.
  Status holder;
  holder.sequence_ranges = list.ranges;
  holder.findings = list.findings;
  v1::Status status;
  to_message(holder, status);
  message.mutable_ranges()->Swap(status.mutable_sequence_ranges());
  message.mutable_findings()->Swap(status.mutable_findings());
  message.set_sessions(list.sessions);
  return message_to_json(message) + "\n";
}

std::string to_text(const SequenceList& list) {
  std::string text;
  for (const auto& line : list.sequences) {
    text += sequence_text(line);
  }
  for (const auto& line : list.bumps) {
    text += bump_text(line);
  }
  for (const auto& range : list.ranges) {
    text += range_text(range) + "\n";
  }
  for (const auto& key : list.other_keys) {
    text += key.server + ": " + key.column + (key.type.empty() ? "" : " (" + key.type + ")") + ": " +
            key.kind +
            (key.needs_no_headroom ? ", needs no headroom\n"
                                   : ", headroom can't help: both sides can make the same one\n");
  }
  return text + findings_text(list.findings);
}

}  // namespace cutover::state
