// Small texts: durations, nearest words, names, the short form of a pooler.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <numeric>

#include "cutover/plan/plan.h"
#include "replication/base/error.h"
#include "replication/base/redaction.h"

namespace cutover::plan {
namespace {

constexpr std::size_t kNameMax = 30;

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

// FNV-1a: the same on every machine and in every version, which std::hash doesn't promise.
std::string short_hash(std::string_view text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  char hex[7];
  std::snprintf(hex, sizeof hex, "%06x", hash & 0xffffffU);
  return hex;
}

struct Pair {
  std::string key, value;
};

// key=value pairs with libpq's quoting: '...' with \' and \\ inside.
std::vector<Pair> split_pairs(std::string_view text, std::string_view what) {
  std::vector<Pair> pairs;
  std::size_t at = 0;
  const auto blank = [&] {
    return at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n');
  };
  const auto fail = [&](const std::string& message) {
    throw base::UsageError(std::string(what) + ": " + message,
                           "write it as admin='host=... user=...' database=NAME ini=FILE");
  };
  while (true) {
    while (blank()) {
      ++at;
    }
    if (at >= text.size()) {
      return pairs;
    }
    Pair pair;
    const auto equals = text.find('=', at);
    if (equals == std::string_view::npos) {
      fail("'" + std::string(text.substr(at)) + "' is not key=value");
    }
    pair.key = std::string(text.substr(at, equals - at));
    at = equals + 1;
    const bool quoted = at < text.size() && text[at] == '\'';
    at += quoted ? 1 : 0;
    bool closed = !quoted;
    while (at < text.size() && (quoted || !blank())) {
      if (quoted && text[at] == '\'') {
        ++at;
        closed = true;
        break;
      }
      if (text[at] == '\\' && at + 1 < text.size()) {
        ++at;
      }
      pair.value.push_back(text[at++]);
    }
    if (!closed) {
      fail("the quote after " + pair.key + "= isn't closed");
    }
    pairs.push_back(std::move(pair));
  }
}

}  // namespace

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const auto& candidate : candidates) {
    const auto distance = edit_distance(word, candidate);
    const auto limit = std::max<std::size_t>(2, word.size() / 3);
    if (distance < least && distance <= limit && distance < candidate.size()) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

base::milliseconds parse_duration(std::string_view text, std::string_view what) {
  struct Unit {
    std::string_view name;
    std::int64_t milliseconds;
  };
  static constexpr Unit kUnits[] = {
      {"ms", 1}, {"s", 1'000}, {"min", 60'000}, {"m", 60'000}, {"h", 3'600'000}};
  constexpr std::int64_t kMax = std::int64_t{30} * 24 * 3'600'000;
  std::int64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  for (const auto& unit : kUnits) {
    if (error == std::errc() && suffix == unit.name && number >= 0 && number <= kMax / unit.milliseconds) {
      return base::milliseconds(number * unit.milliseconds);
    }
  }
  throw base::UsageError(std::string(what) + " wants a duration, not '" + std::string(text) + "'",
                         "write a whole number with ms, s, m or h: 500ms, 5s, 2m");
}

std::string duration_text(base::milliseconds span) {
  const auto count = span.count();
  if (count != 0 && count % 3'600'000 == 0) {
    return std::to_string(count / 3'600'000) + "h";
  }
  if (count != 0 && count % 60'000 == 0) {
    return std::to_string(count / 60'000) + "m";
  }
  if (count % 1'000 == 0) {
    return std::to_string(count / 1'000) + "s";
  }
  return std::to_string(count) + "ms";
}

std::string name_from_database(std::string_view database) {
  std::string name;
  for (const char c : database) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    name.push_back(upper ? static_cast<char>(c - 'A' + 'a') : plain ? c : '_');
  }
  // Slots are named per cluster: "a b" and "a_b" may be two databases of one, so a changed name carries a
  // hash.
  if (name != database || name.size() > kNameMax) {
    const auto hash = short_hash(database);
    name.resize(std::min(name.size(), kNameMax - hash.size() - 1));
    name += "_" + hash;
  }
  return name;
}

PgbouncerSpec parse_pgbouncer(std::string_view text, std::string_view what) {
  PgbouncerSpec spec;
  const std::vector<std::string> keys{"admin", "database", "ini", "edit-command"};
  for (const auto& [key, value] : split_pairs(text, what)) {
    if (key == "admin") {
      spec.admin = postgres::ConnInfo::parse(value, std::string(what) + " admin");
      base::register_secret(spec.admin.get("password"));
    } else if (key == "database") {
      spec.database = value;
    } else if (key == "ini") {
      spec.ini = value;
    } else if (key == "edit-command") {
      spec.edit_command = {value};
    } else {
      const auto near = nearest(key, keys);
      throw base::UsageError(
          std::string(what) + ": unknown key '" + key + "'",
          near ? "did you mean '" + *near + "'?" : "valid: admin, database, ini, edit-command");
    }
  }
  return spec;
}

}  // namespace cutover::plan
