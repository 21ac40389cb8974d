// What is worth knowing about sequences beyond their values, for people who look at them: who names them in a
// text, how far the ids in the tables really are, and which keys need no sequence. Too dear for the pause of
// a switch.
//
// Threads: none of its own. Errors: base::Error of the server.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sequences/sequences.h"

namespace sequences {

// Fills mentioned_in of sequences that feed no column as far as the catalog knows: functions and defaults can
// name a sequence in a text ('orders_seq'::text), which leaves no dependency.
void add_mentions(postgres::Connection& connection, std::vector<Sequence>& sequences);
// Fills `highest` from columns that a plain btree index leads, where we may read them.
void add_highest_ids(postgres::Connection& connection, std::vector<Sequence>& sequences);
// The same of sequences only whose own value may be lost: the one thing that is worth its price in a pause.
void add_highest_ids_of_unlogged(postgres::Connection& connection, std::vector<Sequence>& sequences);

// A key that no sequence feeds. Of a key's columns the one that makes it unique by itself decides: a key with
// a column that a sequence feeds is not listed.
enum class KeyKind {
  uuid,                 // type uuid (also underneath a domain): two sides don't make the same one
  made_by_default,      // its default calls a function: no id is counted
  made_by_application,  // a primary key of one column that nothing in the database makes
  natural  // unique, but no id of its own (also one that is a foreign key): both sides can make the same one
};
// For people: "uuid", "made by its default", "made by the application", "natural key".
std::string_view to_string(KeyKind kind);
// False: headroom can't keep two sides apart.
inline bool needs_no_headroom(KeyKind kind) {
  return kind != KeyKind::natural;
}

struct OtherKey {
  std::string column;  // "public.profile.key", or "public.profile (tenant, lower(mail))"
  std::string type;    // empty for several columns
  KeyKind kind = KeyKind::natural;
  bool primary = false;
};
// Primary keys, unique indexes (partial ones and those of expressions too) and exclusion constraints that no
// sequence feeds, by name.
std::vector<OtherKey> keys_without_sequence(postgres::Connection& connection);

}  // namespace sequences
