// The hand-over of authority from one side to the other: `switch` from the source, `rollback` from the
// target, and the settling of one that was cut off.
//
//   step          what                                                    undone by
//   gates         lag, transactions, poolers, catalog: refuse early       nothing changed
//   attempt       the fence's row says an attempt is under way            state open again
//   hold          all traffic held, all or nothing                        release
//   lock          published tables locked against writers (a session)     the session's end
//   drain         catalog as it was; a marker arrives: nothing before it is missing
//   fence         CONNECT taken away, sessions ended, no prepared one     grants back
//   unstreamed    what no stream carries: looked at once more             harmless
//   sequences     read now, set on the other side with headroom           harmless
//   prove         a second marker: no change came in between
//   commit        POINT OF NO RETURN: one COMMIT on the side that closes
//   open          locks dropped, the other side opened
//   move          poolers sent there
//   release       traffic flows: the pause ends here
//
// Until the commit any failure, time-out or stop request undoes everything in reverse order. After it nothing
// is undone: what is left is finished, by this process, by the guardian or by the next controller (settle).
// One budget (gates.max_pause) covers hold to commit.
#pragma once

#include <string>
#include <vector>

#include "cutover/plan/plan.h"
#include "cutover/steps/link.h"
#include "cutover/steps/servers.h"
#include "cutover/steps/store.h"
#include "replication/base/error.h"
#include "replication/postgres/fencing_token.h"

namespace cutover::steps {

// What every step of a controller needs.
struct Context {
  const plan::Plan& plan;
  Servers& servers;
  postgres::FencingToken token;
  RunRecord run;
};

struct HandoverResult {
  bool done = false;    // false: undone, the side it came from takes writes
  double pause_ms = 0;  // from hold to release
  base::Lsn fence_lsn;  // end of the first marker's commit on the side that closed
  int sessions_ended = 0;
  std::vector<std::string> left_behind;  // what no stream carries, by choice (gates.unstreamed)
  std::string message, hint;
  base::ExitCode exit_code = base::ExitCode::done;
};

// Throws where the gates refuse (nothing changed) or where an operator is needed; otherwise the outcome.
// `published`: the digest of the publication of `from` that PublicationWatch has seen.
HandoverResult hand_over(Context& context, Side from, Link& link, const std::string& published);

// Brings both fences and the traffic into a state that is allowed to stay: undoes an attempt that had not
// passed the point of no return, finishes one that had. Idempotent; called by every new controller and by the
// guardian.
void settle(Context& context);

// The side that takes writes, as the fences say; nothing between the two sides of a hand-over.
std::optional<Side> primary_side(postgres::Connection& source, postgres::Connection& target);

}  // namespace cutover::steps
