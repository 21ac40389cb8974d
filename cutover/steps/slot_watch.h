// What the slots keep on their servers while a `run` lives: shown in the status, warned of, and bounded where
// the plan says so.
//
// From the moment the stream's slot has to be there (need) it is looked at every second, also while the first
// copy lasts, when nothing else reads it. A slot that is lost meanwhile ends the work that would be in vain
// (stop, check). Beyond slot: {wal-limit} the stream's slot is dropped, so that its server's disk doesn't
// fill; never while a hand-over is under way (hold), and never by a controller that was replaced. The idle
// slot of the other direction is only shown: it is advanced unread.
// Threads: one of its own with sessions of its own, from begin() to the destructor; the rest may be called by
// any. Sizes are bytes. A server that can't be asked is asked again at the next look.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "cutover/steps/handover.h"
#include "cutover/steps/publisher.h"
#include "cutover/steps/rate_window.h"
#include "replication/stream/slot.h"

namespace cutover::steps {

class SlotWatch {
 public:
  SlotWatch(const Context& context, Publisher& publisher);
  ~SlotWatch();
  SlotWatch(const SlotWatch&) = delete;
  SlotWatch& operator=(const SlotWatch&) = delete;

  // When there is an epoch; nothing where it is at work. `source_free`: of the source's WAL volume, -1 =
  // unknown.
  void begin(std::int64_t source_free);
  void end();  // before the slots are dropped on purpose; it can be begun again
  // From here on nothing can be done without the slot of the stream that leaves `from`.
  void need(Side from);
  // No slot is given up while the lock is held.
  std::unique_lock<std::mutex> hold() { return std::unique_lock(acting_); }

  // Requested with the process's own, and when the stream's slot is lost: for work that is in vain then.
  const base::Stop& stop() const;
  // That the slot was seen lost, or was given up; check() throws it.
  std::optional<replication::stream::StreamLost> cause() const;
  void check() const;
  // Does `work` and throws the loss where that ended it.
  void guard(const std::function<void()>& work) const;

  Side side() const;  // what was needed last; the source at first
  void show(state::Status& status) const;

 private:
  struct Seen {
    std::optional<postgres::Connection> session;
    RateWindow wal;                      // of the server
    std::int64_t free = -1;              // of the WAL volume when this began
    std::optional<std::uint64_t> first;  // kept then
    std::optional<state::SlotStatus> status;
    std::optional<base::Finding> finding;
  };
  void watch();
  postgres::Connection& session(Side side);
  void look(Side side);
  void look_at(Side side, Seen& seen, const replication::stream::SlotState& slot);
  std::optional<base::Finding> judge(Side side, Seen& seen, const replication::stream::SlotState& slot) const;
  void lose(Side side, const std::string& why);
  void give_up(Side side, Seen& seen);
  bool needed(Side side) const;

  const Context& context_;
  Publisher& publisher_;
  std::unique_ptr<base::Stop> ended_;  // of the thread
  base::Stop stop_;
  std::mutex acting_;
  Seen source_, target_;
  bool complained_ = false;

  mutable std::mutex mutex_;  // guards what follows, and what Seen shows
  std::optional<Side> needed_;
  std::string lost_, lost_side_;
  std::thread thread_;
};

// What a slot of this run keeps at most before it is told, and before it is given up.
struct WalBudget {
  std::int64_t warn = 0, limit = 0;  // bytes; limit 0 = none
};
WalBudget wal_budget(const plan::Plan& plan);

// The slot that the stream from `from` needs isn't there or of no use any more: for who only looks.
std::optional<base::Finding> lost_slot_finding(Servers& servers, const plan::Plan& plan, Side from);

// The same loss as an error that says what has to be copied again, and how.
replication::stream::StreamLost copy_again(const replication::stream::StreamLost& lost,
                                           const plan::Plan& plan, Servers& servers, Side from);
// "public.orders, public.items and 3 more": what the first copy has brought; empty where nobody can say.
std::string copied_tables(Servers& servers);

}  // namespace cutover::steps
