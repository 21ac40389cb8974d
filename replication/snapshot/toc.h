// The table of contents of an archive, as `pg_restore --list` prints it and `--use-list` takes it back. Pure.
#pragma once

#include <string>
#include <string_view>

namespace replication::snapshot {

// The list without the entries that have their own moment: foreign keys (once the stream has passed every
// table's snapshot) and materialized views' data (once the tables are complete). Lines are kept as they are,
// so that names with spaces don't matter.
std::string keep_for_post_data(std::string_view toc);

// Whether the list names anything at all: pg_restore takes an empty list for "everything".
bool has_entries(std::string_view toc);

}  // namespace replication::snapshot
