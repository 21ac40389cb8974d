#include "replication/postgres/connection.h"

#include <algorithm>
#include <future>
#include <libpq-fe.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <thread>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/redaction.h"
#include "replication/postgres/connection_state.h"
#include "replication/postgres/sqlstate.h"

namespace replication::postgres {
namespace {

constexpr base::milliseconds kDrainAfterCancel{3'000};

}  // namespace

std::string one_line(const char* text) {
  std::string line(text == nullptr ? "" : text);
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) {
    line.pop_back();
  }
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

std::string statement_words(std::string_view sql) {
  constexpr std::size_t kLength = 100;
  std::string words;
  for (const char c : sql) {
    const bool space = c == ' ' || c == '\n' || c == '\t';
    if (space && (words.empty() || words.back() == ' ')) {
      continue;
    }
    words += space ? ' ' : c;
    if (words.size() >= kLength) {
      words += "...";
      break;
    }
  }
  return base::redact(words);
}

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection& Connection::operator=(Connection&&) noexcept = default;
Connection::~Connection() = default;

pg_conn* Connection::raw() const {
  PGCUTOVER_CHECK(state_ && state_->conn != nullptr, "the connection was closed");
  return state_->conn;
}

void Connection::close() noexcept {
  if (state_) {
    PQfinish(state_->conn);
    state_->conn = nullptr;
    state_->broken = true;
  }
}

void Connection::fail_lost(std::string_view doing) {
  std::string why = base::redact(one_line(PQerrorMessage(raw())));
  state_->broken = true;
  throw base::Error("lost the connection to " + state_->server + (why.empty() ? "" : ": " + why))
      .on(state_->server)
      .at(statement_words(doing))
      .with_sqlstate("08006")
      .set_retryable(true)
      .set_connection_usable(false);
}

void Connection::fail_result(pg_result* result, std::string_view sql) {
  const auto field = [result](int code) {
    const char* text = PQresultErrorField(result, code);
    return one_line(text);
  };
  const std::string code = field(PG_DIAG_SQLSTATE);
  std::string message = field(PG_DIAG_MESSAGE_PRIMARY);
  if (const auto detail = field(PG_DIAG_MESSAGE_DETAIL); !detail.empty()) {
    message += ": " + detail;
  }
  const std::string hint = field(PG_DIAG_MESSAGE_HINT);
  if (message.empty()) {
    message = one_line(PQresultErrorMessage(result));
  }
  PQclear(result);
  if (PQstatus(state_->conn) == CONNECTION_BAD || sqlstate::ends_session(code)) {
    state_->broken = true;
  }
  const bool no_code_but_lost = code.empty() && state_->broken;
  throw base::Error(base::redact(message), hint)
      .on(state_->server)
      .at(statement_words(sql))
      .with_sqlstate(no_code_but_lost ? "08006" : code)
      .set_retryable(no_code_but_lost || sqlstate::retryable(code))
      .set_connection_usable(!state_->broken);
}

void Connection::flush(base::Deadline deadline) {
  for (;;) {
    const int left = PQflush(raw());
    if (left == 0) {
      return;
    }
    if (left < 0) {
      fail_lost("sending");
    }
    // While we wait to send, the server may have to get rid of its answers first.
    const short ready = base::poll_fd(PQsocket(raw()), POLLIN | POLLOUT, deadline, *state_->stop);
    if (ready == 0) {
      state_->broken = true;  // half a message was sent: the session can't be used any more
      throw base::TimeoutError(state_->server + " takes no data")
          .on(state_->server)
          .set_connection_usable(false);
    }
    if ((ready & POLLIN) != 0 && PQconsumeInput(raw()) == 0) {
      fail_lost("sending");
    }
  }
}

std::size_t Connection::wait_readable(base::Deadline deadline) {
  if (base::poll_fd(PQsocket(raw()), POLLIN, deadline, *state_->stop) == 0) {
    throw base::TimeoutError("no answer from " + state_->server + " in time").on(state_->server);
  }
  int bytes = 0;
  if (ioctl(PQsocket(raw()), FIONREAD, &bytes) != 0) {
    bytes = 0;
  }
  if (PQconsumeInput(raw()) == 0) {
    fail_lost("waiting for an answer");
  }
  return static_cast<std::size_t>(bytes);
}

pg_result* Connection::next_result(base::Deadline deadline) {
  try {
    while (PQisBusy(raw()) != 0) {
      wait_readable(deadline);
    }
  } catch (const base::Error& error) {
    if (state_->broken) {
      throw;
    }
    if (state_->pipeline) {
      state_->broken = true;  // what of the burst was done is known to the server only
    } else {
      cancel_and_drain();
    }
    throw;
  }
  return PQgetResult(raw());
}

// PQcancel connects anew and blocks; a dead network must not block us with it, so a detached thread does it.
// It returns once the server has sent the signal. We wait for that: a request still under way when the
// statement has ended by itself would cancel the next one.
void Connection::cancel_and_drain() noexcept {
  try {
    std::future<void> requested;
    if (PGcancel* cancel = PQgetCancel(state_->conn); cancel != nullptr) {
      auto done = std::make_shared<std::promise<void>>();
      requested = done->get_future();
      std::thread([cancel, done] {
        char why[256];
        PQcancel(cancel, why, sizeof why);
        PQfreeCancel(cancel);
        done->set_value();
      }).detach();
    }
    const auto deadline = base::Deadline::in(kDrainAfterCancel);
    const auto& never = base::Stop::never();
    const auto fill = [&] {
      if (base::poll_fd(PQsocket(state_->conn), POLLIN, deadline, never) == 0 ||
          PQconsumeInput(state_->conn) == 0) {
        throw base::TimeoutError("no answer to a cancel request");
      }
    };
    for (;;) {
      while (PQisBusy(state_->conn) != 0) {
        fill();
      }
      PGresult* result = PQgetResult(state_->conn);
      if (result == nullptr) {
        state_->broken = state_->broken || (requested.valid() && requested.wait_for(*deadline.remaining()) !=
                                                                     std::future_status::ready);
        return;
      }
      const auto status = PQresultStatus(result);
      PQclear(result);
      if (status == PGRES_COPY_IN) {
        PQputCopyEnd(state_->conn, "cancelled");
        while (PQflush(state_->conn) == 1) {
          base::poll_fd(PQsocket(state_->conn), POLLOUT, deadline, never);
        }
      }
      if (status == PGRES_COPY_OUT) {
        char* buffer = nullptr;
        int length = 0;
        while ((length = PQgetCopyData(state_->conn, &buffer, 1)) >= 0) {
          PQfreemem(buffer);
          buffer = nullptr;
          if (length == 0) {
            fill();
          }
        }
      }
      if (status == PGRES_COPY_BOTH) {
        state_->broken = true;
        return;
      }
    }
  } catch (...) {
    state_->broken = true;
  }
}

Result Connection::finish(std::string_view sql, base::Deadline deadline) {
  Result last;
  PGresult* error = nullptr;
  while (PGresult* result = next_result(deadline)) {
    const auto status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) {
      PQclear(error);
      error = result;
      if (PQstatus(raw()) == CONNECTION_BAD) {
        break;
      }
    } else {
      last = Result(result);
      if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
        break;  // the copy's own class goes on from here
      }
    }
  }
  if (error != nullptr) {
    fail_result(error, sql);
  }
  return last;
}

