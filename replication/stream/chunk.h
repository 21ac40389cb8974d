// What travels from the receiver to apply: a run of framed pgoutput messages in one allocation.
//
// The receiver cuts chunks at its size limit or, once the socket has nothing more to give, after a commit: a
// chunk that is `drained` never ends inside a transaction. Chunks without messages carry news only (see the
// fields).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "replication/base/bounded_queue.h"
#include "replication/base/lsn.h"

namespace replication::stream {

class Chunk {
 public:
  void append(std::span<const char> message) {
    bytes_.insert(bytes_.end(), message.begin(), message.end());
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  std::size_t messages() const { return ends_.size(); }
  std::span<const char> message(std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return {bytes_.data() + begin, ends_[index] - begin};
  }
  std::size_t bytes() const { return bytes_.size(); }
  // What it occupies, for a queue's bound.
  std::size_t footprint() const {
    return sizeof(Chunk) + bytes_.size() + ends_.size() * sizeof(std::uint32_t);
  }
  bool empty() const { return ends_.empty(); }
  void clear() {
    bytes_.clear();
    ends_.clear();
    drained = reset = false;
    idle_until = {};
  }

  // The socket had nothing more to give after this chunk: a batch closes here.
  bool drained = false;
  // The first chunk of a new connection, without messages: what was queued before it may end inside a
  // transaction, which is sent again from its beginning and has to be dropped. Relations are sent again as
  // well.
  bool reset = false;
  // The last keepalive's walEnd seen behind all messages of this chunk, else invalid: once those are durable,
  // this position may be confirmed as well (an idle database on a busy server). Store it as progress before
  // it is given to Receiver::set_durable_lsn, else the slot is found ahead of the progress at the next start.
  base::Lsn idle_until;

 private:
  std::vector<char> bytes_;
  std::vector<std::uint32_t> ends_;
};

using ChunkQueue = base::BoundedQueue<std::shared_ptr<const Chunk>>;

}  // namespace replication::stream
