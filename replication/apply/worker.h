// The apply thread: takes chunks from the queue, collects batches, writes them, keeps account of what is
// durable.
//
// Positions: `stored` is what the progress row says; `position` what is applied, ahead of it only by
// transactions and idle stretches without rows, and stored at least once a second; `durable` what the target
// has flushed.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "replication/apply/applier.h"
#include "replication/apply/batch.h"
#include "replication/apply/collector.h"
#include "replication/apply/control.h"
#include "replication/apply/target_session.h"
#include "replication/apply/target_tables.h"
#include "replication/apply/writer.h"
#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/stream/receiver.h"

namespace replication::apply {

class Worker {
 public:
  Worker(const ApplierOptions& options, stream::ChunkQueue& queue, Control& control, const base::Stop& stop);
  void run() noexcept;

 private:
  void loop();
  void consume(const std::shared_ptr<const stream::Chunk>& chunk);
  void before_transaction(base::Lsn commit_lsn);
  void drop_unfinished();

  void flush();       // everything collected, up to the last commit
  void flush_part();  // of a transaction that is larger than a batch
  // What was collected of the transactions before the one under way.
  void flush_earlier();
  // What was sent, before it is committed: throws where it isn't what was received.
  void approve(const WriteCounts& counts, base::Lsn commit_lsn);
  void finish_flush(base::Lsn end, const std::optional<TargetPosition>& target);
  bool batch_is_full() const;

  // Runs `action` until it succeeds, within the retry budget; after a loss the progress row decides whether
  // its transaction, which moves progress to `end`, was committed: then nothing is returned.
  std::optional<TargetPosition> settle(std::optional<base::Lsn> end,
                                       const std::function<TargetPosition()>& action);
  bool already_committed(std::optional<base::Lsn> end);
  // Waits where the target doesn't fit, as long as options say.
  const TargetTable& look_up(const pgoutput::CachedRelation& relation);
  template <typename Action>
  auto until_it_fits(const pgoutput::CachedRelation* relation, Action action) -> decltype(action());
  // Has options' mend make the target fit; else says in `why` why it didn't, or what it takes.
  bool mend(const pgoutput::CachedRelation& relation, std::string& why);
  // A value was refused that may be an enum's new label: true once the target has it.
  bool labels_came();
  // A batch was refused: reads its tables again. True where one has changed; the batch then uses the new
  // ones.
  bool reload_tables();
  TargetPosition write(std::optional<base::Lsn> end, std::int64_t transactions, std::int64_t changes);
  void connect_first();
  void recover(const base::Error& error);
  void lose_session();

  void keep_account();  // stores positions, asks what is durable; called where nothing is under way
  void note_target(base::Lsn end, const TargetPosition& target);
  void advance_durable(base::Lsn target_flush_lsn);

  const ApplierOptions& options_;
  stream::ChunkQueue& queue_;
  Control& control_;
  TargetSession session_;
  Writer writer_;
  TargetTables tables_;
  Collector collector_;
  Batch batch_;
  Tally tally_;                 // of the target transaction under way
  bool parts_written_ = false;  // of a large transaction: on the target only, no longer in memory
  WriteCounts parts_;           // of its parts so far
  WriteCounts sent_;            // of these and the part or batch under way
  Ledger approved_;             // the same with what was received: what is committed, once it is
  std::int64_t unstored_transactions_ = 0,
               unstored_changes_ = 0;  // applied, not yet added to the progress row
  bool mended_ = true;  // options' mended is to be called: after a start for what an earlier one left
  ApplyStats stats_;
  base::Lsn stored_, position_;
  std::deque<std::pair<base::Lsn, base::Lsn>> not_durable_;  // source end, target insert position
  base::Clock::time_point next_store_{}, next_durable_poll_{};
};

}  // namespace replication::apply
