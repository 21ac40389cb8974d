// Where a server's history forks: after a failover it is on another timeline, and shares with the old server
// what lies before the fork.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::stream {

// Numbers aren't unique: two standbys of one server that are promoted separately are both on the next one.
// Where it began tells most of them apart.
struct Timeline {
  std::uint32_t number = 0;        // 0 = unknown
  std::optional<base::Lsn> begin;  // 0/0 for the first; nothing = not known
  // "2 from 0/3000000"
  std::string text() const;
};
// "2 0/3000000" and back; what can't be read is unknown.
std::string to_text(const Timeline& timeline);
Timeline timeline_from_text(std::string_view text);

// An ancestor in a history file's text: where it began and where it ended.
struct Ancestor {
  base::Lsn begin, end;
};
// `timeline` as an ancestor in the text of a later one's history file; nothing where that doesn't descend
// from it. 0 for the last one, whose end is where the file's own timeline began. Pure.
std::optional<Ancestor> ancestor_in(std::string_view history, std::uint32_t timeline);

// Of the server of a walsender session, which is on timeline `number`.
Timeline timeline_of(postgres::Connection& connection, std::uint32_t number);
// Where its history left `before`; nothing where it doesn't descend from that very one.
std::optional<base::Lsn> fork_of(postgres::Connection& connection, std::uint32_t now, const Timeline& before);

}  // namespace replication::stream
