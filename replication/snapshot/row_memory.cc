#include "replication/snapshot/row_memory.h"

#include <algorithm>
#include <bit>
#include <malloc.h>
#include <utility>

#include "replication/base/deadline.h"
#include "replication/base/error.h"

namespace replication::snapshot {
namespace {

constexpr base::milliseconds kLook{50};

}  // namespace

bool RowMemory::try_grow(Share& share, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (const auto more = bytes - share.held_; used_ + more <= kSharedBytes) {
    used_ += more;
    share.held_ = bytes;
    return true;
  }
  if (turn_taken_) {
    return false;
  }
  turn_taken_ = true;
  share.unbounded_ = true;
  return true;
}

void RowMemory::Share::grow(std::int64_t bytes, const base::Stop& stop) {
  if (unbounded_ || bytes < std::max(kFreeBytes, held_)) {
    return;
  }
  // libpq's buffer doubles. What is held from here on is what the next doubling leads to.
  const auto next = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(bytes) + 1));
  while (!all_.try_grow(*this, next)) {
    if (stop.wait(base::Deadline::in(kLook))) {
      throw base::Stopped();
    }
  }
}

void RowMemory::Share::give_back() {
  if (!large()) {
    return;
  }
  malloc_trim(0);  // freed memory of this size stays the process's otherwise
  const std::lock_guard lock(all_.mutex_);
  all_.used_ -= std::exchange(held_, 0);
  if (std::exchange(unbounded_, false)) {
    all_.turn_taken_ = false;
  }
}

}  // namespace replication::snapshot
