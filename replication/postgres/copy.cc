#include "replication/postgres/copy.h"

#include <algorithm>
#include <libpq-fe.h>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/connection_state.h"

namespace replication::postgres {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 18;
constexpr std::size_t kWriteMax = std::size_t{1} << 30;  // PQputCopyData takes an int

}  // namespace

CopyOut::CopyOut(Connection& connection, std::string_view sql) : connection_(connection), sql_(sql) {
  connection_.exec(sql);
  // In this state libpq hands out the COPY_OUT result again and again; any other state is a wrong statement.
  PGCUTOVER_CHECK(PQtransactionStatus(connection_.raw()) == PQTRANS_ACTIVE, "no COPY TO STDOUT: " + sql_);
}

CopyOut::~CopyOut() {
  PQfreemem(buffer_);
  if (!done_ && connection_.usable()) {
    connection_.cancel_and_drain();
  }
}

bool CopyOut::next(std::span<const char>& data, base::Deadline deadline) {
  PGCUTOVER_CHECK(!done_, "COPY has ended");
  PQfreemem(buffer_);
  buffer_ = nullptr;
  for (;;) {
    const int length = PQgetCopyData(connection_.raw(), &buffer_, 1);
    if (length > 0) {
      data = {buffer_, static_cast<std::size_t>(length)};
      return true;
    }
    if (length == -2) {
      connection_.fail_lost(sql_);
    }
    if (length == -1) {
      done_ = true;
      connection_.finish(sql_, deadline);
      return false;
    }
    connection_.wait_readable(deadline);
  }
}

CopyIn::CopyIn(Connection& connection, std::string_view sql) : connection_(connection), sql_(sql) {
  connection_.exec(sql);
  PGCUTOVER_CHECK(PQtransactionStatus(connection_.raw()) == PQTRANS_ACTIVE, "no COPY FROM STDIN: " + sql_);
}

CopyIn::~CopyIn() {
  if (!done_ && connection_.usable()) {
    connection_.cancel_and_drain();
  }
}

void CopyIn::write(std::span<const char> data, base::Deadline deadline) {
  PGCUTOVER_CHECK(!done_, "COPY has ended");
  while (!data.empty()) {
    const auto part = data.first(std::min(data.size(), kWriteMax));
    const int sent = PQputCopyData(connection_.raw(), part.data(), static_cast<int>(part.size()));
    if (sent < 0) {
      connection_.fail_lost(sql_);
    }
    if (sent == 1) {
      data = data.subspan(part.size());
      unflushed_ += part.size();
    }
    if (sent == 0 || unflushed_ >= kFlushBytes) {
      connection_.flush(deadline);
      unflushed_ = 0;
    }
  }
}

std::int64_t CopyIn::finish(base::Deadline deadline) {
  PGCUTOVER_CHECK(!done_, "COPY has ended");
  done_ = true;
  while (true) {
    const int ended = PQputCopyEnd(connection_.raw(), nullptr);
    if (ended < 0) {
      connection_.fail_lost(sql_);
    }
    if (ended == 1) {
      break;
    }
    connection_.flush(deadline);
  }
  connection_.flush(deadline);
  return connection_.finish(sql_, deadline).affected_rows();
}

}  // namespace replication::postgres
