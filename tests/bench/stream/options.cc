#include "tests/bench/stream/options.h"

#include <map>
#include <sstream>

#include "replication/base/error.h"

namespace bench {
namespace {

constexpr const char* kUsage =
    "pgcutover_bench_stream tpcb|bulk|insert|random|skewed|huge|lag [--changes N] [--rounds N] "
    "[--variants pgcutover,native-off,native-on,native-parallel,pgcopydb,floor] [--source 15] [--target 17] "
    "[--rate N] [--seconds N]";

const std::map<std::string, std::int64_t>& full_sizes() {
  static const std::map<std::string, std::int64_t> sizes{
      {"tpcb", 800'000},     {"bulk", 2'000'000},  {"insert", 500'000}, {"random", 1'000'000},
      {"skewed", 1'000'000}, {"huge", 10'000'000}, {"lag", 0}};
  return sizes;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) {
    items.push_back(item);
  }
  return items;
}

}  // namespace

Options parse_options(int argc, const char* const* argv) {
  using replication::base::Error;
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!word.starts_with("--")) {
      options.workload = word;
      continue;
    }
    if (++i == argc) {
      throw Error(word + " has no value", kUsage);
    }
    const std::string value = argv[i];
    if (word == "--changes") {
      options.changes = std::stoll(value);
    } else if (word == "--rounds") {
      options.rounds = std::stoi(value);
    } else if (word == "--variants") {
      options.variants = split(value);
    } else if (word == "--source") {
      options.source_version = value;
    } else if (word == "--target") {
      options.target_version = value;
    } else if (word == "--rate") {
      options.rate = std::stoi(value);
    } else if (word == "--seconds") {
      options.seconds = std::stoi(value);
    } else {
      throw Error("unknown option " + word, kUsage);
    }
  }
  const auto size = full_sizes().find(options.workload);
  if (size == full_sizes().end()) {
    throw Error("unknown workload \"" + options.workload + "\"", kUsage);
  }
  if (options.changes == 0) {
    options.changes = size->second;
  }
  return options;
}

}  // namespace bench
