// A side that fails over to its own standby while its stream is in use: which timeline the applied position
// is on, and when the stream may go on from the promoted server.
#pragma once

#include <cstdint>

#include "cutover/steps/handover.h"
#include "replication/stream/receiver.h"

namespace cutover::steps {

// Remembers that positions on this side, from now on, are of the timeline that the server is on: when the
// slot of the stream that leaves it is made, and before a hand-over makes that stream the one in use.
void keep_timeline(Context& context, Side side);

// What the receiver of the stream from `from` has to know of it.
replication::stream::Lineage follow_failover(Context& context, Side from);
// For later processes, on the side that receives: a heartbeat that came from there; 0 forgets it.
void keep_heartbeat(Context& context, Side from, std::int64_t arrived);

// ": the server is on timeline 2 instead of 1, ..." where that is so; empty otherwise.
std::string moved_text(postgres::Connection& side, Side which, postgres::Connection& target);

}  // namespace cutover::steps
