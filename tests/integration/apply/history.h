// Random histories: transactions over tables of every kind of replica identity, from a seed.
//
// Every operation may fail on a constraint; it then is a subtransaction that was rolled back, as with a
// savepoint.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace apply_stage {

class History {
 public:
  // `swaps`: unique values of other columns than the key change hands, keys change without their row's large
  // value: sets can't always follow, so that batches fall back to single changes.
  History(std::uint32_t seed, bool swaps) : random_(seed), swaps_(swaps) {}

  // The tables, on both sides; and the rows of the source to begin with.
  static const std::vector<std::string>& tables();
  static std::string create_tables();

  // One transaction, as one statement.
  std::string transaction();

 private:
  int pick(int below) { return static_cast<int>(random_() % static_cast<std::uint32_t>(below)); }
  std::string number(int below) { return std::to_string(pick(below)); }
  std::string unique() { return swaps_ ? number(20) : "NULL"; }
  std::string id() { return number(kKeys); }
  std::string text();  // NULL, empty, short, or long enough for TOAST
  std::string new_big();
  std::string operation();
  std::string on_keyed(const std::string& table);
  std::string on_indexed();
  std::string on_keyless();

  static constexpr int kKeys = 12;
  std::mt19937 random_;
  const bool swaps_;
};

}  // namespace apply_stage
