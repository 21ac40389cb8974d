// What the tool holds of a transaction that is much larger than everything it may keep.
#include "tests/harness/memory.h"

#include <doctest/doctest.h>

#include "replication/stream/receiver.h"
#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

TEST_CASE("a transaction far larger than the bounds takes no more memory than they allow") {
  constexpr std::int64_t kRows = 300'000, kRowBytes = 200, kBoundKib = 24 * 1024;
  Stage stage("memory");
  stage.both("CREATE TABLE m (id int PRIMARY KEY, v text)");
  stage.publish();
  stream::ChunkQueue queue(4096, std::size_t{4} << 20);
  auto options = stage.options();
  options.batch_bytes_max = std::size_t{2} << 20;
  stream::Receiver* fed = nullptr;
  options.on_durable = [&](base::Lsn lsn) { fed->set_durable_lsn(lsn); };
  apply::Applier applier(options, queue);
  stream::ReceiverOptions receive;
  receive.server = replication::postgres::ConnInfo::parse(source_server().conninfo("memory"), "source");
  receive.slot = "memory";
  receive.publication = "p";
  stream::Receiver receiver(receive, queue, [&] { return applier.start_lsn(); });
  fed = &receiver;
  stage.source("INSERT INTO m SELECT g, repeat('x', " + std::to_string(kRowBytes) +
               ") FROM generate_series(1, " + std::to_string(kRows) + ") g");
  stage.source("UPDATE m SET v = reverse(v) || id");
  stage.source("UPDATE pgcutover.marker SET token = 'end' WHERE id = 1");
  harness::forget_memory_peak();
  const auto before = harness::memory_kib("VmRSS:");
  applier.start();
  receiver.start();
  REQUIRE(applier.wait_marker("end", soon()) == WaitResult::reached);
  const auto grown = harness::memory_kib("VmHWM:") - before;
  MESSAGE("grew by " << grown << " KiB for two transactions of " << kRows * kRowBytes / 1024 << " KiB");
  CHECK(receiver.bytes_received() > 2 * kRows * kRowBytes);
  CHECK(grown < kBoundKib);
  CHECK(kBoundKib < kRows * kRowBytes / 1024 / 2);  // else this proves nothing
  receiver.stop();
  applier.stop();
  stage.check_same("m");
}
