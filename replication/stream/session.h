// One connection's life of the receiver: checks that the stream can go on without a gap, starts it, pumps
// messages into chunks and positions back, until the connection fails or a stop is requested.
//
// Threads: the receiver's; `Positions` is shared with whoever asks the receiver.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/replication_stream.h"
#include "replication/stream/chunk_builder.h"
#include "replication/stream/receiver.h"
#include "replication/stream/timeline.h"

namespace replication::stream {

// Positions and counters of a receiver, over all its connections.
struct Positions {
  std::atomic<std::uint64_t> durable{0};   // written by apply's owner
  std::atomic<std::uint64_t> received{0};  // the others by the receiver's thread only
  std::atomic<std::uint64_t> confirmed{0};
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<bool> connected{false};
};

// What earlier connections of this receiver found.
struct Remembered {
  std::string system_identifier;  // has to be found again
  Timeline timeline;              // too, or a later one that on_failover took
  int walsender_pid = 0;          // of the last connection: a walsender that is ours to end
};

// Throws an Error with the hint that the copy is needed again where the server, the slot or its position
// don't fit; a retryable one where the slot is in use. The slot may be at `covered` at most: everything
// before it is safe on the target. `arrived`: the end of what any connection brought, which may be on its way
// there.
void check_stream(postgres::Connection& connection, const ReceiverOptions& options, base::Lsn covered,
                  base::Lsn arrived, Remembered& remembered);

class Session {
 public:
  Session(const ReceiverOptions& options, postgres::Connection& connection, base::Lsn start,
          ChunkBuilder& builder, Positions& positions);

  // Returns never: throws Stopped or what ended the connection.
  void pump();
  // After a stop: a last status, then the end of the stream, within a short time.
  void finish() noexcept;
  // The connection brought something new, so that a later loss is a new one, not the continuation of an old
  // one.
  bool proved_alive() const { return proved_alive_; }

 private:
  void step();
  void handle(const postgres::ReplicationStream::Event& event);
  void wait_for_room();
  void wait_for_data();
  void let_more_come(base::Clock::time_point waited_since);
  bool more_is_coming() const;
  void check_notices();
  void heard();
  void check_silence();
  void send_status_if_due();
  void send_status(bool reply_requested);
  void advance_received(base::Lsn lsn);

  const ReceiverOptions& options_;
  postgres::Connection& connection_;
  ChunkBuilder& builder_;
  Positions& positions_;
  const base::milliseconds status_interval_, ask_interval_;
  postgres::ReplicationStream stream_;
  base::Deadline status_due_;
  base::Deadline silence_due_;  // when the server counts as dead
  base::Deadline ask_due_;      // when silence is long enough to ask for an answer
  bool heard_ = false;          // something arrived since the last look at the clock
  std::uint32_t events_ = 0;
  std::uint32_t events_at_wait_ = 0;                   // `events_` when we last had to wait
  int short_waits_ = 0;                                // in a row
  std::optional<base::Clock::time_point> busy_since_;  // no wait was longer than a moment since then
  base::Clock::time_point handed_over_{};
  bool proved_alive_ = false;
};

}  // namespace replication::stream
