// The receiver: one thread, one walsender session, messages framed into a bounded queue.
//
// It never blocks on the target: while the queue is full it stops reading, but goes on answering keepalives and
// sending status, with the LSN that `durable_lsn` says and nothing else. It reconnects by itself (backoff, budget),
// waits while the old walsender still holds the slot, never creates a slot. The start position is asked for at every
// (re)connect: the applied position of the target; what was queued before a reconnect and is delivered again is
// dropped by apply (commit end LSN <= applied).
// A stream that can't go on (slot missing, invalidated, ahead of our progress; another system identifier or timeline)
// ends the thread with an Error that says "copy again needed", seen through failure().
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "replication/base/bounded_queue.h"
#include "replication/base/lsn.h"
#include "replication/postgres/conninfo.h"
#include "replication/stream/chunk.h"

namespace replication::stream {

struct ReceiverOptions {
  postgres::ConnInfo server;            // where the slot is
  std::string server_name = "source";   // for errors and logs
  std::string slot;
  std::string publication;
  bool binary = false;                  // ask for binary values (server >= 14 and every published type is safe)
  std::string system_identifier;        // expected of the server; empty = not checked
  base::milliseconds status_interval{1'000};
  base::milliseconds retry_budget{300'000};  // how long a lost connection is tried again before the stream fails
};

using ChunkQueue = base::BoundedQueue<std::shared_ptr<const Chunk>>;

class Receiver {
 public:
  // `queue` outlives the receiver. `start_lsn` is called before each START_REPLICATION.
  Receiver(ReceiverOptions options, ChunkQueue& queue, std::function<base::Lsn()> start_lsn);
  ~Receiver();  // stop() and join
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  void start();
  void stop();  // ends the session politely, so that the slot is free; idempotent; joins the thread

  // What may be confirmed to the server. Set by apply's owner, any thread; only ever grows.
  void set_durable_lsn(base::Lsn lsn);

  base::Lsn received_lsn() const;       // end of what arrived
  base::Lsn confirmed_lsn() const;      // last reported as flushed
  std::uint64_t bytes_received() const;
  bool connected() const;
  // Why the thread ended, or null while it is alive or was stopped.
  std::exception_ptr failure() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace replication::stream
