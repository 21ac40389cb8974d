#include "replication/base/bounded_queue.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <future>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace replication::base {
namespace {

const auto kNow = Deadline::at(Clock::time_point{});
const auto kLong = [] { return Deadline::in(milliseconds(30'000)); };

TEST_CASE("items come out in the order they went in") {
  BoundedQueue<int> queue(10, 1000);
  for (int i = 0; i < 5; ++i) {
    CHECK(queue.push(int{i}, 1, kNow));
  }
  for (int i = 0; i < 5; ++i) {
    CHECK(queue.pop(kNow) == i);
  }
  CHECK_FALSE(queue.pop(kNow));
}

TEST_CASE("the number of items is bounded") {
  BoundedQueue<int> queue(2, 1000);
  CHECK(queue.push(1, 1, kNow));
  CHECK(queue.push(2, 1, kNow));
  CHECK_FALSE(queue.push(3, 1, kNow));
  CHECK(queue.size() == 2);
  CHECK(queue.pop(kNow) == 1);
  CHECK(queue.push(3, 1, kNow));
}

TEST_CASE("the number of bytes is bounded") {
  BoundedQueue<int> queue(100, 10);
  CHECK(queue.push(1, 6, kNow));
  CHECK_FALSE(queue.push(2, 5, kNow));
  CHECK(queue.push(3, 4, kNow));
  CHECK(queue.bytes() == 10);
  CHECK(queue.pop(kNow) == 1);
  CHECK(queue.bytes() == 4);
}

TEST_CASE("an item larger than the limit passes alone") {
  BoundedQueue<int> queue(100, 10);
  CHECK(queue.push(1, 1000, kNow));
  CHECK_FALSE(queue.push(2, 1, kNow));
  CHECK(queue.pop(kNow) == 1);
  CHECK(queue.bytes() == 0);
  CHECK(queue.push(2, 1, kNow));
  CHECK_FALSE(queue.push(3, 1000, kNow));
}

TEST_CASE("an item that didn't get in is untouched") {
  BoundedQueue<std::unique_ptr<std::string>> queue(1, 10);
  CHECK(queue.push(std::make_unique<std::string>("a"), 1, kNow));
  auto item = std::make_unique<std::string>("b");
  CHECK_FALSE(queue.push(std::move(item), 1, kNow));
  REQUIRE(item != nullptr);
  CHECK(*item == "b");
  queue.close();
  CHECK_FALSE(queue.push(std::move(item), 1, kNow));
  CHECK(item != nullptr);
}

TEST_CASE("closing ends pushes at once and pops when the queue is drained") {
  BoundedQueue<int> queue(10, 100);
  CHECK(queue.push(1, 1, kNow));
  queue.close();
  CHECK(queue.closed());
  CHECK_FALSE(queue.push(2, 1, kLong()));
  CHECK(queue.pop(kLong()) == 1);
  CHECK_FALSE(queue.pop(kLong()));
}

TEST_CASE("closing wakes whoever waits on either end") {
  BoundedQueue<int> full(1, 100);
  CHECK(full.push(1, 1, kNow));
  BoundedQueue<int> empty(1, 100);
  const auto begin = Clock::now();
  auto pusher = std::async(std::launch::async, [&] { return full.push(2, 1, kLong()); });
  auto popper = std::async(std::launch::async, [&] { return empty.pop(Deadline::never()).has_value(); });
  full.close();
  empty.close();
  CHECK_FALSE(pusher.get());
  CHECK_FALSE(popper.get());
  CHECK(Clock::now() - begin < milliseconds(30'000));
}

TEST_CASE("a pop makes room for a waiting push, a push wakes a waiting pop") {
  BoundedQueue<int> queue(1, 100);
  CHECK(queue.push(1, 1, kNow));
  auto pusher = std::async(std::launch::async, [&] { return queue.push(2, 1, Deadline::never()); });
  CHECK(queue.pop(kLong()) == 1);
  CHECK(pusher.get());
  auto popper = std::async(std::launch::async, [&] {
    static_cast<void>(queue.pop(Deadline::never()));
    return queue.pop(Deadline::never());
  });
  CHECK(queue.push(3, 1, kLong()));
  CHECK(popper.get() == 3);
}

TEST_CASE("several threads lose and double nothing, and the bounds hold throughout") {
  BoundedQueue<int> queue(7, 50);
  constexpr int kEach = 5'000;
  std::vector<std::jthread> producers;
  for (int p = 0; p < 3; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kEach; ++i) {
        const auto bytes = static_cast<std::size_t>(i % 20);
        static_cast<void>(queue.push(p * kEach + i, bytes, Deadline::never()));
      }
    });
  }
  std::vector<std::vector<int>> taken(2);
  std::vector<std::jthread> consumers;
  for (auto& mine : taken) {
    consumers.emplace_back([&queue, &mine] {
      while (auto item = queue.pop(Deadline::never())) {
        mine.push_back(*item);
        if (queue.size() > 7 || queue.bytes() > 50) {
          mine.push_back(-1);
        }
      }
    });
  }
  producers.clear();
  queue.close();
  consumers.clear();
  std::vector<int> all(taken[0]);
  all.insert(all.end(), taken[1].begin(), taken[1].end());
  std::sort(all.begin(), all.end());
  std::vector<int> expected(3 * kEach);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(all == expected);
}

}  // namespace
}  // namespace replication::base
