// How fast a copy goes while it goes: the plan's limits, what `pgcutover throttle` asks for meanwhile, and
// how much the source has to carry.
//
// What `throttle` asked for is kept as facts on the target: it holds for this copy and for later ones, until
// `throttle` is called again. The verb is answered as long as the object lives, the source's load is looked
// at while a copy goes. Threads: one of its own with sessions of its own, alive as long as the object; it
// looks every half second, and the copying threads never wait for a look. A server that can't be asked is
// asked again at the next look; what holds stays as it was. Rates: MB (10^6 bytes) of rows a second, 0 = no
// limit.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <thread>

#include "cutover/state/records.h"
#include "cutover/steps/handover.h"
#include "cutover/steps/publisher.h"
#include "cutover/steps/source_load.h"
#include "replication/snapshot/pace.h"

namespace cutover::steps {

class Throttle {
 public:
  // Throws StateError where the plan limits the copy by what this role can't see.
  Throttle(const Context& context, Publisher& publisher);
  ~Throttle();
  Throttle(const Throttle&) = delete;
  Throttle& operator=(const Throttle&) = delete;

  // What a copy goes by from here to end_copy(); the object must outlive the copy. `snapshot_each`: tables
  // have snapshots of their own, so that not beginning one makes xmin younger, not older.
  replication::snapshot::Pace* begin_copy(bool snapshot_each);
  void end_copy();

 private:
  void watch();
  void look();
  void apply_limits(postgres::Connection& target);
  void look_at_load();
  void hold(const std::string& sending, const std::string& starting);

  const Context& context_;
  Publisher& publisher_;
  replication::snapshot::Pace pace_;
  base::Stop ended_;
  std::optional<postgres::Connection> target_, source_;
  CopyLimits limits_;
  SourceLoad load_;
  std::atomic<bool> copying_{false}, snapshot_each_{false};
  std::string held_;  // why the copy rests; empty = it doesn't
  bool complained_ = false;
  std::thread thread_;
};

// The verb `throttle`, one transaction: takes the oldest one that was asked for, keeps its limits and
// answers. False where none was asked for. Other commands stay where they are.
bool obey_throttle(postgres::Connection& target, const postgres::FencingToken& token, const plan::Plan& plan);
// Keeps the limits of this request for copies to come; what it doesn't name stays as it was.
state::CommandReply keep_limits(postgres::Connection& target, const postgres::FencingToken& token,
                                const plan::Plan& plan, const state::CommandRequest& request);

}  // namespace cutover::steps
