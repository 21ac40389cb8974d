// Failures. Exceptions are for failures, values for outcomes, checks for bugs (see check.h).
//
// One root type that an operator can act on: what went wrong, where, on which server, what to do next. The
// predicates tell a caller whether trying again can help; there is no taxonomy beyond what somebody catches.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace replication::base {

// What an exit code says to a script. Declared once, never renumbered, printed by `--help`.
enum class ExitCode : int {
  done = 0,
  unforeseen = 1,
  usage = 2,
  findings = 3,     // a check blocks; nothing changed
  unreachable = 4,  // a server could not be reached; nothing changed
  wrong_state = 5,  // wrong state, or another controller holds the lock
  rolled_back = 6,  // the switch was undone; the old primary takes writes
  data_differs = 7,
  needs_operator = 8,
  bug = 70,
  interrupted = 130,  // interrupted, and rolled back where something had begun
};

// The root of every failure. `message` is one lower-case line with names and values; `hint` says what to do.
class Error : public std::runtime_error {
 public:
  explicit Error(std::string message, std::string hint = {});

  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }
  const std::string& sqlstate() const { return sqlstate_; }  // five characters, or empty
  const std::string& server() const {
    return server_;
  }  // "source", "target" or a description without secrets
  const std::string& where() const {
    return where_;
  }  // table, LSN, file:line, step: whatever names the place
  ExitCode exit_code() const { return exit_code_; }

  // True where the same action may succeed if tried again (lost connection, deadlock, lock not available...).
  bool retryable() const { return retryable_; }
  // False once the connection on which it happened is of no more use.
  bool connection_usable() const { return connection_usable_; }

  // Fluent setters, for `throw Error(...).on("source").at("table public.t")`.
  Error& on(std::string_view server);
  Error& at(std::string_view where);
  Error& with_hint(std::string_view hint);
  Error& with_sqlstate(std::string_view sqlstate);
  Error& with_exit(ExitCode code);
  Error& set_retryable(bool retryable);
  Error& set_connection_usable(bool usable);

  // "message (server, where)" and, on a second line, "HINT: ...".
  std::string describe() const;

 private:
  std::string message_, hint_, sqlstate_, server_, where_;
  ExitCode exit_code_ = ExitCode::unforeseen;
  bool retryable_ = false;
  bool connection_usable_ = true;
};

// The setters of Error for its subclasses. A throw expression throws the static type of its operand: with
// setters that return Error&, `throw TimeoutError(...).on("source")` would throw a mere Error, and nobody
// would catch a TimeoutError.
template <typename Self>
class TypedError : public Error {
 public:
  using Error::Error;
  Self& on(std::string_view server) { return self(Error::on(server)); }
  Self& at(std::string_view where) { return self(Error::at(where)); }
  Self& with_hint(std::string_view hint) { return self(Error::with_hint(hint)); }
  Self& with_sqlstate(std::string_view sqlstate) { return self(Error::with_sqlstate(sqlstate)); }
  Self& with_exit(ExitCode code) { return self(Error::with_exit(code)); }
  Self& set_retryable(bool retryable) { return self(Error::set_retryable(retryable)); }
  Self& set_connection_usable(bool usable) { return self(Error::set_connection_usable(usable)); }

 private:
  static Self& self(Error& error) { return static_cast<Self&>(error); }
};

// Wrong option, plan key, URI or argument. Exit code 2.
class UsageError : public TypedError<UsageError> {
 public:
  explicit UsageError(std::string message, std::string hint = {});
};

// A server that can't be reached or refuses the login. Exit code 4.
class UnreachableError : public TypedError<UnreachableError> {
 public:
  explicit UnreachableError(std::string message, std::string hint = {});
};

// The migration's state doesn't allow the verb, or somebody else holds the controller's lock. Exit code 5.
class StateError : public TypedError<StateError> {
 public:
  explicit StateError(std::string message, std::string hint = {});
};

// A stop was requested (signal, or the owner ended the thread). Exit code 130.
class Stopped : public TypedError<Stopped> {
 public:
  explicit Stopped(std::string message = "stop requested");
};

// A deadline passed. Retryable unless said otherwise.
class TimeoutError : public TypedError<TimeoutError> {
 public:
  explicit TimeoutError(std::string message, std::string hint = {});
};

// No automatic way is safe; an operator has to decide. Exit code 8.
class NeedsOperator : public TypedError<NeedsOperator> {
 public:
  explicit NeedsOperator(std::string message, std::string hint = {});
};

// Broken bytes from the server or a file, with the offset in `where`.
class DecodeError : public TypedError<DecodeError> {
 public:
  DecodeError(std::string message, std::size_t offset);
};

// A bug of ours: see check.h. Exit code 70.
class Bug : public TypedError<Bug> {
 public:
  explicit Bug(std::string message);
};

}  // namespace replication::base
