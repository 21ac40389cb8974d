// The controller: the one process at a time that moves a migration forward. `run` is it for as long as it
// lives; another verb becomes it for the time of its work where no `run` does, and sends a command where one
// does.
//
// Threads: everything here runs in the caller's thread; the stream has threads of its own (link.h).
#pragma once

#include <memory>
#include <string>

#include "cutover/steps/handover.h"
#include "cutover/steps/link.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/publication_watch.h"
#include "cutover/steps/publisher.h"
#include "cutover/steps/schema_changes.h"
#include "cutover/steps/sequence_watch.h"
#include "cutover/steps/slot_watch.h"

namespace cutover::steps {

struct ControllerOptions {
  base::milliseconds connect_timeout{10'000};
  bool takeover = false;                // end another controller's sessions and take its place
  std::int64_t source_free_bytes = -1;  // of the source's WAL volume; -1 = unknown
  std::string until;                    // step after which `run` ends; empty = stay
  bool interactive = false;             // draw a live line
  bool reset_target = false;            // a migration that begins: drop what is in the way on the target
};

// What a command came to: for the exit code and the two streams of whoever asked.
using Outcome = state::CommandReply;
Outcome outcome(base::ExitCode code, std::string message, std::string output = {});

// `check` of both servers under this plan.
base::Findings check_both(const plan::Plan& plan, Servers& servers, std::int64_t source_free_bytes,
                          bool reset_target = false);

class Controller {
 public:
  Controller(const plan::Plan& plan, const ControllerOptions& options, const base::Stop& stop);
  ~Controller();

  // `run`: prepare (or resume), then stay, stream and obey until finish, cancel or a stop request.
  Outcome run();
  // One verb without a `run`: become the controller, do it, leave.
  Outcome once(const state::CommandRequest& request);

 private:
  bool attach(
      bool may_begin);  // lock, take over, settle; false where there is no migration and none may begin
  void begin_migration();
  void check_identity(const RunRecord& run);
  void refuse_when_ending();
  void require_same_content();
  Outcome end_schema_only();
  void open_link();
  Outcome prepare_and_serve();
  void serve();
  void turn();
  void stream_from(Side primary);
  void retire();
  void keep_lock();
  void obey(const state::CommandRequest& request);
  void tend();  // heartbeat, status, the idle slot
  void adopt_new_partitions();
  void advance_idle_slot();
  void refresh_status(state::Status& status);
  Outcome execute(const state::CommandRequest& request);
  Outcome do_hand_over(Side from, const plan::Plan& plan);
  void turn_around(Side from);
  Outcome do_resync(const std::map<std::string, std::string>& arguments);
  Outcome do_verify(bool as_json);
  Outcome do_report(const std::string& format);
  void require_stream() const;
  void require_verified(const plan::Plan& plan, Side from);
  void prove_way_back();

  const plan::Plan& plan_;
  const ControllerOptions options_;
  const base::Stop& stop_;
  Servers servers_;
  state::Terminal terminal_;
  Publisher publisher_;
  Context context_;
  SlotWatch slot_watch_;
  Preparation preparation_;
  std::unique_ptr<Link> link_;
  int lock_session_ = 0;  // backend that holds the controller's lock
  bool switch_by_itself_ = false;
  bool only_trace_left_ = false;  // of a finish or cancel that was cut off at its very end
  bool ended_ = false;            // finish or cancel was done, or cut off
  std::string ended_badly_;       // why it was cut off
  base::Clock::time_point tended_{}, advanced_{};
  std::int64_t changes_seen_ = 0;
  SequenceWatch sequence_watch_;
  RewriteWatch rewrite_watch_;
  PublicationWatch publication_watch_;
};

}  // namespace cutover::steps
