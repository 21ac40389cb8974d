// pgbouncer's ini text: find a database's line and change where it points, nothing else. Pure functions of
// text.
//
// Follows pgbouncer.ini(5) and its parser (libusual cfparser.c, pgbouncer loader.c): sections in brackets,
// comments with ; or # at the start of a line, `name = key=value key='it''s'`. Names may be quoted like SQL
// identifiers where the pooler's version knows that. A file without any section header is taken for one that
// is included from within [databases].
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cutover/plan/plan.h"

namespace cutover::traffic {

struct IniEntry {
  std::size_t line_begin = 0, line_end = 0;  // the line without its newline, in the whole text
  std::size_t value_begin = 0;               // where the connect string begins
  plan::Address address;  // with pgbouncer's defaults: port 5432, dbname = the entry's name
  std::optional<std::string> pool_mode = {};
};

// Nothing where the database isn't listed. Throws Error where it is listed twice or its line can't be read.
std::optional<IniEntry> find_entry(std::string_view text, std::string_view database);

// The text with the database's line pointing at `to`. The line as it was before is kept in a comment above
// it; moving to where that line pointed puts exactly that line back and takes the comment away. The same text
// where it points there already. Throws Error where the database isn't listed.
std::string point_entry(std::string_view text, std::string_view database, const plan::Address& to);

// The text with one more database below this one's line, which nobody uses: where the pooler shows it after
// RELOAD, an edit of this line will be taken over too. Probes that were left behind are taken out.
std::string add_probe(std::string_view text, std::string_view database, std::string_view probe);
std::string without_probes(std::string_view text);
inline constexpr std::string_view kProbePrefix = "pgcutover_probe_";

}  // namespace cutover::traffic
