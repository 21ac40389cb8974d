// `status` as any process can see it: the controller's last report, corrected by what the servers say now.
#pragma once

#include "cutover/state/status.h"
#include "cutover/steps/servers.h"

namespace cutover::steps {

// Never throws for a server that is away: the status says so. `state` is "none" where there is no migration.
state::Status read_live_status(const plan::Plan& plan, Servers& servers);

// Gives up an attempt that was cut off, with the source alone (its target may be lost): CONNECT back, state
// open, poolers released. `target_lost` also reopens a source that had passed its authority on: what was
// committed on the target after the last applied position is lost, and the text says so. Returns what a
// person should know.
std::string unfence(const plan::Plan& plan, Servers& servers, bool target_lost);

}  // namespace cutover::steps
