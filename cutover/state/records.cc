#include "cutover/state/records.h"

#include "cutover/state/message.h"
#include "pgcutover.pb.h"

namespace cutover::state {
namespace {

namespace v1 = ::pgcutover::v1;

template <typename Map>
void write_map(const std::map<std::string, std::string>& from, Map& to) {
  for (const auto& [key, value] : from) {
    to[clean(key)] = clean(value);
  }
}

template <typename Map>
std::map<std::string, std::string> read_map(const Map& from) {
  return {from.begin(), from.end()};
}

}  // namespace

std::string to_json(const CommandRequest& request) {
  v1::CommandRequest message;
  message.set_id(request.id);
  message.set_verb(clean(request.verb));
  write_map(request.arguments, *message.mutable_arguments());
  message.set_asked_by(clean(request.asked_by));
  message.set_at_us(request.at_us);
  return message_to_json(message);
}

CommandRequest command_request_from_json(std::string_view json) {
  v1::CommandRequest message;
  message_from_json(json, message, "the command");
  return {.id = message.id(),
          .verb = message.verb(),
          .arguments = read_map(message.arguments()),
          .asked_by = message.asked_by(),
          .at_us = message.at_us()};
}

std::string to_json(const CommandReply& reply) {
  v1::CommandReply message;
  message.set_id(reply.id);
  message.set_finished(reply.finished);
  message.set_exit_code(reply.exit_code);
  message.set_message(clean(reply.message));
  message.set_hint(clean(reply.hint));
  message.set_output(clean(reply.output));
  return message_to_json(message);
}

CommandReply command_reply_from_json(std::string_view json) {
  v1::CommandReply message;
  message_from_json(json, message, "the reply");
  return {.id = message.id(),
          .finished = message.finished(),
          .exit_code = message.exit_code(),
          .message = message.message(),
          .hint = message.hint(),
          .output = message.output()};
}

}  // namespace cutover::state
