// Who may hold rows so large that they matter for the tool's memory.
//
// A row is in libpq's memory before its size is known, and libpq's buffer keeps the largest row's size until
// its connection is closed. So a job asks while a row grows: up to kFreeBytes are anybody's; from there all
// jobs share kSharedBytes; whoever needs more than is left of them takes the turn, has no bound any more, and
// gives the turn back with its connection. There is one turn: jobs whose rows don't fit wait for it in the
// middle of a row. It holds for rows that are seen growing: what a source sends faster than it is read is in
// libpq's memory before anybody was asked, at worst one row a job.
#pragma once

#include <cstdint>
#include <mutex>

#include "replication/base/stop.h"

namespace replication::snapshot {

class RowMemory {
 public:
  static constexpr std::int64_t kFreeBytes = std::int64_t{1} << 20;
  static constexpr std::int64_t kSharedBytes = std::int64_t{48} << 20;

  // What one source connection holds. One thread; the RowMemory outlives it.
  class Share {
   public:
    explicit Share(RowMemory& all) : all_(all) {}
    ~Share() { give_back(); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // There are `bytes` of a row, and more to come. Throws Stopped.
    void grow(std::int64_t bytes, const base::Stop& stop);
    // A row was so large that the connection has to be closed before this is given back.
    bool large() const { return held_ > 0 || unbounded_; }
    // Call after the connection was closed.
    void give_back();

   private:
    friend class RowMemory;
    RowMemory& all_;
    std::int64_t held_ = 0;
    bool unbounded_ = false;
  };

 private:
  bool try_grow(Share& share, std::int64_t bytes);

  std::mutex mutex_;
  std::int64_t used_ = 0;
  bool turn_taken_ = false;
};

}  // namespace replication::snapshot
