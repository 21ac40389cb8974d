#include "cutover/steps/slot_watch.h"

#include <algorithm>
#include <poll.h>

#include "cutover/steps/failover.h"
#include "cutover/steps/store.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

using base::milliseconds;
using state::bytes_text;
namespace stream = replication::stream;

constexpr milliseconds kLook{1'000};
constexpr milliseconds kDrop{15'000};
constexpr const char* kKept = "wal-kept";
constexpr std::int64_t kMegabyte = std::int64_t{1} << 20;
constexpr int kTablesNamed = 10;

std::int64_t kept(const stream::SlotState& slot) {
  return static_cast<std::int64_t>(slot.retained_bytes);
}

std::string on(Side side) {
  return " on the " + std::string(to_string(side));
}

std::string lost_text(const stream::SlotState& slot) {
  return "slot " + postgres::quote_identifier(slot.name) + " was invalidated by the server" +
         (slot.invalidation_reason.empty() ? "" : ": " + slot.invalidation_reason) +
         (slot.wal_status.empty() ? "" : " (wal_status " + slot.wal_status + ")");
}

std::string gone_text(const std::string& name) {
  return "slot " + postgres::quote_identifier(name) + " doesn't exist any more";
}

}  // namespace

WalBudget wal_budget(const plan::Plan& plan) {
  return {plan.slot_wal_warn_mb * kMegabyte, plan.slot_wal_limit_mb * kMegabyte};
}

SlotWatch::SlotWatch(const Context& context, Publisher& publisher)
    : context_(context), publisher_(publisher) {}

SlotWatch::~SlotWatch() {
  end();
}

void SlotWatch::begin(std::int64_t source_free) {
  if (thread_.joinable()) {
    return;
  }
  source_.free = source_free;
  ended_ = std::make_unique<base::Stop>();
  thread_ = std::thread([this] { watch(); });
}

void SlotWatch::end() {
  if (thread_.joinable()) {
    ended_->request();
    thread_.join();
  }
}

void SlotWatch::need(Side from) {
  const std::lock_guard lock(mutex_);
  needed_ = from;
}

bool SlotWatch::needed(Side side) const {
  const std::lock_guard lock(mutex_);
  return needed_ == side;
}

const base::Stop& SlotWatch::stop() const {
  return thread_.joinable() ? stop_ : context_.servers.stop();
}

Side SlotWatch::side() const {
  const std::lock_guard lock(mutex_);
  return needed_.value_or(Side::source);
}

std::optional<stream::StreamLost> SlotWatch::cause() const {
  const std::lock_guard lock(mutex_);
  if (lost_.empty()) {
    return std::nullopt;
  }
  stream::StreamLost error(lost_, std::string(stream::kCopyAgain));
  error.on(lost_side_);
  return error;
}

void SlotWatch::check() const {
  if (const auto why = cause()) {
    throw *why;
  }
}

void SlotWatch::guard(const std::function<void()>& work) const {
  try {
    work();
  } catch (const base::Stopped&) {
    check();
    throw;
  }
}

void SlotWatch::watch() {
  try {
    while (base::poll_fd(ended_->fd(), POLLIN, base::Deadline::in(kLook), context_.servers.stop()) == 0) {
      try {
        look(Side::source);
        look(Side::target);
        publisher_.update([this](state::Status& status) { show(status); });
        complained_ = false;
      } catch (const base::Stopped&) {
        throw;
      } catch (const base::Error& error) {
        source_.session.reset();
        target_.session.reset();
        if (!complained_) {
          base::log::warn("what the slots keep could not be asked: " + error.describe());
        }
        complained_ = true;
      }
    }
  } catch (const base::Stopped&) {
    stop_.request();
  }
  source_.session.reset();
  target_.session.reset();
}

postgres::Connection& SlotWatch::session(Side side) {
  auto& session = (side == Side::source ? source_ : target_).session;
  if (!session || !session->usable()) {
    session.reset();
    session.emplace(context_.servers.open(side, "slots"));
  }
  return *session;
}

void SlotWatch::look(Side side) {
  auto& seen = side == Side::source ? source_ : target_;
  auto& connection = session(side);
  const bool was_needed = needed(side);  // asked before: from then on it has to be there
  const auto name = slot_name(context_.plan.name, side);
  const auto slot = stream::slot_state(connection, name);
  if (was_needed && (!slot || slot->invalidated())) {
    if (connection.one_value("SELECT pg_catalog.pg_is_in_recovery()") == "t") {
      throw base::Error("the server is a standby that isn't promoted yet").on(to_string(side));
    }
    lose(side,
         (slot ? lost_text(*slot) : gone_text(name)) + moved_text(connection, side, session(Side::target)));
  }
  if (slot) {
    look_at(side, seen, *slot);
    return;
  }
  const std::lock_guard lock(mutex_);
  seen.status.reset();
  seen.finding.reset();
}

void SlotWatch::look_at(Side side, Seen& seen, const stream::SlotState& slot) {
  const auto budget = wal_budget(context_.plan);
  const auto first = static_cast<std::int64_t>(seen.first.value_or(slot.retained_bytes));
  seen.first = static_cast<std::uint64_t>(first);
  state::SlotStatus entry;
  entry.name = slot.name;
  entry.server = to_string(side);
  entry.wal_status = slot.wal_status;
  entry.retained_bytes = kept(slot);
  // What gives way first: the server's limit, ours, or the disk.
  const auto at_most = [&](std::int64_t bytes) {
    entry.safe_bytes =
        std::max<std::int64_t>(0, entry.safe_bytes < 0 ? bytes : std::min(entry.safe_bytes, bytes));
  };
  if (slot.safe_wal_size) {
    at_most(*slot.safe_wal_size);
  }
  if (budget.limit > 0) {
    at_most(budget.limit - kept(slot));
  }
  if (seen.free >= 0) {
    at_most(seen.free - (kept(slot) - first));
  }
  const auto at = slot.restart_lsn.value + slot.retained_bytes;
  if (slot.restart_lsn.valid()) {
    const double rate = seen.wal.rate(static_cast<std::int64_t>(at), base::Clock::now());
    if (rate > 0 && entry.safe_bytes >= 0) {
      entry.runway_seconds = static_cast<double>(entry.safe_bytes) / rate;
    }
  }
  auto finding = judge(side, seen, slot);
  if (finding.has_value() != seen.finding.has_value()) {
    finding ? base::log::warn(finding->message) : base::log::info(slot.name + " is within its budget again");
  }
  {
    const std::lock_guard lock(mutex_);
    seen.status = std::move(entry);
    seen.finding = std::move(finding);
  }
  if (budget.limit > 0 && kept(slot) > budget.limit && needed(side)) {
    give_up(side, seen);
  }
}

std::optional<base::Finding> SlotWatch::judge(Side side, Seen& seen, const stream::SlotState& slot) const {
  const auto budget = wal_budget(context_.plan);
  std::string over;
  if (kept(slot) > budget.warn) {
    over = ", over its budget of " + bytes_text(budget.warn);
  } else if (slot.safe_wal_size && *slot.safe_wal_size < kept(slot)) {
    over = ", more than half of what max_slot_wal_keep_size allows";
  }
  if (slot.wal_status == "unreserved") {
    over += "; the server may remove it at its next checkpoint, and the slot is lost then";
  }
  if (over.empty() || slot.invalidated()) {
    return std::nullopt;
  }
  const auto behind = static_cast<std::int64_t>(slot.restart_lsn.value + slot.retained_bytes -
                                                slot.confirmed_flush_lsn.value);
  std::string why;
  std::string hint;
  if (behind < kept(slot) / 2) {
    const auto open = stream::open_transactions(*seen.session);
    why = "transactions that are open there hold it back" + (open.empty() ? "" : ": " + open);
    hint = "end or finish these transactions";
  } else {
    why = bytes_text(behind) + " of it " + (behind == 1 ? "is" : "are") + " not taken over by the " +
          (context_.plan.spool_directory.empty() || side == Side::target ? std::string(to_string(other(side)))
                                                                         : "spool") +
          " yet";
    hint = side == Side::target || context_.plan.spool_directory.empty()
               ? "see what `status` says of the stream's lag; where the other side is slow for long, `run "
                 "--spool DIR` keeps changes on this host instead, and slot: {wal-limit} bounds what is kept"
               : "where the spool is full: a larger --spool-limit";
  }
  return base::Finding{base::Severity::warns,
                       kKept,
                       std::string(to_string(side)),
                       slot.name,
                       "slot " + postgres::quote_identifier(slot.name) + " keeps " + bytes_text(kept(slot)) +
                           " of WAL" + over + "; " + why,
                       hint};
}

void SlotWatch::lose(Side side, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (!lost_.empty()) {
      return;
    }
    lost_ = why;
    lost_side_ = to_string(side);
  }
  stop_.request();
}

