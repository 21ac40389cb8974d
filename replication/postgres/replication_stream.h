// The streaming replication protocol on a walsender session: START_REPLICATION ... LOGICAL, XLogData,
// keepalives and standby status updates. Follows PostgreSQL's "Streaming Replication Protocol" chapter.
//
// Threads: one (the receiver's). Nothing here decides what may be confirmed; the caller passes it in.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::postgres {

class ReplicationStream {
 public:
  // `connection` is of SessionKind::replication. Options are pgoutput's ("proto_version", "1").
  ReplicationStream(Connection& connection, const std::string& slot, base::Lsn start,
                    const std::vector<std::pair<std::string, std::string>>& options);
  ~ReplicationStream();
  ReplicationStream(const ReplicationStream&) = delete;
  ReplicationStream& operator=(const ReplicationStream&) = delete;

  struct Event {
    enum class Kind { data, keepalive, idle } kind = Kind::idle;
    base::Lsn wal_start;              // data
    base::Lsn wal_end;                // data, keepalive: the server's position
    std::int64_t server_time_us = 0;  // microseconds since 2000-01-01
    bool reply_requested = false;     // keepalive
    std::span<const char> data;       // data: one pgoutput message; lives until the next call
  };
  // The next message that has arrived, without waiting: idle where none has. Throws where the stream ended.
  Event poll();
  // Waits until the socket is readable, `wake_fd` (or -1) is readable, the deadline passes or a stop is
  // requested.
  void wait(int wake_fd, base::Deadline deadline);
  // Standby status update ('r'). `flushed` becomes the slot's confirmed_flush_lsn: only what is durable.
  void send_status(base::Lsn written, base::Lsn flushed, base::Lsn applied, bool reply_requested);
  // Ends the stream politely (CopyDone) so that the slot is free at once; gives up at the deadline.
  void finish(base::Deadline deadline) noexcept;

 private:
  Connection& connection_;
  char* buffer_ = nullptr;
};

}  // namespace replication::postgres
