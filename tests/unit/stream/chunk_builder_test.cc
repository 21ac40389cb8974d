#include "replication/stream/chunk_builder.h"

#include <doctest/doctest.h>
#include <memory>
#include <string>
#include <vector>

#include "replication/base/error.h"

namespace {

using namespace replication;
using base::Deadline;
using base::Lsn;
using base::milliseconds;
using stream::Chunk;
using stream::ChunkBuilder;
using stream::ChunkQueue;

constexpr std::size_t kBig = ChunkBuilder::kChunkBytes;

Deadline now() {
  return Deadline::in(milliseconds{0});
}

// A builder with its queue, and what apply would have taken out of it.
struct Fixture {
  explicit Fixture(std::size_t items = 100, std::size_t bytes = 100 * kBig)
      : queue(items, bytes), builder(queue) {
    builder.begin_connection();
    REQUIRE(builder.offer(now()));
    const auto reset = take();
    REQUIRE(reset != nullptr);
    CHECK(reset->reset);
    CHECK(reset->empty());
    CHECK_FALSE(reset->drained);
  }
  void append(const std::string& message) { builder.append({message.data(), message.size()}); }
  void transaction(int changes) {
    append("Bbegin");
    for (int i = 0; i < changes; ++i) {
      append("Urow");
    }
    append("Ccommit");
  }
  void drained() {
    builder.drained();
    REQUIRE(builder.offer(now()));
  }
  std::shared_ptr<const Chunk> take() { return queue.pop(now()).value_or(nullptr); }
  // Waits for what is told from time to time only.
  std::shared_ptr<const Chunk> take_later() {
    const auto until = Deadline::in(milliseconds{60'000});
    while (!until.expired()) {
      drained();
      if (auto chunk = take()) {
        return chunk;
      }
    }
    return nullptr;
  }

  ChunkQueue queue;
  ChunkBuilder builder;
};

std::vector<std::string> messages(const Chunk& chunk) {
  std::vector<std::string> list;
  for (std::size_t i = 0; i < chunk.messages(); ++i) {
    const auto message = chunk.message(i);
    list.emplace_back(message.begin(), message.end());
  }
  return list;
}

}  // namespace

TEST_CASE("a transaction is handed over, in order, when the socket is drained") {
  Fixture f;
  f.transaction(2);
  CHECK(f.take() == nullptr);
  f.drained();
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK(chunk->drained);
  CHECK_FALSE(chunk->reset);
  CHECK(messages(*chunk) == std::vector<std::string>{"Bbegin", "Urow", "Urow", "Ccommit"});
}

TEST_CASE("a transaction's beginning alone is not handed over") {
  Fixture f;
  f.append("Bbegin");
  f.append("Urow");
  f.drained();
  CHECK(f.take() == nullptr);
  CHECK_FALSE(f.builder.holding());
  f.append("Ccommit");
  f.drained();
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK(chunk->messages() == 3);
}

TEST_CASE("while apply is busy, chunks grow instead of getting more") {
  Fixture f;
  f.transaction(1);
  f.drained();
  f.transaction(1);
  f.drained();
  f.transaction(1);
  f.drained();
  CHECK(f.queue.size() == 1);
  CHECK(f.builder.holding());
  CHECK(f.take()->messages() == 3);
  f.drained();
  CHECK_FALSE(f.builder.holding());
  const auto rest = f.take();
  REQUIRE(rest != nullptr);
  CHECK(rest->messages() == 6);
}

TEST_CASE("a chunk ends at its size limit and says so by not being drained") {
  Fixture f;
  f.append("Bbegin");
  const std::string row = "U" + std::string(1023, 'x');
  std::size_t sent = 1;
  while (!f.builder.blocked()) {
    f.append(row);
    ++sent;
  }
  REQUIRE(f.builder.offer(now()));
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK_FALSE(chunk->drained);
  CHECK(chunk->bytes() <= kBig + row.size());
  CHECK(chunk->bytes() + row.size() >= kBig);
  f.append("Ccommit");
  f.drained();
  const auto rest = f.take();
  REQUIRE(rest != nullptr);
  CHECK(rest->drained);
  CHECK(chunk->messages() + rest->messages() == sent + 1);
}

TEST_CASE(
    "apply is told that the socket is drained even where a chunk's size limit took the last message along") {
  Fixture f;
  f.append("Bbegin");
  f.append("U" + std::string(kBig - 20, 'x'));
  f.append("Ccommit" + std::string(20, 'x'));
  REQUIRE(f.builder.offer(now()));
  std::size_t taken = 0;
  std::shared_ptr<const Chunk> last;
  while (taken < 3) {
    f.drained();
    last = f.take();
    REQUIRE(last != nullptr);
    taken += last->messages();
  }
  if (!last->drained) {
    f.drained();
    last = f.take();
    REQUIRE(last != nullptr);
  }
  CHECK(last->drained);
  f.drained();
  CHECK(f.take() == nullptr);
}

TEST_CASE("a message larger than a chunk is a chunk of its own") {
  Fixture f;
  f.append("Bbegin");
  f.append("Usmall");
  const std::string large = "U" + std::string(3 * kBig, 'y');
  f.append(large);
  REQUIRE(f.builder.offer(now()));
  CHECK(f.take()->messages() == 2);
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK(messages(*chunk) == std::vector<std::string>{large});
  f.append("Ccommit");
  f.drained();
  CHECK(f.take()->messages() == 1);
}

TEST_CASE("a full queue blocks the builder, which loses nothing and goes on once there is room") {
  Fixture f(1, 100 * kBig);
  f.transaction(1);
  f.drained();
  f.append("Bbegin");
  f.append("U" + std::string(kBig, 'z'));
  CHECK(f.builder.blocked());
  CHECK_FALSE(f.builder.offer(now()));
  CHECK_FALSE(f.builder.offer(Deadline::in(milliseconds{20})));
  CHECK_THROWS_AS(f.append("Urow"), base::Bug);
  std::size_t taken = f.take()->messages();
  while (f.builder.blocked()) {
    f.builder.offer(now());
    if (const auto chunk = f.take()) {
      taken += chunk->messages();
    }
  }
  CHECK(taken == 5);
}

TEST_CASE("a keepalive on an idle database travels in an empty chunk, and only once") {
  Fixture f;
  f.builder.keepalive(Lsn{700});
  const auto chunk = f.take_later();
  REQUIRE(chunk != nullptr);
  CHECK(chunk->empty());
  CHECK(chunk->drained);
  CHECK(chunk->idle_until == Lsn{700});
  f.builder.keepalive(Lsn{700});
  f.drained();
  CHECK(f.take() == nullptr);
  CHECK_FALSE(f.builder.holding());
}

TEST_CASE("keepalives in quick succession are told at most once an interval, the last one wins") {
  Fixture f;
  const auto begin = base::Clock::now();  // before the first is told: whoever is slow sees a longer time
  f.builder.keepalive(Lsn{700});
  REQUIRE(f.take_later() != nullptr);
  for (std::uint64_t position = 701; position <= 800; ++position) {
    f.builder.keepalive(Lsn{position});
  }
  const auto chunk = f.take_later();
  REQUIRE(chunk != nullptr);
  CHECK(chunk->idle_until == Lsn{800});
  CHECK(base::Clock::now() - begin >= ChunkBuilder::kIdleInterval - milliseconds{20});
}

TEST_CASE("a keepalive behind a transaction goes along with it") {
  Fixture f;
  f.transaction(1);
  f.builder.keepalive(Lsn{900});
  f.drained();
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK(chunk->messages() == 3);
  CHECK(chunk->idle_until == Lsn{900});
}

TEST_CASE("a keepalive in front of messages of the same chunk says nothing about them") {
  Fixture f;
  f.transaction(1);
  f.builder.keepalive(Lsn{900});
  f.transaction(1);
  f.drained();
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK(chunk->messages() == 6);
  CHECK_FALSE(chunk->idle_until.valid());
}

TEST_CASE("a keepalive in the middle of a transaction waits for its end") {
  Fixture f;
  f.append("Bbegin");
  f.builder.keepalive(Lsn{900});
  f.drained();
  CHECK(f.take() == nullptr);
  f.append("Ccommit");
  f.drained();
  const auto chunk = f.take();
  REQUIRE(chunk != nullptr);
  CHECK_FALSE(chunk->idle_until.valid());
}

TEST_CASE("a new connection drops what was not handed over and announces itself in front") {
  Fixture f;
  f.transaction(1);
  f.drained();
  f.transaction(1);
  f.append("Bbegin");
  f.builder.keepalive(Lsn{900});
  f.builder.begin_connection();
  REQUIRE(f.builder.offer(now()));
  f.transaction(4);
  CHECK(f.take()->messages() == 3);
  CHECK(f.take()->reset);
  f.drained();
  const auto fresh = f.take();
  REQUIRE(fresh != nullptr);
  CHECK(fresh->messages() == 6);
  CHECK_FALSE(fresh->idle_until.valid());
}
