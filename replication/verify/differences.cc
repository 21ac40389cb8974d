#include "replication/verify/differences.h"

#include <algorithm>
#include <bit>
#include <map>
#include <vector>

#include "replication/verify/both_sides.h"

namespace replication::verify {
namespace {

constexpr int kHashBits = 62;  // the rest would meet the sign

struct Group {
  std::int64_t rows = 0;
  std::string sum;
  bool operator==(const Group&) const = default;
};

struct Suspect {
  std::int64_t value = 0;  // under the mask
  std::int64_t rows = 0;   // of the larger side
};

std::int64_t mask_of(int bits) {
  return (std::int64_t{1} << bits) - 1;
}

int bits_for(std::int64_t rows, const DifferenceLimits& limits) {
  const auto buckets = static_cast<std::uint64_t>(rows / std::max<std::int64_t>(limits.bucket_rows, 1));
  return std::min(static_cast<int>(std::bit_width(buckets)), limits.bucket_bits_max);
}

std::map<std::int64_t, Group> read_groups(const postgres::Result& result) {
  std::map<std::int64_t, Group> groups;
  for (int row = 0; row < result.rows(); ++row) {
    groups.emplace(result.integer(row, 0), Group{.rows = result.integer(row, 1), .sum = result.text(row, 2)});
  }
  return groups;
}

// Buckets that differ, the smallest first.
std::vector<Suspect> suspects(Side& source, Side& target, const TableSql& sql, Bucket within,
                              std::int64_t mask) {
  const auto text = sql.buckets(within, mask);
  auto [here, there] =
      on_both_sides(source, target, [&text](Side& side) { return read_groups(side.query(text)); });
  std::vector<Suspect> found;
  for (const auto& [value, group] : here) {
    const auto other = there.find(value);
    const Group counterpart = other == there.end() ? Group{} : other->second;
    if (!(group == counterpart)) {
      found.push_back({.value = value, .rows = std::max(group.rows, counterpart.rows)});
    }
    if (other != there.end()) {
      there.erase(other);
    }
  }
  for (const auto& [value, group] : there) {
    found.push_back({.value = value, .rows = group.rows});
  }
  std::ranges::sort(found, {}, &Suspect::rows);
  return found;
}

struct Key {
  std::string text;
  std::map<std::int64_t, std::int64_t> source, target;  // row hash -> how often
};

void read_keys(const postgres::Result& result, std::map<std::int64_t, Key>& keys, bool of_source) {
  for (int row = 0; row < result.rows(); ++row) {
    Key& key = keys[result.integer(row, 0)];
    (of_source ? key.source : key.target)[result.integer(row, 1)] += result.integer(row, 2);
    key.text = result.text(row, 3);
  }
}

std::int64_t total(const std::map<std::int64_t, std::int64_t>& rows) {
  std::int64_t sum = 0;
  for (const auto& [hash, count] : rows) {
    sum += count;
  }
  return sum;
}

std::string times(std::int64_t count) {
  return std::to_string(count) + (count == 1 ? " time" : " times");
}

std::string verdict(const Key& key) {
  const auto here = total(key.source);
  const auto there = total(key.target);
  if (here == there && here == 1) {
    return "different";
  }
  if (here == 1 && there == 0) {
    return "missing on the target";
  }
  if (here == 0 && there == 1) {
    return "only on the target";
  }
  return times(here) + " on the source, " + times(there) + " on the target";
}

std::string maker(const Key& key, const TableSql& sql, const MadeBy& made_by) {
  const auto fields = fields_of(key.text);
  const auto& columns = sql.key_columns();
  for (std::size_t i = 0; made_by && i < std::min(fields.size(), columns.size()); ++i) {
    if (const auto server = made_by(columns[i], fields[i]); !server.empty()) {
      return ", " + columns[i] + " made by the " + server;
    }
  }
  return {};
}

std::string list(const std::map<std::int64_t, Key>& keys, const TableSql& sql, int keys_max, bool more,
                 const MadeBy& made_by) {
  std::string text;
  int named = 0;
  for (const auto& [hash, key] : keys) {
    if (key.source == key.target) {
      continue;
    }
    if (named == keys_max) {
      more = true;
      break;
    }
    text += (text.empty() ? "" : "; ") + sql.key_label() + " = " + key.text + " " + verdict(key) +
            maker(key, sql, made_by);
    ++named;
  }
  return text + (more ? "; and more" : "");
}

}  // namespace

std::string describe_differences(Side& source, Side& target, const TableSql& sql, std::int64_t rows,
                                 const DifferenceLimits& limits, const MadeBy& made_by) {
  if (limits.keys_max <= 0) {
    return {};
  }
  Bucket within;
  int bits = bits_for(rows, limits);
  bool more = false;
  auto found = suspects(source, target, sql, within, mask_of(bits));
  while (!found.empty() && found.front().rows > limits.fetched_rows_max && bits < kHashBits) {
    more = more || found.size() > 1;
    within = {.mask = mask_of(bits), .value = found.front().value};
    bits = std::min(bits + limits.bucket_bits_max, kHashBits);
    found = suspects(source, target, sql, within, mask_of(bits));
  }
  std::vector<std::int64_t> values;
  std::int64_t fetched = 0;
  for (const auto& suspect : found) {
    // The first one always: where it can't be divided further, its rows share few hashes and are fetched as
    // counts.
    if (!values.empty() && (static_cast<int>(values.size()) >= limits.keys_max ||
                            fetched + suspect.rows > limits.fetched_rows_max)) {
      more = true;
      break;
    }
    values.push_back(suspect.value);
    fetched += suspect.rows;
  }
  const auto text = sql.rows(mask_of(bits), values);
  const auto [here, there] = on_both_sides(source, target, [&text](Side& side) { return side.query(text); });
  std::map<std::int64_t, Key> keys;
  read_keys(here, keys, true);
  read_keys(there, keys, false);
  return list(keys, sql, limits.keys_max, more, made_by);
}

}  // namespace replication::verify
