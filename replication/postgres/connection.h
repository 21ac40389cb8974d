// One session with one PostgreSQL server, over libpq, which stays behind this room.
//
// Threads: a Connection belongs to one thread at a time. Every call waits with poll(2) against a Deadline and
// the Stop given at open; when either ends the wait while a statement runs, the statement is cancelled on the
// server (PQcancel) and its result is drained, so that the connection stays usable, or the connection is
// marked broken. Errors: postgres errors become base::Error with SQLSTATE, server name and the statement's
// first words in `where`; a lost connection is an Error with retryable() and !connection_usable(). Session
// settings (engine rule: none of the database's or role's own settings may change our text or time-outs) are
// set at open: UTF8, ISO dates, UTC, time-outs off, read-write, search_path pg_catalog, row_security off...
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/base/stop.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/params.h"
#include "replication/postgres/result.h"

struct pg_conn;    // libpq's PGconn, opaque here
struct pg_cancel;  // PGcancel

namespace replication::postgres {

enum class SessionKind {
  sql,          // an ordinary session with our pinned settings
  replication,  // replication=database: a walsender that takes SQL as well
  console,      // pgbouncer's admin console: simple protocol, no settings, no parameters
};

struct SessionOptions {
  std::string server = "server";               // "source", "target", "pgbouncer web": named in errors
  std::string application_name = "pgcutover";  // fallback_application_name
  SessionKind kind = SessionKind::sql;
  std::vector<std::pair<std::string, std::string>> settings;  // added to the pinned ones, after them
  base::milliseconds connect_timeout{10'000};
  base::milliseconds statement_timeout{60'000};  // default deadline of a statement (ours, not the server's)
};

class Connection {
 public:
  // Throws UnreachableError (also for a refused login). `stop` must outlive the connection.
  static Connection open(const ConnInfo& info, const SessionOptions& options, const base::Stop& stop);
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  // Runs text without parameters through the simple protocol; several statements are allowed, the last result
  // is returned. Extended protocol where parameters are given (one statement).
  Result exec(std::string_view sql);
  Result exec(std::string_view sql, base::Deadline deadline);
  Result exec(std::string_view sql, const Params& params);
  Result exec(std::string_view sql, const Params& params, base::Deadline deadline);

  // The same with the expected shape; another shape is a Bug.
  Result one_row(std::string_view sql, const Params& params = {});
  std::string one_value(std::string_view sql, const Params& params = {});
  std::optional<std::string> maybe_value(std::string_view sql,
                                         const Params& params = {});  // 0 or 1 row, NULL = nothing
  void none(std::string_view sql, const Params& params = {});         // no rows expected

  // Waits for a NOTIFY on any channel we LISTEN to, for the deadline, or for a stop; true where one arrived.
  bool wait_notification(base::Deadline deadline);

  int server_version() const;           // 150018 = 15.18
  std::string server_encoding() const;  // of the database: "UTF8"
  int server_major() const { return server_version() / 10000; }
  int backend_pid() const;
  const std::string& server() const;  // SessionOptions::server
  std::string database() const;
  std::string user() const;
  bool usable() const;          // false once lost
  bool in_transaction() const;  // also true in a failed transaction
  const base::Stop& stop() const;
  base::Deadline default_deadline() const;  // now + statement_timeout
  // While the guard lives a stop request doesn't interrupt this connection (undo, rollback).
  class Uninterrupted {
   public:
    explicit Uninterrupted(Connection& connection);
    ~Uninterrupted();
    Uninterrupted(const Uninterrupted&) = delete;
    Uninterrupted& operator=(const Uninterrupted&) = delete;

   private:
    Connection& connection_;
    const base::Stop* before_;
  };

  // Of the ConnInfo; empty where nobody asked for them.
  const std::map<std::string, std::string>& application_settings() const;

  // WARNINGs and NOTICEs of the server since the last call: (SQLSTATE, message).
  std::vector<std::pair<std::string, std::string>> take_notices();

  void close() noexcept;

 private:
  friend class Pipeline;
  friend class CopyOut;
  friend class CopyIn;
  friend class ReplicationStream;
  struct State;
  explicit Connection(std::unique_ptr<State> state);
  static Connection open_once(const ConnInfo& info, const SessionOptions& options, const base::Stop& stop);

  pg_conn* raw() const;
  void flush(base::Deadline deadline);
  // How much there was to read, at least; libpq has it now.
  std::size_t wait_readable(base::Deadline deadline);
  // The next result, waiting for it; null at the end of a statement's results.
  pg_result* next_result(base::Deadline deadline);
  Result finish(std::string_view sql, base::Deadline deadline);
  [[noreturn]] void fail_lost(std::string_view doing);
  [[noreturn]] void fail_result(pg_result* result, std::string_view sql);
  void cancel_and_drain() noexcept;

  std::unique_ptr<State> state_;
};

}  // namespace replication::postgres
