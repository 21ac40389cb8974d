// What the apply thread and the others share: orders (hold, run until, release, stop), positions, markers,
// statistics. One mutex, one condition variable; nothing here touches a server.
//
//            hold()                      a boundary is reached
//   running ---------> holding --------------------------------> held
//      ^                  ^                                        |
//      |  release()       |            run_until(lsn)              |
//      +------------------+--- running up to lsn <-----------------+     and held again once a transaction at
//      or
//                                                                        beyond lsn arrives, or the position
//                                                                        passes it
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "replication/apply/applier.h"

namespace replication::apply {

class Control {
 public:
  // The controller's side: see Applier.
  WaitResult hold(base::Deadline deadline);
  WaitResult run_until(base::Lsn lsn, base::Deadline deadline);
  void release();
  void stop();
  WaitResult wait_marker(const std::string& token, base::Deadline deadline, base::Lsn* marker_end);
  WaitResult wait_durable(base::Lsn lsn, base::Deadline deadline);
  base::Lsn start_lsn();
  ApplyStats stats();
  Ledger tables();
  std::exception_ptr failure();
  bool wait_ended(base::Deadline deadline);  // true where the thread has ended

  // The thread's side.
  void started(base::Lsn position);        // connected for the first time
  void ended(std::exception_ptr failure);  // null where it was stopped
  bool stopping();
  // May a transaction with this commit LSN be applied now?
  bool may_apply(base::Lsn commit_lsn);
  // Everything before the transaction is written, and it may not be applied: held until it may, or something
  // else is to be done (the wait ends at the deadline at the latest).
  void park(base::Lsn next_commit_lsn, base::Deadline deadline);
  // Between enter and leave nothing is under way, and an order to hold is fulfilled at once.
  void enter_boundary();
  void leave_boundary();
  void wait(base::Deadline deadline);  // a pause that a stop ends
  // Publishes statistics (held is kept), then markers that were applied.
  void publish(const ApplyStats& stats);
  // Adds what was committed.
  void count(const Ledger& ledger);
  void marker_applied(const std::string& token, base::Lsn end_lsn);
  base::Lsn durable_wanted();  // the highest position that somebody waits for

 private:
  static constexpr std::size_t kMarkersMax = 1'000;

  template <typename Condition>
  WaitResult wait_for(std::unique_lock<std::mutex>& lock, base::Deadline deadline, Condition condition);
  void arrive();  // holds where an order says so; the lock is held
  std::optional<base::Lsn> marker(const std::string& token) const;

  std::mutex mutex_;
  std::condition_variable changed_;
  ApplyStats stats_;
  Ledger tables_;
  std::deque<std::pair<std::string, base::Lsn>> markers_;
  std::exception_ptr failure_;
  bool started_ = false, ended_ = false, stopping_ = false;
  bool hold_wanted_ = false, held_ = false, at_boundary_ = false;
  std::optional<base::Lsn> run_until_;
  base::Lsn durable_wanted_;
  bool account_wanted_ = false;  // somebody began to wait for durability
};

}  // namespace replication::apply
