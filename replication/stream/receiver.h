// The receiver: one thread, one walsender session, messages framed into a bounded queue.
//
// It never blocks on the target: while the queue is full it stops reading, but goes on sending status, with
// the LSN that `durable_lsn` says and nothing else. It reconnects by itself (backoff, budget), waits while
// another walsender still holds the slot, never creates a slot. The start position is asked for at every
// (re)connect: the applied position of the target; what was queued before a reconnect and is delivered again
// is dropped by apply (commit end LSN <= applied). Each connection begins with a chunk that has `reset` set.
// A stream that can't go on without losing changes (slot missing, invalidated, ahead of our progress; another
// system or timeline; the publication unknown at this place of the WAL) ends the thread with an Error whose
// hint says that the copy is needed again, seen through failure(). Threads: start, stop and the destructor
// belong to the owner; everything else may be called from any thread. Follows
// src/backend/replication/libpqwalreceiver and "Streaming Replication Protocol".
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/postgres/conninfo.h"
#include "replication/stream/chunk.h"
#include "replication/stream/timeline.h"

namespace replication::stream {

// What tells the server that was received from another copy of it.
struct Lineage {
  Timeline timeline;  // of the position that is applied; unknown = that of the first connection
  // pgcutover.marker's heartbeat, the latest that is known to have arrived from it: a server whose own is
  // older was set back, or is another copy. Null = not compared.
  std::shared_ptr<std::atomic<std::int64_t>> heartbeat_us;
  // The server has failed over to a standby that kept the slot in step (17+), and its history shares
  // everything that arrived: keeps the new timeline and returns, or throws to end the stream. `heartbeat_us`
  // was written there just now: whatever lacks it is another server. Receiver's thread, before anything is
  // received from there. Empty: another timeline ends the stream.
  std::function<void(const Timeline& now, base::Lsn fork, std::int64_t heartbeat_us)> on_failover;
};

struct ReceiverOptions {
  postgres::ConnInfo server;           // where the slot is
  std::string server_name = "source";  // for errors and logs
  std::string slot;
  std::string publication;
  bool binary = false;  // ask for binary values (done from 14 on; every published type must be safe)
  std::string system_identifier;  // expected of the server; empty = that of the first connection
  Lineage lineage;
  base::milliseconds status_interval{1'000};
  base::milliseconds retry_budget{
      300'000};  // how long a lost connection is tried again before the stream fails
  // After how much silence each side takes the other one for dead. The server needs it finite: a walsender of
  // a client that vanished would hold the slot.
  base::milliseconds silence_limit{300'000};
};

class Receiver {
 public:
  // `queue` outlives the receiver. `start_lsn` is called (receiver's thread) before each START_REPLICATION;
  // it may wait, and throw to end the stream.
  Receiver(ReceiverOptions options, ChunkQueue& queue, std::function<base::Lsn()> start_lsn);
  ~Receiver();  // stop() and join
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  void start();  // once
  void stop();   // ends the session politely, so that the slot is free; idempotent; joins the thread

  // What may be confirmed to the server. Only ever grows; a smaller one is ignored.
  void set_durable_lsn(base::Lsn lsn);

  base::Lsn received_lsn() const;   // end of what arrived
  base::Lsn confirmed_lsn() const;  // last reported as flushed
  std::uint64_t bytes_received() const;
  bool connected() const;
  // Why the thread ended, or null while it is alive or was stopped.
  std::exception_ptr failure() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace replication::stream
