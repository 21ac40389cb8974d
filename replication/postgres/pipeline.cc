#include "replication/postgres/pipeline.h"

#include <libpq-fe.h>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/connection_state.h"

namespace replication::postgres {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 20;
constexpr base::milliseconds kDrainAtEnd{10'000};

std::size_t bytes_of(const Params& params) {
  std::size_t total = 0;
  for (std::size_t i = 0; i < params.size(); ++i) {
    total += static_cast<std::size_t>(params.lengths()[i]);
  }
  return total;
}

std::string error_line(const PGresult* result) {
  std::string line = one_line(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
  for (const int code : {PG_DIAG_MESSAGE_DETAIL, PG_DIAG_CONTEXT}) {
    if (const auto part = one_line(PQresultErrorField(result, code)); !part.empty()) {
      line += ": " + part;
    }
  }
  return line.empty() ? one_line(PQresultErrorMessage(result)) : line;
}

}  // namespace

Pipeline::Pipeline(Connection& connection) : connection_(connection) {
  PGCUTOVER_CHECK(connection_.usable(), "pipeline on a lost connection");
  PGCUTOVER_CHECK(PQenterPipelineMode(connection_.raw()) == 1, "can't enter pipeline mode");
  connection_.state_->pipeline = true;
}

Pipeline::~Pipeline() {
  try {
    const Connection::Uninterrupted guard(connection_);
    if (connection_.usable() && unsynced_) {
      sync();
    }
    const auto deadline = base::Deadline::in(kDrainAtEnd);
    while (connection_.usable() && pending_ > 0) {
      next(deadline);
    }
  } catch (const base::Error&) {
    connection_.state_->broken = true;
  }
  connection_.state_->pipeline = false;
  if (connection_.usable() && PQexitPipelineMode(connection_.raw()) != 1) {
    connection_.state_->broken = true;
  }
}

void Pipeline::sent(int ok, std::string_view what, std::size_t bytes) {
  if (ok != 1) {
    connection_.fail_lost(what);
  }
  ++pending_;
  unsynced_ = true;
  unflushed_ += bytes;
  if (unflushed_ >= kFlushBytes) {
    flush();
  }
}

void Pipeline::flush() {
  connection_.flush(connection_.default_deadline());
  unflushed_ = 0;
}

void Pipeline::prepare(const std::string& name, const std::string& sql, const Params& types) {
  sent(PQsendPrepare(connection_.raw(), name.c_str(), sql.c_str(), static_cast<int>(types.size()),
                     types.types()),
       sql, sql.size());
}

void Pipeline::execute_prepared(const std::string& name, const Params& params) {
  sent(PQsendQueryPrepared(connection_.raw(), name.c_str(), static_cast<int>(params.size()), params.values(),
                           params.lengths(), params.formats(), 0),
       name, bytes_of(params));
}

void Pipeline::execute(std::string_view sql, const Params& params) {
  sent(PQsendQueryParams(connection_.raw(), std::string(sql).c_str(), static_cast<int>(params.size()),
                         params.types(), params.values(), params.lengths(), params.formats(), 0),
       sql, sql.size() + bytes_of(params));
}

void Pipeline::sync() {
  if (PQpipelineSync(connection_.raw()) != 1) {
    connection_.fail_lost("pipeline sync");
  }
  ++pending_;
  unsynced_ = false;
  flush();
}

Pipeline::Outcome Pipeline::next(base::Deadline deadline) {
  PGCUTOVER_CHECK(pending_ > 0, "nothing was sent that could be answered");
  PGresult* result = connection_.next_result(deadline);
  if (result == nullptr) {  // separates two statements' results
    result = connection_.next_result(deadline);
  }
  if (result == nullptr) {
    connection_.fail_lost("reading a pipeline's results");
  }
  --pending_;
  Outcome outcome;
  switch (PQresultStatus(result)) {
    case PGRES_PIPELINE_SYNC:
      outcome.kind = Outcome::Kind::synced;
      break;
    case PGRES_PIPELINE_ABORTED:
      outcome.kind = Outcome::Kind::skipped;
      break;
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
      outcome.result = Result(result);
      return outcome;
    default:
      if (PQstatus(connection_.raw()) == CONNECTION_BAD) {
        PQclear(result);
        connection_.fail_lost("reading a pipeline's results");
      }
      outcome.kind = Outcome::Kind::failed;
      outcome.sqlstate = one_line(PQresultErrorField(result, PG_DIAG_SQLSTATE));
      outcome.message = error_line(result);
  }
  PQclear(result);
  return outcome;
}

}  // namespace replication::postgres
