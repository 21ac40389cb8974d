#include "replication/base/error.h"

namespace replication::base {

Error::Error(std::string message, std::string hint)
    : std::runtime_error(message), message_(std::move(message)), hint_(std::move(hint)) {}

Error& Error::on(std::string_view server) {
  if (server_.empty()) {
    server_ = server;
  }
  return *this;
}

Error& Error::at(std::string_view where) {
  if (where_.empty()) {
    where_ = where;
  }
  return *this;
}

Error& Error::with_hint(std::string_view hint) {
  hint_ = hint;
  return *this;
}

Error& Error::with_sqlstate(std::string_view sqlstate) {
  sqlstate_ = sqlstate;
  return *this;
}

Error& Error::with_exit(ExitCode code) {
  exit_code_ = code;
  return *this;
}

Error& Error::set_retryable(bool retryable) {
  retryable_ = retryable;
  return *this;
}

Error& Error::set_connection_usable(bool usable) {
  connection_usable_ = usable;
  return *this;
}

std::string Error::describe() const {
  std::string text = message_;
  if (!server_.empty() || !where_.empty()) {
    text += " (" + server_ + (server_.empty() || where_.empty() ? "" : ", ") + where_ + ")";
  }
  if (!sqlstate_.empty()) {
    text += " [SQLSTATE " + sqlstate_ + "]";
  }
  if (!hint_.empty()) {
    text += "\nHINT: " + hint_;
  }
  return text;
}

UsageError::UsageError(std::string message, std::string hint)
    : TypedError(std::move(message), std::move(hint)) {
  with_exit(ExitCode::usage);
}

UnreachableError::UnreachableError(std::string message, std::string hint)
    : TypedError(std::move(message), std::move(hint)) {
  with_exit(ExitCode::unreachable).set_retryable(true).set_connection_usable(false);
}

StateError::StateError(std::string message, std::string hint)
    : TypedError(std::move(message), std::move(hint)) {
  with_exit(ExitCode::wrong_state);
}

Stopped::Stopped(std::string message) : TypedError(std::move(message)) {
  with_exit(ExitCode::interrupted);
}

TimeoutError::TimeoutError(std::string message, std::string hint)
    : TypedError(std::move(message), std::move(hint)) {
  set_retryable(true);
}

NeedsOperator::NeedsOperator(std::string message, std::string hint)
    : TypedError(std::move(message), std::move(hint)) {
  with_exit(ExitCode::needs_operator);
}

DecodeError::DecodeError(std::string message, std::size_t offset) : TypedError(std::move(message)) {
  at("offset " + std::to_string(offset));
}

Bug::Bug(std::string message)
    : TypedError(std::move(message),
                 "this is a bug of pgcutover: please report it with the log and `pgcutover --version`") {
  with_exit(ExitCode::bug);
}

}  // namespace replication::base