void SlotWatch::give_up(Side side, Seen& seen) {
  const std::unique_lock acting(acting_);
  const auto name = slot_name(context_.plan.name, side);
  const auto slot = stream::slot_state(*seen.session, name);
  const auto limit = wal_budget(context_.plan).limit;
  if (!slot || kept(*slot) <= limit || !needed(side)) {
    return;  // a hand-over has come between, or the other side caught up
  }
  {
    postgres::Transaction transaction(*seen.session);
    context_.token.assert_current(*seen.session);  // a successor's slot isn't ours to drop
    transaction.rollback();
  }
  // Said first: the receiver finds the slot missing at once.
  lose(side, "slot " + postgres::quote_identifier(name) + " kept " + bytes_text(kept(*slot)) +
                 " of WAL, more than slot: {wal-limit: " + std::to_string(context_.plan.slot_wal_limit_mb) +
                 "} allows: it was given up, so that the disk of the " + std::string(to_string(side)) +
                 " doesn't fill");
  try {
    stream::drop_slot(*seen.session, name, base::Deadline::in(kDrop));
  } catch (const base::Error& error) {
    base::log::error(
        "slot " + name + on(side) + " could not be dropped and goes on keeping WAL, drop it by " +
        "hand: SELECT pg_drop_replication_slot(" + postgres::quote_literal(name) + "); " + error.describe());
  }
}

