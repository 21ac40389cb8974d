// From pgoutput messages to batches: knows where transactions begin and end, what was applied already, which
// tables the rows belong to, which rows a table's own snapshot has, and the marker table.
//
// Pure but for `lookup`, which reads the target's catalog when a relation is first seen. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "replication/apply/applier.h"
#include "replication/apply/batch.h"
#include "replication/apply/ledger.h"
#include "replication/apply/snapshot_filter.h"
#include "replication/pgoutput/message.h"
#include "replication/pgoutput/relation_cache.h"

namespace replication::apply {

// What a batch contains beside its rows. Taken over into the statistics once the batch is applied.
struct Tally {
  Ledger ledger() const;
  // Takes out what `rest`, of the transaction under way, was counted for.
  Tally split_off(const Batch& rest);

  struct Marker {
    std::string token;
    base::Lsn end_lsn;
    bool ends_filter = false;
  };
  std::vector<Marker> markers;    // in the stream's order
  std::int64_t transactions = 0;  // commits
  // Changes of each table, by the relation's version (it may be renamed): what was received and left out.
  struct Table {
    std::string name;
    TableCounts counts;
  };
  std::unordered_map<std::uint64_t, Table> tables;
  std::int64_t changes = 0;               // all of them but echoes
  std::int64_t changes_since_marker = 0;  // after the last of `markers`, or all
  std::int64_t heartbeat_at_us = 0;       // source time since 2000-01-01; 0 = none
  std::int64_t echoes = 0;                // transactions
  base::Lsn seen;                         // of the last echo
};

class Collector {
 public:
  // May write what the batch has of whole transactions, and leave that of the one under way in it.
  using Lookup = std::function<const TargetTable&(const pgoutput::CachedRelation&)>;
  // `two_way`: see ApplierOptions.
  Collector(const std::vector<SnapshotFilter>& filters, bool two_way, Lookup lookup);

  // Adds one message to the batch. `applied`: transactions that committed below it were applied and are
  // dropped.
  void take(const pgoutput::Message& message, base::Lsn applied, Batch& batch, Tally& tally);

  bool in_transaction() const { return in_transaction_; }
  // The stream starts again from the applied position: forgets the unfinished transaction and the relations.
  void reset();
  // Tables have changed on the target: each is looked up again before its next change.
  void forget_tables();

 private:
  struct Filter {
    SnapshotVisibility snapshot;
    std::string marker;
  };
  struct Known {
    const pgoutput::CachedRelation* relation = nullptr;
    const TargetTable* table = nullptr;  // null for the marker table and until its first change
    bool marker = false;
    bool progress = false;
    std::vector<Filter>* filters = nullptr;
  };
  struct Context {
    Batch& batch;
    Tally& tally;
  };

  void begin(const pgoutput::Begin& begin, base::Lsn applied, Batch& batch);
  void commit(const pgoutput::Commit& commit, Context context);
  void relation(const pgoutput::Relation& relation);
  void insert(const pgoutput::Insert& insert, Context context);
  void update(const pgoutput::Update& update, Context context);
  void remove(const pgoutput::Delete& remove, Context context);
  void truncate(const pgoutput::Truncate& truncate, Context context);

  Known& known(base::Oid oid);
  const TargetTable& table_of(Known& known);
  // The table's copy has what the transaction under way does to it.
  bool copied(const Known& known) const;
  // Counts a change, whose table is known then; true where the table's copy has it already, it is an echo, or
  // the whole transaction was applied.
  bool skipped(Known& known, Context context, std::size_t bytes);
  std::span<pgoutput::ColumnValue> image(const pgoutput::Tuple& tuple, const Known& known, Batch& batch);
  void progress_row(const Known& known, const pgoutput::Tuple& row, Context context);
  void marker_row(const Known& known, const pgoutput::Tuple& row, Context context);
  void end_filters(Tally::Marker& marker);

  const bool two_way_;
  const Lookup lookup_;
  pgoutput::RelationCache relations_;
  std::unordered_map<base::Oid, Known> known_;
  std::unordered_map<std::string, std::vector<Filter>> filters_;  // by quoted, qualified name
  std::vector<pgoutput::ColumnValue> scratch_;
  std::string key_scratch_, other_key_scratch_;
  bool in_transaction_ = false;
  bool redelivered_ = false;  // the transaction under way was applied before
  bool echo_ = false;         // it is what the other direction applied
  std::int64_t changes_ = 0;  // of it so far
  base::Xid xid_ = 0;
  base::Lsn commit_lsn_;
  std::vector<Tally::Marker> markers_under_way_;
};

}  // namespace replication::apply