Result Connection::exec(std::string_view sql) {
  return exec(sql, default_deadline());
}
Result Connection::exec(std::string_view sql, base::Deadline deadline) {
  return exec(sql, Params{}, deadline);
}
Result Connection::exec(std::string_view sql, const Params& params) {
  return exec(sql, params, default_deadline());
}

Result Connection::exec(std::string_view sql, const Params& params, base::Deadline deadline) {
  state_->stop->check();
  if (!usable()) {
    fail_lost(sql);
  }
  const std::string text(sql);
  const int sent =
      params.size() == 0
          ? PQsendQuery(raw(), text.c_str())
          : PQsendQueryParams(raw(), text.c_str(), static_cast<int>(params.size()), params.types(),
                              params.values(), params.lengths(), params.formats(), 0);
  if (sent == 0) {
    fail_lost(sql);
  }
  flush(deadline);
  return finish(sql, deadline);
}

Result Connection::one_row(std::string_view sql, const Params& params) {
  Result result = exec(sql, params);
  PGCUTOVER_CHECK(result.rows() == 1, "one row expected of: " + statement_words(sql));
  return result;
}

std::string Connection::one_value(std::string_view sql, const Params& params) {
  return one_row(sql, params).text(0, 0);
}

std::optional<std::string> Connection::maybe_value(std::string_view sql, const Params& params) {
  const Result result = exec(sql, params);
  PGCUTOVER_CHECK(result.rows() <= 1, "at most one row expected of: " + statement_words(sql));
  return result.rows() == 0 ? std::nullopt : result.optional_text(0, 0);
}

void Connection::none(std::string_view sql, const Params& params) {
  const Result result = exec(sql, params);
  PGCUTOVER_CHECK(result.rows() == 0, "no rows expected of: " + statement_words(sql));
}

bool Connection::wait_notification(base::Deadline deadline) {
  for (;;) {
    if (PGnotify* notification = PQnotifies(raw()); notification != nullptr) {
      PQfreemem(notification);
      while (PGnotify* more = PQnotifies(raw())) {
        PQfreemem(more);
      }
      return true;
    }
    if (state_->stop->requested()) {
      return false;
    }
    try {
      if (base::poll_fd(PQsocket(raw()), POLLIN, deadline, *state_->stop) == 0) {
        return false;
      }
    } catch (const base::Stopped&) {
      return false;
    }
    if (PQconsumeInput(raw()) == 0) {
      fail_lost("waiting for a notification");
    }
  }
}

int Connection::server_version() const {
  return PQserverVersion(raw());
}
std::string Connection::server_encoding() const {
  const char* name = PQparameterStatus(raw(), "server_encoding");
  return name == nullptr ? "" : name;
}
int Connection::backend_pid() const {
  return PQbackendPID(raw());
}
const std::string& Connection::server() const {
  return state_->server;
}
std::string Connection::database() const {
  return PQdb(raw());
}
std::string Connection::user() const {
  return PQuser(raw());
}
bool Connection::usable() const {
  return state_ && !state_->broken && state_->conn != nullptr && PQstatus(state_->conn) == CONNECTION_OK;
}
bool Connection::in_transaction() const {
  const auto status = PQtransactionStatus(raw());
  return status == PQTRANS_INTRANS || status == PQTRANS_INERROR || status == PQTRANS_ACTIVE;
}
const base::Stop& Connection::stop() const {
  return *state_->stop;
}
const std::map<std::string, std::string>& Connection::application_settings() const {
  return state_->application_settings;
}
base::Deadline Connection::default_deadline() const {
  return base::Deadline::in(state_->statement_timeout);
}

std::vector<std::pair<std::string, std::string>> Connection::take_notices() {
  return std::exchange(state_->notices, {});
}

Connection::Uninterrupted::Uninterrupted(Connection& connection)
    : connection_(connection), before_(std::exchange(connection.state_->stop, &base::Stop::never())) {}

Connection::Uninterrupted::~Uninterrupted() {
  connection_.state_->stop = before_;
}

}  // namespace replication::postgres
