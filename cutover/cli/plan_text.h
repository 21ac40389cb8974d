// What `plan` prints: the steps that `run` and `switch` will take, with this system's own values. Reads both
// servers, changes nothing.
#pragma once

#include <string>

#include "cutover/steps/servers.h"

namespace cutover::cli {

std::string plan_text(const plan::Plan& plan, steps::Servers& servers);

}  // namespace cutover::cli
