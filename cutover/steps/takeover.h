// Becoming the controller: end what a predecessor left running on both servers, then raise the epoch on both,
// so that whatever it may still try changes nothing.
#pragma once

#include <string>

#include "cutover/steps/servers.h"
#include "replication/postgres/fencing_token.h"

namespace cutover::steps {

// Ends sessions of our role that carry another process's tag ("pgcutover ... TAG"), or only those with
// `only_tag` where it isn't empty, and waits until they are gone. Returns how many there were.
int end_sessions(postgres::Connection& connection, const std::string& own_tag, const std::string& only_tag,
                 base::Deadline deadline);

// Ends predecessors' sessions and raises the epoch on both servers (highest seen + 1) and in the progress
// rows.
postgres::FencingToken take_over(Servers& servers);

// For the guardian: takes the place of exactly the controller with this epoch; nothing where somebody else
// already did.
std::optional<postgres::FencingToken> succeed(Servers& servers, std::int64_t epoch,
                                              const std::string& controller_tag);

}  // namespace cutover::steps
