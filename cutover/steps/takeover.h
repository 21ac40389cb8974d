// Becoming the controller: end what a predecessor left running on both servers, then raise the epoch on both,
// so that whatever it may still try changes nothing.
#pragma once

#include <string>
#include <vector>

#include "cutover/steps/servers.h"
#include "replication/postgres/fencing_token.h"

namespace cutover::steps {

// Ends sessions of our role that carry another process's tag ("pgcutover ... TAG"), or only those with
// `only_tag` where it isn't empty, and waits until they are gone. Returns how many there were.
int end_sessions(postgres::Connection& connection, const std::string& own_tag, const std::string& only_tag,
                 base::Deadline deadline);

// Ends predecessors' sessions and raises the epoch on these servers (highest seen + 1) and in the progress
// rows. Both, but where one of them has nothing of ours left.
postgres::FencingToken take_over(Servers& servers,
                                 const std::vector<Side>& sides = {Side::source, Side::target});

// For the guardian, on one server: takes the place of exactly the controller with this epoch and tag; the
// epoch is one higher then. False where somebody else already did.
bool succeed_on(postgres::Connection& connection, std::int64_t epoch, const std::string& own_tag,
                const std::string& controller_tag);

}  // namespace cutover::steps
