// What is worth knowing about sequences beyond their values, for people who look at them: who names them in a
// text, how far the ids in the tables really are, and which keys need no sequence. Too dear for the pause of
// a switch.
//
// Threads: none of its own. Errors: base::Error of the server.
#pragma once

#include <string>
#include <vector>

#include "sequences/sequences.h"

namespace sequences {

// Fills mentioned_in of sequences that feed no column as far as the catalog knows: functions and defaults can
// name a sequence in a text ('orders_seq'::text), which leaves no dependency.
void add_mentions(postgres::Connection& connection, std::vector<Sequence>& sequences);
// Fills `highest` from columns that a plain btree index leads, where we may read them.
void add_highest_ids(postgres::Connection& connection, std::vector<Sequence>& sequences);

// A key that no sequence feeds: no headroom is needed for it, and none can help.
struct OtherKey {
  std::string column;  // "public.profile.key"
  std::string type;
  std::string kind;  // "uuid", "made by its default", "made by the application"
  bool primary = false;
};
// Single columns of primary keys and unique indexes that no sequence feeds, by name.
std::vector<OtherKey> keys_without_sequence(postgres::Connection& connection);

}  // namespace sequences
