// What the stream's tests share: a source with a published table, and a consumer in apply's place that
// decodes what it takes out of the queue.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/stream/receiver.h"
#include "tests/harness/cluster.h"

namespace stream_test {

using replication::base::Deadline;
using replication::base::Lsn;
using replication::base::milliseconds;

inline constexpr const char* kDatabase = "shop";

inline Deadline soon() {
  return Deadline::in(milliseconds{180'000});
}

// One server for all tests of the executable; each test takes a database of its own.
harness::Cluster& server();

// A database with a hostile table and the marker.
class Database {
 public:
  Database();
  const std::string& name() const { return name_; }
  replication::postgres::Connection sql(
      const replication::base::Stop& stop = replication::base::Stop::never(),
      const std::string& application = "stream test") const;
  replication::postgres::Connection walsender(
      const replication::base::Stop& stop = replication::base::Stop::never()) const;
  replication::postgres::ConnInfo conninfo() const;
  void exec(const std::string& text) const;
  std::vector<replication::catalog::Table> tables() const;

 private:
  std::string name_;
};

inline constexpr const char* kTable = R"("Odd ""Schema"""."select")";

// Publication "pub", slot named after the database, and where it starts.
Lsn publish_with_slot(Database& database, const std::string& slot);

// Takes the queue apart as apply would: whole transactions, duplicates dropped by commit end LSN.
class Consumer {
 public:
  explicit Consumer(replication::stream::ChunkQueue& queue) : queue_(queue) {}

  // Takes what comes until `token` was seen as a marker, or the deadline.
  bool take_until_marker(const std::string& token, Deadline deadline = soon());
  // Takes chunks until the condition holds.
  bool take_until_idle(Lsn at_least, Deadline deadline = soon());

  Lsn applied;  // end LSN of the last whole transaction
  Lsn idle;     // last idle position told outside a transaction
  int transactions = 0;
  int duplicates = 0;  // transactions dropped since they had been applied
  int torn = 0;        // transactions cut off by a reset
  int resets = 0;
  int relations = 0;
  std::vector<std::string> inserted;  // first column of inserted rows of whole transactions, in order

 private:
  void take(const replication::stream::Chunk& chunk);
  void commit(Lsn end);

  replication::stream::ChunkQueue& queue_;
  bool open_ = false;
  std::vector<std::string> pending_;
  std::set<std::string> markers_, pending_markers_;
  std::set<std::uint32_t> marker_relations_;
};

replication::stream::ReceiverOptions receiver_options(const Database& database, const std::string& slot);

// The message and hint of a receiver's failure, "" while there is none.
std::string failure_text(const replication::stream::Receiver& receiver);

}  // namespace stream_test
