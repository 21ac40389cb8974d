// Sequences while a migration lives: how fast they are used, what a hand-over sets, and whether each side
// stays within its range of ids.
//
// Threads: the controller's. Errors: base::Error of the servers; a look that fails while the session lives is
// logged and tried again at the next one.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "cutover/state/status.h"
#include "cutover/steps/handover.h"
#include "sequences/ledger.h"
#include "sequences/rate.h"

namespace cutover::steps {

sequences::HeadroomRule headroom_rule(const plan::Plan& plan);
// What a hand-over from this side would set.
sequences::BumpPlan plan_sequences(Context& context, Side from);
// Before a side opens: sets what a crash has taken since the hand-over set it (unlogged sequences only).
void set_lost_again(Context& context, Side closed);
// After the other side was opened: the closed side goes behind the open side's ranges, both servers get the
// whole ledger. Idempotent. Returns how many sequences got a new pair of ranges.
int set_closed_sequences(Context& context, Side closed);
// The same while nobody else does it: a hand-over is done and no controller lives. Returns how many sequences
// got a new pair of ranges; nothing where it isn't ours to do. Nobody is kept from taking over: who does
// makes this one fail (StateError).
std::optional<int> issue_without_controller(Servers& servers, const plan::Plan& plan);
// The ranges as the status shows them, of the server that takes writes and of a closed one that moved.
state::SequenceRangeStatus range_status(const sequences::Usage& usage);

class SequenceWatch {
 public:
  explicit SequenceWatch(Context& context) : context_(context) {}
  // Every 30 s, every 5 s while a range is half used: a sample of the rate; once a hand-over was done also
  // the ranges, with a new pair where 80 % are used.
  void tend(Side open);
  // Puts what was seen last into the status.
  void show(state::Status& status) const;

 private:
  void look(Side open);
  void look_at_ranges(Side open, const std::vector<sequences::Sequence>& now,
                      const std::map<sequences::Name, double>& rates);
  void tell(const sequences::Usage& usage);

  Context& context_;
  sequences::RateObserver observer_;
  int switches_ = 0;  // hand-overs when we looked last
  int looks_ = 0;
  bool close_look_ = false;
  base::Clock::time_point looked_{};
  std::map<std::string, sequences::RangeState> told_;  // by server and sequence
  std::vector<state::SequenceRangeStatus> ranges_;
  base::Findings findings_;
};

}  // namespace cutover::steps
