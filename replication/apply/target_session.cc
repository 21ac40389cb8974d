#include "replication/apply/target_session.h"

#include "replication/base/error.h"
#include "replication/postgres/as_applications.h"
#include "replication/postgres/params.h"
#include "replication/postgres/sqlstate.h"

namespace replication::apply {
namespace {

// Ours, since a set-based statement or a wait for a lock may take long: a stop ends it.
constexpr base::milliseconds kStatementTimeout{3'600'000};

void become_replica(postgres::Connection& connection) {
  try {
    connection.exec("SET session_replication_role = 'replica'");
  } catch (const base::Error& error) {
    if (error.sqlstate() != postgres::sqlstate::kInsufficientPrivilege) {
      throw;
    }
    const std::string role = connection.user();
    throw base::Error("role " + role + " may not set session_replication_role, so triggers would fire twice",
                      "as a superuser: GRANT SET ON PARAMETER session_replication_role TO \"" + role +
                          "\" (15 and later), else make it a superuser for the migration")
        .on(connection.server())
        .with_sqlstate(error.sqlstate());
  }
}

}  // namespace

bool TargetSession::ensure_open() {
  if (usable()) {
    return false;
  }
  connection_.reset();
  postgres::SessionOptions session;
  session.server = options_.server_name;
  session.application_name = "pgcutover apply " + options_.direction;
  session.statement_timeout = kStatementTimeout;
  session.settings = {
      {"synchronous_commit", "off"},
      {"jit", "off"},
      // A set's size isn't known when it is planned: probe the index for each row, never scan.
      {"plan_cache_mode", "force_generic_plan"},
      {"enable_seqscan", "off"},
      {"enable_hashjoin", "off"},
      {"enable_mergejoin", "off"}};
  connection_ = postgres::Connection::open(options_.server, session, stop_);
  become_replica(*connection_);
  end_predecessor();
  const auto self = connection_->one_row(
      "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()");
  backend_pid_ = self.text(0, 0);
  backend_start_ = self.text_or(0, 1, "");
  postgres::compute_as_applications(*connection_, postgres::Computes::rows);
  return true;
}

void TargetSession::end_predecessor() {
  if (backend_pid_.empty()) {
    return;
  }
  // The server may not have noticed the loss; its transaction would hold the progress row's lock.
  connection_->exec(
      "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
      "WHERE pid = $1::pg_catalog.int4 AND backend_start = $2::pg_catalog.timestamptz",
      postgres::Params{backend_pid_, backend_start_});
}

Progress TargetSession::progress() {
  const auto progress = read_settled_progress(*connection_, options_.direction);
  if (!progress) {
    throw base::StateError("there is no progress \"" + options_.direction + "\"",
                           "the copy was not prepared here")
        .on(connection_->server());
  }
  if (progress->epoch != options_.token.epoch()) {
    throw base::StateError("another controller took over: epoch " + std::to_string(progress->epoch) +
                           ", ours is " + std::to_string(options_.token.epoch()))
        .on(connection_->server());
  }
  return *progress;
}

}  // namespace replication::apply
