#include "replication/stream/timeline.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "replication/base/error.h"

namespace replication::stream {

// "1<tab>0/30000D8<tab>no recovery target specified", a line for each ancestor, the oldest first; '#' begins
// a comment. See src/backend/access/transam/timeline.c.
std::optional<base::Lsn> fork_in(std::string_view history, std::uint32_t timeline) {
  constexpr std::string_view kBlank = " \t\r";
  while (!history.empty()) {
    const auto end = history.find('\n');
    auto line = history.substr(0, end);
    history.remove_prefix(end == std::string_view::npos ? history.size() : end + 1);
    line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
    std::uint32_t ancestor = 0;
    const auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), ancestor);
    if (error != std::errc() || ancestor != timeline) {
      continue;
    }
    line.remove_prefix(static_cast<std::size_t>(rest - line.data()));
    line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
    return base::Lsn::parse(std::string(line.substr(0, line.find_first_of(kBlank))));
  }
  return std::nullopt;
}

std::optional<base::Lsn> fork_of(postgres::Connection& connection, std::uint32_t now,
                                 std::uint32_t timeline) {
  if (now <= timeline) {
    return std::nullopt;
  }
  const auto history = connection.one_row("TIMELINE_HISTORY " + std::to_string(now));
  return fork_in(history.text(0, 1), timeline);
}

}  // namespace replication::stream
