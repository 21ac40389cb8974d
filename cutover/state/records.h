// What the state tables hold besides rows of numbers: step events and commands from one process to another
// (these as JSON of pgcutover.proto). Plain data; no SQL here. Never a secret in them: the writer redacts.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace cutover::state {

// One entry of the append-only journal of steps; the state is a fold over them.
struct Event {
  std::int64_t id = 0;  // given by the table
  std::int64_t at_us = 0;
  std::int64_t epoch = 0;
  std::string step = {};
  std::string kind = {};  // "began", "done", "failed", "undone", "note"
  std::string message = {};
};

struct CommandRequest {
  std::int64_t id = 0;
  std::string verb = {};
  std::map<std::string, std::string> arguments = {};
  std::string asked_by = {};  // user@host pid
  std::int64_t at_us = 0;
};
std::string to_json(const CommandRequest& request);
CommandRequest command_request_from_json(std::string_view json);

struct CommandReply {
  std::int64_t id = 0;
  bool finished = false;
  int exit_code = 0;
  std::string message = {}, hint = {};
  std::string output = {};  // for stdout
};
std::string to_json(const CommandReply& reply);
CommandReply command_reply_from_json(std::string_view json);

}  // namespace cutover::state
