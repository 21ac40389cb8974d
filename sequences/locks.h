// Sequences and tables that somebody holds locked: a short wait at a time, so that nobody queues behind ours,
// tried again within a budget; then an Error that names what is locked and who holds it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "replication/postgres/connection.h"

namespace sequences {

namespace postgres = replication::postgres;

// One statement that reads `relations` (quoted names). Inside a transaction of the caller's it just waits.
postgres::Result read_patiently(postgres::Connection& connection, const std::string& sql,
                                const std::vector<std::string>& relations);

// `work` inside a transaction made here, with every one of the `sequences` (quoted names) locked as nextval
// locks it: setval isn't undone by a rollback, so nothing may be in its way once the first one is set.
void with_locked(postgres::Connection& connection, const std::vector<std::string>& sequences,
                 const std::function<void()>& work);

}  // namespace sequences
