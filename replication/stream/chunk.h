// What travels from the receiver to apply: a run of framed pgoutput messages in one allocation.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

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
  bool empty() const { return ends_.empty(); }

  // Set where the socket had nothing more to give after this chunk: a batch closes here.
  bool drained = false;
  // The last keepalive's walEnd seen behind all messages of this chunk: once those are durable, this position may be
  // confirmed as well (an idle database on a busy server).
  base::Lsn idle_until;

 private:
  std::vector<char> bytes_;
  std::vector<std::uint32_t> ends_;
};

}  // namespace replication::stream
