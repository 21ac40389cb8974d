// Plain structs to protobuf messages and back, for the .cc files that know the generated header (state and
// report).
//
// Messages are incomplete types here: include the generated header before using them.
#pragma once

#include <string>
#include <string_view>

#include "cutover/state/status.h"

namespace google::protobuf {
class Message;
}
namespace pgcutover::v1 {

class Report_Conflict;
class Status;
}  // namespace pgcutover::v1

namespace cutover::state {

// JSON of any message: every field is printed, also zeros; names in lowerCamelCase. Bytes that are no UTF-8
// become '?'.
std::string message_to_json(const google::protobuf::Message& message);
// Unknown fields are ignored. Throws Error naming `what`.
void message_from_json(std::string_view json, google::protobuf::Message& message, std::string_view what);
// Valid UTF-8 in any case, without secrets: what may go into a text field.
std::string clean(std::string_view text);

void to_message(const Status& status, ::pgcutover::v1::Status& message);
Status from_message(const ::pgcutover::v1::Status& message);
void to_message(const ConflictRecord& conflict, ::pgcutover::v1::Report_Conflict& message);
ConflictRecord from_message(const ::pgcutover::v1::Report_Conflict& message);

}  // namespace cutover::state
