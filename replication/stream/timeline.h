// Where a server's history forks: after a failover it is on another timeline, and shares with the old server
// what lies before the fork.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::stream {

// Where `timeline` ended, by the text of a later one's history file; nothing where that doesn't descend from
// it. Pure.
std::optional<base::Lsn> fork_in(std::string_view history, std::uint32_t timeline);

// The same asked of a walsender session whose server is on `now`.
std::optional<base::Lsn> fork_of(postgres::Connection& connection, std::uint32_t now, std::uint32_t timeline);

}  // namespace replication::stream
