// The part of Preparation that is about the spool: opened once the slot is there, kept while links come and
// go.
#include <algorithm>

#include "cutover/steps/prepare.h"
#include "replication/apply/progress.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

constexpr const char* kPlace = "spool.place";
constexpr const char* kFinding = "spool-host";
namespace stream = replication::stream;

}  // namespace

base::Lsn Preparation::applied_on_target() {
  const auto progress = replication::apply::read_progress(target(), "forward");
  return progress ? progress->applied_lsn : base::Lsn{};
}

// A slot that is ahead of what we have was confirmed by a spool that isn't here.
void Preparation::refuse_lost_spool(base::Lsn covered) {
  const auto place = read_fact(target(), kPlace);
  const auto slot = stream::slot_state(source(), slot_name(context_.plan.name, Side::source));
  if (place && slot && slot->confirmed_flush_lsn > covered) {
    throw base::NeedsOperator("changes between " + covered.to_string() + " and " +
                                  slot->confirmed_flush_lsn.to_string() + " are only in the spool of " +
                                  *place,
                              "call `pgcutover run` there, with that --spool; where it is lost, the tables "
                              "have to be copied again: "
                              "`pgcutover cancel`, then run");
  }
}

void Preparation::ensure_spool() {
  const auto applied = applied_on_target();
  if (context_.plan.spool_directory.empty()) {
    refuse_lost_spool(applied);
    return;
  }
  const auto options = link_options(Side::source);
  if (spool_ && !spool_->stopped() && !spool_->failure() && spool_binary_ == options.binary) {
    return;
  }
  spool_.reset();
  spool_binary_ = options.binary;
  replication::journal::JournalOptions journal;
  journal.directory = context_.plan.spool_directory;
  journal.identity = {context_.run.run_id, slot_name(context_.plan.name, Side::source),
                      context_.run.source_system};
  journal.limit_bytes = static_cast<std::uint64_t>(context_.plan.spool_limit_bytes);
  auto spool = std::make_unique<stream::Spool>(receiver_options(context_.servers, options),
                                               std::move(journal), applied);
  refuse_lost_spool(std::max(applied, spool->end()));
  put_fact(target(), context_.token, kPlace, host_name() + ":" + context_.plan.spool_directory);
  spool_ = std::move(spool);
  spool_->start();
  base::log::info("changes are spooled to " + context_.plan.spool_directory +
                  ": while it holds some the target doesn't have, this run depends on this host");
}

std::optional<base::Finding> spool_finding(Servers& servers, const std::string& run) {
  const auto place = read_fact(servers.target(), kPlace);
  const auto slot = stream::slot_state(servers.source(), slot_name(run, Side::source));
  const auto progress = replication::apply::read_progress(servers.target(), "forward");
  if (!place || !slot || !progress || slot->confirmed_flush_lsn <= progress->applied_lsn) {
    return std::nullopt;
  }
  return base::Finding{
      base::Severity::warns,
      kFinding,
      "target",
      *place,
      "this run depends on host " + place->substr(0, place->find(':')) +
          ": what the source committed between " + progress->applied_lsn.to_string() + " and " +
          slot->confirmed_flush_lsn.to_string() + " is only in the spool " + *place,
      "nothing to do: it shrinks as the target catches up; losing it before means copying the "
      "tables again"};
}

}  // namespace cutover::steps
