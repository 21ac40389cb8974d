// The SQLSTATE codes that the code decides by, under the names of PostgreSQL's errcodes.txt.
#pragma once

#include <string_view>

namespace replication::postgres::sqlstate {

inline constexpr std::string_view kNotNullViolation = "23502";
inline constexpr std::string_view kInvalidText = "22P02";
inline constexpr std::string_view kUniqueViolation = "23505";
inline constexpr std::string_view kExclusionViolation = "23P01";
inline constexpr std::string_view kForeignKeyViolation = "23503";
inline constexpr std::string_view kCheckViolation = "23514";
inline constexpr std::string_view kSerializationFailure = "40001";
inline constexpr std::string_view kDeadlockDetected = "40P01";
inline constexpr std::string_view kInsufficientPrivilege = "42501";
inline constexpr std::string_view kUndefinedTable = "42P01";
inline constexpr std::string_view kUndefinedFunction = "42883";
inline constexpr std::string_view kUndefinedFile = "58P01";
inline constexpr std::string_view kUndefinedObject = "42704";
inline constexpr std::string_view kInternalError = "XX000";
inline constexpr std::string_view kUndefinedSchema = "3F000";
inline constexpr std::string_view kDuplicateObject = "42710";
inline constexpr std::string_view kLockNotAvailable = "55P03";
inline constexpr std::string_view kObjectInUse = "55006";
inline constexpr std::string_view kObjectNotInPrerequisiteState = "55000";
inline constexpr std::string_view kQueryCanceled = "57014";
inline constexpr std::string_view kDiskFull = "53100";
inline constexpr std::string_view kOutOfMemory = "53200";

// True where the same statement may succeed later: class 08 (connection), 40 (rollback), 53 (resources),
// 55P03 / 55006 (lock, object in use), 57P01-57P05 (shutdown, cannot connect now).
bool retryable(std::string_view code);
// True where the session is gone: class 08, 57P01-57P05.
bool ends_session(std::string_view code);

}  // namespace replication::postgres::sqlstate
