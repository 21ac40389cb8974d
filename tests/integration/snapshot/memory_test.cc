// What the copy itself holds of rows that are far larger than its buffers.
#include "tests/harness/memory.h"

#include <doctest/doctest.h>

#include "tests/integration/snapshot/pair.h"

using namespace snapshot_test;

// Usually only one job holds such a row, see docs/performance.md; a source that is faster than its reader
// gets past that. So only the bound is held here that always holds: each job has its row once, and pieces of
// it in a buffer that grew for it. (Read as a whole it is there two to three times.)
TEST_CASE("large rows in every job's table are in memory once") {
  constexpr int kJobs = 4, kRows = 2;
  constexpr std::int64_t kRowKib = 32 * 1024;
  constexpr std::int64_t kBoundKib = kJobs * (kRowKib * 3 / 2 + 4 * 1024);
  const Pair pair;
  for (int job = 0; job < kJobs; ++job) {
    const auto name = "app.huge" + std::to_string(job);
    pair.source.sql("shop", "CREATE TABLE " + name + " (id int PRIMARY KEY, v text); INSERT INTO " + name +
                                " SELECT g, repeat(md5(g::text), " + std::to_string(kRowKib * 32) +
                                ") FROM generate_series(1, " + std::to_string(kRows) + ") g");
  }
  pair.restore_schema();
  auto options = pair.copy_options();
  options.jobs = kJobs;
  const auto tables = pair.catalog().tables;
  harness::forget_memory_peak();
  const auto before = harness::memory_kib("VmRSS:");
  snapshot::copy_tables(options, tables, pair.stop);
  const auto grown = harness::memory_kib("VmHWM:") - before;
  MESSAGE("grew by " << grown << " KiB, bound " << kBoundKib << " KiB");
  CHECK(grown > kRowKib);  // there was a row
  CHECK(grown < kBoundKib);
  for (int job = 0; job < kJobs; ++job) {
    const auto digest = "SELECT string_agg(md5(v), ' ' ORDER BY id) FROM app.huge" + std::to_string(job);
    CHECK(pair.target.value("shop", digest) == pair.source.value("shop", digest));
  }
}
