// The journal's fuzzer harness under a fixed seed, for every build: valid records and files of them, broken
// at random. PGCUTOVER_TEST_SEED chooses another seed.
#include <cstdlib>
#include <doctest/doctest.h>
#include <random>
#include <string>
#include <vector>

#include "replication/journal/record.h"
#include "tests/fuzz/journal_harness.h"

namespace {

using namespace replication::journal;

std::vector<std::string> seeds() {
  Entry small;
  small.bytes = "BeginCommit";
  small.lengths = {5, 6};
  small.end_lsn = {0x1000};
  Entry large;
  large.bytes = std::string(4'000, 'x') + "tail";
  large.lengths = {1'000, 3'004};
  large.whole = false;
  large.reset = true;
  large.idle_until = {7};
  const auto header = header_frame({{"run", "slot", "71"}, 3, {0x10}});
  std::vector<std::string> list{header, entry_frame(small), entry_frame(large)};
  for (std::size_t i = 0, count = list.size(); i < count; ++i) {
    list.push_back(list[i].substr(kFrameHead));
  }
  list.push_back(header + entry_frame(small) + entry_frame(large) + entry_frame(small));
  Footer footer{.number = 3, .end_lsn = {0x1000}};
  footer.add(header);
  footer.add(entry_frame(small), small);
  list.push_back(footer_frame(footer));
  list.push_back(header + entry_frame(small) + footer_frame(footer));
  return list;
}

std::uint32_t seed_of_run() {
  const char* text = std::getenv("PGCUTOVER_TEST_SEED");
  return text == nullptr ? 4711 : static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

}  // namespace

TEST_CASE(
    "the journal's records are taken or refused however broken they are, and nothing beside them is read") {
  const auto seed = seed_of_run();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto below = [&random](std::size_t limit) { return static_cast<std::size_t>(random()) % limit; };
  const auto start = seeds();
  for (const auto& bytes : start) {
    REQUIRE(tests::fuzz_journal({bytes.data(), bytes.size()}));
    for (std::size_t cut = 0; cut < bytes.size(); cut += 1 + bytes.size() / 200) {
      const std::vector<char> exact(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut));
      tests::fuzz_journal(exact);
    }
  }
  int taken = 0;
  constexpr int kRounds = 30'000;
  for (int i = 0; i < kRounds; ++i) {
    auto bytes = start[below(start.size())];
    for (auto times = 1 + below(3); times > 0 && !bytes.empty(); --times) {
      const auto place = below(bytes.size());
      switch (below(4)) {
        case 0:
          bytes.resize(place);
          break;
        case 1:
          bytes.insert(place, 1 + below(6), static_cast<char>(random()));
          break;
        case 2:
          bytes += start[below(start.size())];
          break;
        default:
          bytes[place] = static_cast<char>(random());
      }
    }
    const std::vector<char> exact(bytes.begin(), bytes.end());  // its own block, for the sanitizer
    taken += tests::fuzz_journal(exact) ? 1 : 0;
  }
  CHECK(taken > kRounds / 100);
  CHECK(taken < kRounds);
}
