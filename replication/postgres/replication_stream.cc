#include "replication/postgres/replication_stream.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <libpq-fe.h>
#include <poll.h>

#include "replication/base/byte_reader.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/connection_state.h"
#include "replication/postgres/quote.h"

namespace replication::postgres {
namespace {

constexpr base::milliseconds kSendTimeout{30'000};
constexpr std::int64_t kPostgresEpochUs = 946'684'800'000'000;  // 2000-01-01 in Unix microseconds

void put_u64(std::string& into, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) {
    into += static_cast<char>((value >> shift) & 0xFF);
  }
}

std::uint64_t now_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count() -
                                    kPostgresEpochUs);
}

}  // namespace

ReplicationStream::ReplicationStream(Connection& connection, const std::string& slot, base::Lsn start,
                                     const std::vector<std::pair<std::string, std::string>>& options)
    : connection_(connection) {
  std::string sql = "START_REPLICATION SLOT " + quote_identifier(slot) + " LOGICAL " + start.to_string();
  const char* separator = " (";
  for (const auto& [name, value] : options) {
    sql += separator + quote_identifier(name) + " " + quote_literal(value);
    separator = ", ";
  }
  sql += options.empty() ? "" : ")";
  connection_.exec(sql);
  PGCUTOVER_CHECK(PQtransactionStatus(connection_.raw()) == PQTRANS_ACTIVE,
                  "the server did not start streaming");
}

ReplicationStream::~ReplicationStream() {
  PQfreemem(buffer_);
  connection_.state_->broken = true;  // the session is of no use for SQL while CopyBoth is open
}

ReplicationStream::Event ReplicationStream::poll() {
  PQfreemem(buffer_);
  buffer_ = nullptr;
  int length = PQgetCopyData(connection_.raw(), &buffer_, 1);
  if (length == 0) {
    if (PQconsumeInput(connection_.raw()) == 0) {
      connection_.fail_lost("streaming");
    }
    length = PQgetCopyData(connection_.raw(), &buffer_, 1);
  }
  if (length == 0) {
    return {};
  }
  if (length == -2) {
    connection_.fail_lost("streaming");
  }
  if (length == -1) {
    connection_.finish("streaming",
                       connection_.default_deadline());  // throws the server's own error where there is one
    connection_.state_->broken = true;
    throw base::Error("the server ended the stream")
        .on(connection_.server())
        .with_sqlstate("08006")
        .set_retryable(true)
        .set_connection_usable(false);
  }
  base::ByteReader reader({buffer_, static_cast<std::size_t>(length)});
  Event event;
  switch (const auto kind = reader.u8(); kind) {
    case 'w':
      event.kind = Event::Kind::data;
      event.wal_start.value = reader.u64();
      event.wal_end.value = reader.u64();
      event.server_time_us = reader.i64();
      event.data = std::span<const char>(buffer_, static_cast<std::size_t>(length)).subspan(reader.offset());
      return event;
    case 'k':
      event.kind = Event::Kind::keepalive;
      event.wal_end.value = reader.u64();
      event.server_time_us = reader.i64();
      event.reply_requested = reader.u8() != 0;
      reader.expect_end("keepalive");
      return event;
    default:
      throw base::DecodeError("unknown replication message " + std::to_string(kind), 0);
  }
}

void ReplicationStream::wait(int wake_fd, base::Deadline deadline) {
  const auto& stop = connection_.stop();
  stop.check();
  const short socket_events = PQflush(connection_.raw()) == 1 ? POLLIN | POLLOUT : POLLIN;
  // poll(2) passes over negative descriptors
  std::array<pollfd, 3> entries{
      {{PQsocket(connection_.raw()), socket_events, 0}, {wake_fd, POLLIN, 0}, {stop.fd(), POLLIN, 0}}};
  if (::poll(entries.data(), entries.size(), deadline.poll_timeout()) < 0 && errno != EINTR) {
    connection_.fail_lost("streaming");
  }
  stop.check();
}

void ReplicationStream::send_status(base::Lsn written, base::Lsn flushed, base::Lsn applied,
                                    bool reply_requested) {
  std::string message = "r";
  put_u64(message, written.value);
  put_u64(message, flushed.value);
  put_u64(message, applied.value);
  put_u64(message, now_us());
  message += static_cast<char>(reply_requested ? 1 : 0);
  const auto deadline = base::Deadline::in(kSendTimeout);
  while (true) {
    const int sent = PQputCopyData(connection_.raw(), message.data(), static_cast<int>(message.size()));
    if (sent < 0) {
      connection_.fail_lost("sending a status update");
    }
    connection_.flush(deadline);
    if (sent == 1) {
      return;
    }
  }
}

void ReplicationStream::finish(base::Deadline deadline) noexcept {
  try {
    const Connection::Uninterrupted guard(connection_);
    PQputCopyEnd(connection_.raw(), nullptr);
    connection_.flush(deadline);
    for (;;) {
      PQfreemem(buffer_);
      buffer_ = nullptr;
      const int length = PQgetCopyData(connection_.raw(), &buffer_, 1);
      if (length < 0) {
        break;
      }
      if (length == 0) {
        connection_.wait_readable(deadline);
      }
    }
    connection_.finish("streaming", deadline);
  } catch (const std::exception&) {
    // Polite or not: closing the session frees the slot as well, a moment later.
  }
  connection_.state_->broken = true;
}

}  // namespace replication::postgres
