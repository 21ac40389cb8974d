#include "replication/snapshot/row_memory.h"

#include <atomic>
#include <doctest/doctest.h>
#include <thread>

#include "replication/base/error.h"

namespace {

using namespace replication;
using snapshot::RowMemory;

constexpr std::int64_t kMib = 1 << 20;

TEST_CASE("rows of a megabyte are nobody's business") {
  RowMemory memory;
  RowMemory::Share share(memory);
  share.grow(RowMemory::kFreeBytes - 1, base::Stop::never());
  CHECK_FALSE(share.large());
  share.grow(RowMemory::kFreeBytes, base::Stop::never());
  CHECK(share.large());
  share.give_back();
  CHECK_FALSE(share.large());
}

TEST_CASE("who fits into what is shared goes on; of those who don't one does, the others wait for it") {
  RowMemory memory;
  base::Stop stop;
  RowMemory::Share fits(memory), turn(memory), waits(memory);
  fits.grow(20 * kMib, stop);     // libpq's buffer is 32 MiB then
  turn.grow(9 * kMib, stop);      // 16 MiB: all is given out
  turn.grow(500 * kMib, stop);    // the turn
  turn.grow(1'000 * kMib, stop);  // no bound any more
  std::atomic<bool> went_on = false;
  base::Stop never;
  std::jthread other([&] {
    waits.grow(2 * kMib, never);
    went_on = true;
  });
  base::Stop enough;
  RowMemory::Share stopped(memory);
  std::jthread stopper([&] { enough.request(); });
  CHECK_THROWS_AS(stopped.grow(2 * kMib, enough), base::Stopped);
  CHECK_FALSE(went_on);
  SUBCASE("the turn comes back") {
    turn.give_back();
  }
  SUBCASE("there is room again") {
    fits.give_back();
  }
  other.join();
  CHECK(went_on);
  CHECK(waits.large());
}

}  // namespace
