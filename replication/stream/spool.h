// The stream by way of the disk: what the receiver delivers is written to a journal, what apply gets is read
// from there. The source is told what is on disk, so that it may recycle its WAL while apply is slow or isn't
// there yet.
//
//   receiver --queue--> writer thread --journal--> feeder thread --queue--> apply
//
// Whole transactions only reach the feeder, so apply never sees a connection's end: Chunk::reset isn't passed
// on. The journal is bounded: where it is full nothing more is received, and the source keeps its WAL.
// Threads: start, attach, detach, stop and the destructor belong to the owner; the rest may be called from
// any.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>

#include "replication/base/lsn.h"
#include "replication/journal/journal.h"
#include "replication/stream/chunk.h"
#include "replication/stream/receiver.h"

namespace replication::stream {

class Spool {
 public:
  // Opens the journal. `applied`: what the target has; see Journal.
  Spool(ReceiverOptions receiver, journal::JournalOptions journal, base::Lsn applied);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  void start();  // once
  void stop();   // the slot is free afterwards; what wasn't written yet is sent again; idempotent
  bool stopped() const;

  // Feeds `queue`, which outlives this or the next detach(), with everything behind `applied`.
  void attach(ChunkQueue& queue, base::Lsn applied);
  void detach();
  // What is durable on the target: needn't be kept here any more.
  void set_durable_lsn(base::Lsn lsn);

  Receiver& receiver();
  base::Lsn end() const;      // where the journal ends
  base::Lsn durable() const;  // what set_durable_lsn said
  std::uint64_t bytes() const;
  bool full() const;
  const std::string& directory() const;
  std::exception_ptr failure() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace replication::stream
