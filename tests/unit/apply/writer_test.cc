#include "replication/apply/writer.h"

#include <doctest/doctest.h>

using replication::apply::record_end;
using replication::base::Lsn;

TEST_CASE("only a page's own header doesn't count as a record") {
  constexpr std::uint64_t kBlock = 8192, kSegment = 16 << 20;
  const auto end = [&](std::uint64_t insert) { return record_end(Lsn{insert}, kBlock, kSegment).value; };
  CHECK(end(5 * kSegment + 40) == 5 * kSegment);
  CHECK(end(5 * kSegment + 3 * kBlock + 24) == 5 * kSegment + 3 * kBlock);
  // 16 bytes of a commit record that began on the page before: not flushed when that page is.
  CHECK(end(5 * kSegment + 3 * kBlock + 40) == 5 * kSegment + 3 * kBlock + 40);
  CHECK(end(5 * kSegment + 100 * kBlock) == 5 * kSegment + 100 * kBlock);
  CHECK(end(5 * kSegment + kBlock + 4096) == 5 * kSegment + kBlock + 4096);
}
