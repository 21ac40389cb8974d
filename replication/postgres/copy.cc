#include "replication/postgres/copy.h"

#include <algorithm>
#include <libpq-fe.h>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/connection_state.h"

namespace replication::postgres {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 18;
constexpr std::size_t kReadMax = std::size_t{1} << 30;  // PQgetlineAsync takes an int

}  // namespace

CopyOut::CopyOut(Connection& connection, std::string_view sql) : connection_(connection), sql_(sql) {
  connection_.exec(sql);
  // In this state libpq hands out the COPY_OUT result again and again; any other state is a wrong statement.
  PGCUTOVER_CHECK(PQtransactionStatus(connection_.raw()) == PQTRANS_ACTIVE, "no COPY TO STDOUT: " + sql_);
}

CopyOut::~CopyOut() {
  if (!done_ && connection_.usable()) {
    connection_.cancel_and_drain();
  }
}

// PQgetCopyData would give each row in memory of its own. This older call gives it in pieces.
std::size_t CopyOut::read(std::span<char> into, base::Deadline deadline) {
  PGCUTOVER_CHECK(!done_, "COPY has ended");
  const auto room = static_cast<int>(std::min(into.size(), kReadMax));
  PGCUTOVER_CHECK(room > 0, "no room for a row");
  for (;;) {
    const int length = PQgetlineAsync(connection_.raw(), into.data(), room);
    if (length < 0) {  // the end, or an error: the result tells
      done_ = true;
      rows_ = connection_.finish(sql_, deadline).affected_rows();
      return 0;
    }
    if (length > 0) {
      arrived_ = 0;
      given_ = length < room ? 0 : given_ + static_cast<std::size_t>(length);
      if (given_ > 0) {
        before_more_(given_);
      }
      return static_cast<std::size_t>(length);
    }
    if (arrived_ > 0) {
      before_more_(arrived_);
    }
    arrived_ += connection_.wait_readable(deadline);
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
    const auto part = data.first(std::min(data.size(), kFlushBytes));
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
