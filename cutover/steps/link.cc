#include "cutover/steps/link.h"

#include <algorithm>

#include "cutover/steps/schema_changes.h"
#include "replication/base/error.h"
#include "replication/stream/marker.h"

namespace cutover::steps {
namespace {

// A table of another shape on the target is for a person to mend, who may be asleep; the slot keeps the
// changes.
constexpr base::milliseconds kMisfit{24 * 3'600'000};
constexpr std::size_t kQueueItems = 4096;
constexpr std::size_t kQueueBytes = std::size_t{64} << 20;

}  // namespace

std::string slot_name(const std::string& run, Side from) {
  return "pgcutover_" + run + "_" + std::string(direction_from(from));
}

std::string publication_name(const std::string& run, Side from) {
  return "pgcutover_" + run + "_" + std::string(direction_from(from));
}

replication::stream::ReceiverOptions receiver_options(const Servers& servers, const LinkOptions& options) {
  replication::stream::ReceiverOptions receive;
  receive.server = servers.info(options.from, "receive");
  receive.server_name = to_string(options.from);
  receive.slot = slot_name(options.run, options.from);
  receive.publication = publication_name(options.run, options.from);
  receive.binary = options.binary;
  receive.system_identifier = options.system_identifier;
  receive.lineage = options.lineage;
  return receive;
}

Link::Link(const Servers& servers, const LinkOptions& options)
    : from_(options.from),
      spool_(options.spool),
      heartbeat_us_(options.lineage.heartbeat_us),
      schema_changes_(options.schema_changes),
      queue_(kQueueItems, kQueueBytes) {
  const Side to = other(from_);
  replication::apply::ApplierOptions apply;
  apply.server = servers.info(to, "apply");
  apply.server_name = to_string(to);
  apply.direction = direction_from(from_);
  apply.token = options.token;
  apply.filters = options.filters;
  apply.left_out = options.left_out;
  apply.keep_twins = true;
  apply.stop_at_conflict = options.stop_at_conflict;
  apply.misfit_budget = kMisfit;
  apply.on_filter_passed = options.on_filter_passed;
  if (schema_changes_) {
    apply.mend = [this](const auto& relation, base::Lsn at) { return schema_changes_->mend(relation, at); };
    apply.mend_types = [this] { return schema_changes_->mend_types(); };
    apply.mended = [this](base::Lsn applied) { return schema_changes_->mended(applied); };
  }
  apply.on_durable = [this](base::Lsn lsn) {
    if (spool_ != nullptr) {
      spool_->set_durable_lsn(lsn);
    } else if (receiver_) {
      receiver_->set_durable_lsn(lsn);
    }
  };
  applier_ = std::make_unique<replication::apply::Applier>(std::move(apply), queue_);

  if (spool_ != nullptr) {
    applier_->start();
    spool_->attach(queue_, options.applied);
    return;
  }
  receiver_ = std::make_unique<replication::stream::Receiver>(receiver_options(servers, options), queue_,
                                                              [this] { return applier_->start_lsn(); });
  applier_->start();
  receiver_->start();
}

Link::~Link() {
  stop_apply();
}

void Link::stop_apply() {
  if (spool_ != nullptr) {
    spool_->detach();
  } else {
    receiver_->stop();
  }
  applier_->stop();
}

void Link::stop() {
  stop_apply();
  if (spool_ != nullptr) {
    spool_->stop();
  }
}

std::int64_t Link::heartbeat_arrived() {
  if (!heartbeat_us_) {
    return 0;
  }
  auto known = heartbeat_us_->load();
  const auto now = applier_->stats().heartbeat_at_us;
  while (known < now && !heartbeat_us_->compare_exchange_weak(known, now)) {
  }
  return std::max(known, now);
}

std::exception_ptr Link::failure() const {
  const auto applying = applier_->failure();
  return applying ? applying : spool_ != nullptr ? spool_->failure() : receiver_->failure();
}

void Link::check() const {
  if (const auto why = failure()) {
    std::rethrow_exception(why);
  }
}

std::vector<std::string> Link::followed() const {
  return schema_changes_ ? schema_changes_->followed() : std::vector<std::string>{};
}

std::string waiting_message(const replication::apply::ApplyStats& stats) {
  return "the stream waits: " + stats.waiting_for;
}

base::Lsn pass_marker(postgres::Connection& connection, Link& link, const std::string& token,
                      base::Deadline deadline) {
  replication::stream::write_marker(connection, token);
  base::Lsn end;
  // In slices, so that a receiver that ended is noticed as well as an apply that did.
  for (;;) {
    link.check();
    connection.stop().check();
    const auto slice = base::Deadline::in(base::milliseconds(200)).sooner(deadline);
    switch (link.applier().wait_marker(token, slice, &end)) {
      case replication::apply::WaitResult::reached:
        return end;
      case replication::apply::WaitResult::failed:
        link.check();
        throw base::Error("apply ended").on(to_string(other(link.from())));
      case replication::apply::WaitResult::timed_out:
        if (deadline.expired()) {
          throw base::TimeoutError("the marker did not arrive on the " +
                                       std::string(to_string(other(link.from()))) +
                                       " in time: the stream lags behind",
                                   "see `pgcutover status` for the lag, and try again when it is small");
        }
    }
  }
}

}  // namespace cutover::steps
