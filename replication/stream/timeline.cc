#include "replication/stream/timeline.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "replication/base/error.h"
#include "replication/postgres/sqlstate.h"

namespace replication::stream {

// "1<tab>0/30000D8<tab>no recovery target specified", a line for each ancestor, the oldest first; '#' begins
// a comment. See src/backend/access/transam/timeline.c.
std::optional<Ancestor> ancestor_in(std::string_view history, std::uint32_t timeline) {
  constexpr std::string_view kBlank = " \t\r";
  Ancestor found;
  bool any = false;
  while (!history.empty()) {
    const auto end = history.find('\n');
    auto line = history.substr(0, end);
    history.remove_prefix(end == std::string_view::npos ? history.size() : end + 1);
    line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
    std::uint32_t ancestor = 0;
    const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), ancestor);
    if (error != std::errc()) {
      continue;
    }
    line.remove_prefix(static_cast<std::size_t>(rest - line.data()));
    line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
    found = {found.end, base::Lsn::parse(std::string(line.substr(0, line.find_first_of(kBlank))))};
    any = true;
    if (ancestor == timeline) {
      return found;
    }
  }
  return any && timeline == 0 ? std::optional(found) : std::nullopt;
}

namespace {

std::string history_of(postgres::Connection& connection, std::uint32_t timeline) {
  return connection.one_row("TIMELINE_HISTORY " + std::to_string(timeline)).text(0, 1);
}

}  // namespace

std::string Timeline::text() const {
  return std::to_string(number) + (begin && begin->valid() ? " from " + begin->to_string() : "");
}

std::string to_text(const Timeline& timeline) {
  return std::to_string(timeline.number) + (timeline.begin ? " " + timeline.begin->to_string() : "");
}

Timeline timeline_from_text(std::string_view text) {
  Timeline timeline;
  std::from_chars(text.data(), text.data() + text.size(), timeline.number);
  if (const auto space = text.find(' '); space != std::string_view::npos) {
    timeline.begin = base::Lsn::parse(std::string(text.substr(space + 1)));
  }
  return timeline;
}

Timeline timeline_of(postgres::Connection& connection, std::uint32_t number) {
  if (number <= 1) {
    return {number, base::Lsn{}};  // the first has no history
  }
  try {
    const auto last = ancestor_in(history_of(connection, number), 0);
    return {number, last ? std::optional(last->end) : std::nullopt};
  } catch (const base::Error& error) {
    if (error.sqlstate() != postgres::sqlstate::kUndefinedFile) {
      throw;
    }
    return {number, std::nullopt};  // a copy that was made without pg_wal doesn't have the file
  }
}

std::optional<base::Lsn> fork_of(postgres::Connection& connection, std::uint32_t now,
                                 const Timeline& before) {
  if (now <= before.number) {
    return std::nullopt;
  }
  const auto ancestor = ancestor_in(history_of(connection, now), before.number);
  if (!ancestor || (before.begin && *before.begin != ancestor->begin)) {
    return std::nullopt;
  }
  return ancestor->end;
}

}  // namespace replication::stream
