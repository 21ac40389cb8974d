// Traffic: the apps' ways to the database, held, moved and released during a switch or rollback.
//
// An Adapter is one such way: a database of one pgbouncer, or an app's own hooks. A TrafficSet holds all of
// them. Threads: an Adapter belongs to one thread at a time; TrafficSet runs its adapters in threads of its
// own during hold_all, move_all and release_all and joins them before it returns. The fencing token:
// `Guard::assert_epoch` is called right before each action that changes anything (it throws where another
// controller took over) by the thread that called the TrafficSet, never concurrently. release() doesn't ask:
// to let held clients go on is right whoever does it.
// A pause survives the death of who asked for it: release() works on adapters that never called hold().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cutover/plan/plan.h"
#include "replication/base/deadline.h"
#include "replication/base/finding.h"
#include "replication/base/stop.h"

namespace cutover::traffic {

namespace base = replication::base;
namespace postgres = replication::postgres;

enum class Destination { source, target };
std::string_view to_string(Destination destination);
Destination other(Destination destination);

struct Guard {
  std::int64_t epoch = 0;              // for the environment of hooks
  std::function<void()> assert_epoch;  // null = nothing to ask (check, release)
};

class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual std::string name() const = 0;  // "web: pgbouncer shop at host=..."

  // Everything that can be proven before a pause, without changing where clients go. `expected` is the side
  // they should be on now; `pause_max` the budget that clients have to survive. Failures are findings, not
  // exceptions. pgbouncer: RELOAD, and for an instant a database that nobody uses in its ini, since nothing
  // less proves that an edit will be taken over. Hooks: `where` is run.
  virtual base::Findings check(Destination expected, base::milliseconds pause_max) = 0;
  // Stops new transactions and waits for open ones. On any failure traffic flows again before it throws
  // (TimeoutError naming who is in the way).
  virtual void hold(base::Deadline deadline) = 0;
  // Lets traffic flow. Idempotent, also where another process did the holding. Throws where it can't be done.
  virtual void release(base::Deadline deadline) = 0;
  // Sends traffic to `destination` and proves it. Idempotent. Moving back restores the exact text from
  // before.
  virtual void move(Destination destination, base::Deadline deadline) = 0;
  virtual bool held() = 0;
  // Where new connections go now; nothing where it is neither side or can't be told.
  virtual std::optional<Destination> points_to() = 0;
};

// `stop` outlives the adapter. The plan is copied.
std::unique_ptr<Adapter> make_pgbouncer(const plan::Plan& plan, const plan::App& app,
                                        const plan::PgbouncerSpec& spec, const base::Stop& stop);
std::unique_ptr<Adapter> make_command(const plan::App& app, std::int64_t epoch, const base::Stop& stop);

// All adapters of a plan. Connections are opened at first use and kept.
class TrafficSet {
 public:
  TrafficSet(const plan::Plan& plan, Guard guard, const base::Stop& stop);
  explicit TrafficSet(std::vector<std::unique_ptr<Adapter>> adapters, Guard guard = {});
  ~TrafficSet();
  TrafficSet(const TrafficSet&) = delete;
  TrafficSet& operator=(const TrafficSet&) = delete;

  bool empty() const { return adapters_.empty(); }
  std::size_t size() const { return adapters_.size(); }
  std::vector<std::string> names() const;

  base::Findings check_all(Destination expected, base::milliseconds pause_max);
  // All at the same time, all or nothing: where one fails every one is released, then the first error is
  // thrown.
  void hold_all(base::Deadline deadline);
  // Tries every one; throws one Error that names all that failed, after trying. Not interrupted by a stop.
  void release_all(base::Deadline deadline);
  // Tries every one; throws one Error that names all that failed, after trying.
  void move_all(Destination destination, base::Deadline deadline);
  // True where at least one is held.
  bool any_held();
  // The one side that every adapter points to; nothing where they differ or can't tell.
  std::optional<Destination> points_to();

 private:
  std::vector<std::unique_ptr<Adapter>> adapters_;
  Guard guard_;
};

}  // namespace cutover::traffic
