// The fuzzer's harness under a fixed seed, for every build: valid messages, broken at random.
// PGCUTOVER_TEST_SEED chooses another seed.
#include <cstdlib>
#include <doctest/doctest.h>
#include <random>
#include <string>
#include <vector>

#include "replication/pgoutput/message.h"
#include "tests/fuzz/pgoutput_harness.h"
#include "tests/unit/pgoutput/encoder.h"

namespace {

using namespace replication::pgoutput;
using tests::Encoder;

std::vector<std::string> seeds() {
  const std::vector<ColumnValue> row{{ColumnKind::text, "4711"},
                                     {ColumnKind::null, {}},
                                     {ColumnKind::unchanged_toast, {}},
                                     {ColumnKind::binary, "\1\2\3\4"}};
  const auto image = Encoder().row(row).bytes();
  return {Encoder().tag('B').u64(5).u64(6).u32(7).bytes(),
          Encoder().tag('C').u8(0).u64(5).u64(6).u64(7).bytes(),
          Encoder().tag('O').u64(5).c_string("origin").bytes(),
          Encoder().tag('Y').u32(99'999).c_string("public").c_string("mood").bytes(),
          Encoder()
              .tag('R')
              .u32(7)
              .c_string("s")
              .c_string("t")
              .tag('i')
              .u16(2)
              .u8(1)
              .c_string("a")
              .u32(23)
              .u32(9)
              .u8(0)
              .c_string("b")
              .u32(25)
              .u32(9)
              .bytes(),
          Encoder().tag('I').u32(7).tag('N').raw(image).bytes(),
          Encoder().tag('U').u32(7).tag('K').raw(image).tag('N').raw(image).bytes(),
          Encoder().tag('U').u32(7).tag('N').raw(image).bytes(),
          Encoder().tag('D').u32(7).tag('O').raw(image).bytes(),
          Encoder().tag('T').u32(2).u8(1).u32(7).u32(8).bytes(),
          Encoder().tag('M').u8(0).u64(5).c_string("p").u32(3).raw("abc").bytes()};
}

std::uint32_t seed_of_run() {
  const char* text = std::getenv("PGCUTOVER_TEST_SEED");
  return text == nullptr ? 4711 : static_cast<std::uint32_t>(std::strtoul(text, nullptr, 10));
}

void mutate(std::string& bytes, std::mt19937& random) {
  const auto below = [&random](std::size_t limit) { return static_cast<std::size_t>(random()) % limit; };
  const auto place = [&] { return bytes.empty() ? 0 : below(bytes.size()); };
  switch (below(5)) {
    case 0:
      bytes.resize(place());
      break;
    case 1:
      bytes.insert(place(), 1 + below(6), static_cast<char>(random()));
      break;
    case 2:
      bytes.erase(place(), 1 + below(4));
      break;
    case 3:
      bytes += bytes.substr(place());
      break;
    default:
      if (!bytes.empty()) {
        bytes[place()] = "\0\xFF\x7F\x80\1tbnuNKO"[below(12)];
      }
  }
}

}  // namespace

TEST_CASE("the decoder takes or refuses every broken message, and reads nothing beside it") {
  const auto seed = seed_of_run();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto start = seeds();
  for (const auto& bytes : start) {
    REQUIRE(tests::fuzz_pgoutput({bytes.data(), bytes.size()}));
  }
  int taken = 0;
  constexpr int kRounds = 200'000;
  for (int i = 0; i < kRounds; ++i) {
    auto bytes = start[static_cast<std::size_t>(random()) % start.size()];
    for (auto times = 1 + random() % 3; times > 0; --times) {
      mutate(bytes, random);
    }
    const std::vector<char> exact(bytes.begin(), bytes.end());  // its own block, for the sanitizer
    taken += tests::fuzz_pgoutput(exact) ? 1 : 0;
  }
  CHECK(taken > kRounds / 100);
  CHECK(taken < kRounds);
}
