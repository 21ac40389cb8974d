// What `plan` prints: the steps that `run` and `switch` will take, with this system's own values. Reads both
// servers, changes nothing.
#pragma once

#include <string>

#include "cutover/steps/servers.h"

namespace cutover::cli {

// `reset_target`: names what would be dropped.
std::string plan_text(const plan::Plan& plan, steps::Servers& servers, bool reset_target);

}  // namespace cutover::cli
