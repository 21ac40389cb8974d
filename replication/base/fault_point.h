// Named places at which a test can make the process die, fail, freeze or wait. Compiled always, so that the
// binary that is tested is the binary that ships; inert unless PGCUTOVER_TESTING=1 is in the environment.
//
//   PGCUTOVER_FAULT="switch.after-fence:kill"          SIGKILL to itself
//   PGCUTOVER_FAULT="copy.table:error"                 throws a retryable Error
//   PGCUTOVER_FAULT="switch.after-hold:stop"           SIGSTOP to itself (a test continues it)
//   PGCUTOVER_FAULT="apply.before-commit:kill@7"       at the seventh time it is passed
// Several are separated by commas. The names in use are listed by `pgcutover --list-fault-points` (testing
// only).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace replication::base {

// Passing a fault point. `name` is a literal that is registered in kFaultPoints (fault_point.cc); an unknown
// one is a Bug, so that the list is complete.
void fault_point(std::string_view name);

// Every fault point there is, in the order of the list in fault_point.cc.
std::vector<std::string> fault_points();

}  // namespace replication::base