void SlotWatch::show(state::Status& status) const {
  const std::lock_guard lock(mutex_);
  if (!source_.status && !target_.status) {
    return;  // nothing was seen yet
  }
  status.slots.clear();
  std::erase_if(status.findings, [](const base::Finding& finding) { return finding.id == kKept; });
  for (const auto* seen : {&source_, &target_}) {
    if (seen->status) {
      status.slots.push_back(*seen->status);
    }
    if (seen->finding) {
      status.findings.push_back(*seen->finding);
    }
  }
}

std::string copied_tables(Servers& servers) {
  try {
    const auto rows = servers.target().exec(
        "SELECT schema || '.' || name, count(*) OVER () FROM pgcutover.table_copy ORDER BY schema, name "
        "LIMIT " +
        std::to_string(kTablesNamed));
    std::string text;
    for (int row = 0; row < rows.rows(); ++row) {
      text += (text.empty() ? "" : ", ") + rows.text(row, 0);
    }
    const auto more = rows.rows() == 0 ? 0 : rows.integer(0, 1) - rows.rows();
    return text + (more > 0 ? " and " + std::to_string(more) + " more" : "");
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::debug("what was copied can't be asked: " + error.describe());
    return {};
  }
}

namespace {

std::string with_plan(const plan::Plan& plan, const std::string& verb) {
  return "`pgcutover " + verb + (plan.file.empty() ? "" : " --plan " + plan.file) +
         (verb == "run" ? "" : " --yes") + "`";
}

std::string remedy(const plan::Plan& plan, Side from) {
  if (from == Side::target) {
    return "applications are not affected, they write to the target: " + with_plan(plan, "finish") +
           " ends the migration here. There is no way back without loss any more";
  }
  return "the copy is needed again: " + with_plan(plan, "cancel") + ", then " + with_plan(plan, "run") +
         " with the options it was given. The source is not affected";
}

}  // namespace

stream::StreamLost copy_again(const stream::StreamLost& lost, const plan::Plan& plan, Servers& servers,
                              Side from) {
  const auto tables = from == Side::source ? copied_tables(servers) : std::string();
  stream::StreamLost error(lost.message() + (tables.empty() ? "" : "; to be copied again: " + tables),
                           remedy(plan, from));
  error.on(lost.server()).at(lost.where()).with_sqlstate(lost.sqlstate());
  return error;
}

std::optional<base::Finding> lost_slot_finding(Servers& servers, const plan::Plan& plan, Side from) {
  const auto name = slot_name(plan.name, from);
  const auto slot = stream::slot_state(servers.at(from), name);
  if (slot && !slot->invalidated()) {
    return std::nullopt;
  }
  return base::Finding{base::Severity::blocks,
                       "slot-lost",
                       std::string(to_string(from)),
                       name,
                       slot ? lost_text(*slot) : gone_text(name),
                       remedy(plan, from)};
}

}  // namespace cutover::steps
