// Rows of our own tables in the stream. pgcutover.marker: id 1 is a marker's token, id 2 the heartbeat's
// time; pgcutover.progress (two-way only): how far the other direction was applied. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "replication/apply/target_table.h"
#include "replication/base/lsn.h"
#include "replication/pgoutput/relation_cache.h"

namespace replication::apply {

inline constexpr std::string_view kOwnSchema = "pgcutover";
inline constexpr std::string_view kMarkerTable = "marker";
inline constexpr std::string_view kProgressTable = "progress";

struct MarkerRow {
  std::optional<std::string> token;          // of row 1
  std::optional<std::int64_t> heartbeat_us;  // of row 2: since 2000-01-01 UTC
};

// Text or binary. Throws Error where the row isn't the marker table's.
MarkerRow read_marker_row(const pgoutput::CachedRelation& relation, Row row);
base::Lsn read_progress_row(const pgoutput::CachedRelation& relation, Row row);

}  // namespace replication::apply
