// Triggers and rules that fire for applied changes too (ENABLE ALWAYS, ENABLE REPLICA): put to sleep while a
// stream writes to their tables, and woken exactly as they were.
//
// Their effects arrive by themselves, as changes of their own. ALWAYS becomes the ordinary mode and REPLICA
// becomes disabled, so that for sessions other than apply's nothing changes meanwhile. What was found is
// stored in pgcutover.quieted in the same transaction: whoever comes after a kill finds it. Tables include
// their partitions and inheritance children. Idempotent; an ordinary session with the rights of the tables'
// owners; a few milliseconds, with a lock on each table that conflicts with writers: where that isn't to be
// had at once everything is given back and tried again until `budget` is used up, so that nobody queues
// behind it. Both throw StateError where another controller took over, and nothing is changed then.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/fencing_token.h"

namespace replication::apply {

// "trigger t", "rule r" of this table (alone) that fire for applied changes.
std::vector<std::string> firing_when_applied(postgres::Connection& connection, base::Oid table);

// Returns what it put to sleep now: "trigger t of public.a". Before a stream that writes to `tables` is
// started; not inside a transaction.
std::vector<std::string> quiet_tables(postgres::Connection& connection,
                                      const std::vector<catalog::Table>& tables,
                                      const postgres::FencingToken& token, base::Deadline budget);

// Everything as it was, and the store empty. Returns what could not be restored, since it is gone or somebody
// gave it another mode meanwhile: "trigger t of public.a is now disabled, it was ENABLE ALWAYS". After the
// last row was applied and before applications write here; not inside a transaction.
std::vector<std::string> wake_tables(postgres::Connection& connection, const postgres::FencingToken& token,
                                     base::Deadline budget);

}  // namespace replication::apply
