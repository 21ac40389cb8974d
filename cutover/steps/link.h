// One direction's stream: a receiver on the side that is written, apply on the other, a bounded queue between
// them; or a spool, which goes on receiving while links come and go.
//
// Threads: started and stopped by the controller's thread; receiver and apply have a thread each.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cutover/steps/servers.h"
#include "replication/apply/applier.h"
#include "replication/postgres/fencing_token.h"
#include "replication/stream/receiver.h"
#include "replication/stream/spool.h"

namespace cutover::steps {

class SchemaChanges;

// Names of the objects on the publishing side.
std::string slot_name(const std::string& run, Side from);
std::string publication_name(const std::string& run, Side from);

struct LinkOptions {
  Side from = Side::source;
  std::string run;  // plan name
  bool binary = false;
  bool stop_at_conflict = false;
  std::string system_identifier;  // of `from`
  replication::stream::Lineage lineage;
  postgres::FencingToken token;
  std::vector<replication::apply::SnapshotFilter> filters;
  replication::catalog::ColumnFilter left_out;
  std::function<void(const std::string& marker)> on_filter_passed;  // apply's thread
  replication::stream::Spool* spool = nullptr;    // running; receives in the link's place and outlives it
  base::Lsn applied;                              // with a spool: what the target has
  std::shared_ptr<SchemaChanges> schema_changes;  // may be null
};

// How the slot of one direction is received.
replication::stream::ReceiverOptions receiver_options(const Servers& servers, const LinkOptions& options);

class Link {
 public:
  Link(const Servers& servers, const LinkOptions& options);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void stop();  // polite: the slot is free afterwards; a spool is stopped as well
  Side from() const { return from_; }
  replication::apply::Applier& applier() { return *applier_; }
  replication::stream::Receiver& receiver() { return spool_ != nullptr ? spool_->receiver() : *receiver_; }
  // The latest heartbeat that is known to have arrived, for write_heartbeat; 0 where none is.
  std::int64_t heartbeat_arrived();
  // Why the stream ended, or null while it lives. Apply's failure is told before the receiver's.
  std::exception_ptr failure() const;
  void check() const;                         // throws the failure
  std::vector<std::string> followed() const;  // schema changes, see SchemaChanges

 private:
  void stop_apply();
  Side from_;
  replication::stream::Spool* spool_;
  std::shared_ptr<std::atomic<std::int64_t>> heartbeat_us_;
  std::shared_ptr<SchemaChanges> schema_changes_;
  replication::stream::ChunkQueue queue_;
  std::unique_ptr<replication::apply::Applier> applier_;
  std::unique_ptr<replication::stream::Receiver> receiver_;  // null with a spool
};

// For people: what somebody has to do before this stream can go on.
std::string waiting_message(const replication::apply::ApplyStats& stats);

// Writes a marker on `from` over `connection` and waits until it was applied on the other side; the failure
// of the link is thrown, a time-out is a TimeoutError. Returns the end LSN of the marker's commit.
base::Lsn pass_marker(postgres::Connection& connection, Link& link, const std::string& token,
                      base::Deadline deadline);

}  // namespace cutover::steps
