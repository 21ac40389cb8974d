// Cuts the stream of messages into chunks and hands them to the queue. Decides when, never waits on its own.
//
// A chunk is finished at kChunkBytes, before a message that is larger than that (which becomes a chunk of its
// own), or when the socket is drained outside a transaction and the queue is empty: while apply is busy there
// is no hurry, and larger chunks cost less. A transaction's beginning alone is of no use to apply, so it
// isn't handed over early. Threads: the receiver's only. Holds at most two chunks beside the one being built.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <span>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/stream/chunk.h"

namespace replication::stream {

class ChunkBuilder {
 public:
  static constexpr std::size_t kChunkBytes = std::size_t{256} << 10;
  // An idle position is told apply at most this often.
  static constexpr base::milliseconds kIdleInterval{100};

  // `queue` outlives it.
  explicit ChunkBuilder(ChunkQueue& queue) : queue_(queue) {}

  // A new connection: drops what was not handed over yet, since it is sent again, and announces a reset.
  void begin_connection();
  // Not while blocked().
  void append(std::span<const char> message);
  void keepalive(base::Lsn wal_end);
  // The socket had nothing more to give. Not while blocked().
  void drained();

  // Finished chunks wait for room in the queue: read nothing more, call offer().
  bool blocked() const { return !finished_.empty(); }
  // Hands over what is finished; true where nothing is left of it. Waits for room until the deadline.
  bool offer(base::Deadline deadline);
  // Whole transactions or news are held back only because apply is busy: call drained() again soon.
  bool holding() const;

 private:
  void finish();
  bool idle_news() const { return idle_until_ > idle_told_; }

  ChunkQueue& queue_;
  Chunk building_;  // its memory is used again and again; what is handed over is a copy of the exact size
  std::deque<std::shared_ptr<const Chunk>> finished_;
  bool in_transaction_ = false;
  bool told_drained_ = true;  // the last chunk said so: apply isn't left waiting for the end of a batch
  base::Lsn idle_until_, idle_told_;
  base::Deadline idle_due_ = base::Deadline::in(base::milliseconds{0});
};

}  // namespace replication::stream
