#include "replication/stream/chunk_builder.h"

#include <algorithm>
#include <utility>

#include "replication/base/check.h"
#include "replication/pgoutput/message.h"

namespace replication::stream {

void ChunkBuilder::begin_connection() {
  building_.clear();
  finished_.clear();
  in_transaction_ = false;
  idle_until_ = idle_told_ = {};
  building_.reset = true;
  finish();
}

void ChunkBuilder::append(std::span<const char> message) {
  PGCUTOVER_CHECK(!blocked(), "messages are not read while chunks wait");
  if (!building_.empty() && building_.bytes() + message.size() > kChunkBytes) {
    finish();
  }
  building_.append(message);
  // A position behind earlier messages says nothing that this message's commit won't say.
  building_.idle_until = {};
  if (!message.empty()) {
    in_transaction_ =
        message[0] == pgoutput::kBeginTag || (in_transaction_ && message[0] != pgoutput::kCommitTag);
  }
  if (building_.bytes() >= kChunkBytes) {
    finish();
  }
}

void ChunkBuilder::keepalive(base::Lsn wal_end) {
  idle_until_ = std::max(idle_until_, wal_end);
  if (!building_.empty() && !in_transaction_) {
    building_.idle_until = idle_until_;
  }
}

void ChunkBuilder::drained() {
  PGCUTOVER_CHECK(!blocked(), "nothing is read while chunks wait");
  if (in_transaction_ || queue_.size() > 0) {
    return;
  }
  const bool news = !told_drained_ || (idle_news() && idle_due_.expired());
  if (building_.empty() && !news) {
    return;
  }
  building_.drained = true;
  if (building_.empty() && idle_news()) {
    building_.idle_until = idle_until_;
  }
  finish();
}

bool ChunkBuilder::holding() const {
  return !in_transaction_ && (!building_.empty() || !told_drained_ || idle_news());
}

void ChunkBuilder::finish() {
  if (building_.idle_until.valid()) {
    idle_told_ = building_.idle_until;
    idle_due_ = base::Deadline::in(kIdleInterval);
  }
  // A reset leaves nothing open, so nothing to close.
  told_drained_ = building_.drained || building_.reset;
  finished_.push_back(std::make_shared<const Chunk>(building_));
  building_.clear();
}

bool ChunkBuilder::offer(base::Deadline deadline) {
  while (!finished_.empty()) {
    const auto bytes = finished_.front()->footprint();
    if (!queue_.push(std::move(finished_.front()), bytes, deadline)) {
      return false;  // the queue left the chunk where it was
    }
    finished_.pop_front();
  }
  return true;
}

}  // namespace replication::stream
