// Numbers for property tests. PGCUTOVER_TEST_SEED repeats a run that failed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

class Random {
 public:
  Random() : seed_(chosen()), engine_(seed_) {}
  std::int64_t operator()(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
  }
  std::string seed_text() const { return "PGCUTOVER_TEST_SEED=" + std::to_string(seed_); }

 private:
  static unsigned chosen() {
    const char* given = std::getenv("PGCUTOVER_TEST_SEED");
    return given == nullptr ? std::random_device{}() : static_cast<unsigned>(std::stoul(given));
  }
  unsigned seed_;
  std::mt19937_64 engine_;
};
