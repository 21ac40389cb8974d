#include "cutover/steps/throttle.h"

#include <charconv>
#include <map>

#include "cutover/steps/store.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

using base::milliseconds;

constexpr milliseconds kLook{500};
constexpr std::string_view kFact = "copy.";  // followed by the limit's name
constexpr std::int64_t kMegabyte = 1'000'000;

std::optional<std::int64_t> number(std::string_view text, std::int64_t max) {
  std::int64_t value = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const bool fine = error == std::errc() && rest == end && value >= 0 && value <= max;
  return fine ? std::optional(value) : std::nullopt;
}

bool set_number(std::string_view text, std::int64_t max, std::int64_t& into) {
  const auto value = number(text, max);
  into = value.value_or(into);
  return value.has_value();
}

// False where that isn't a limit, or not a value of it.
bool set_limit(CopyLimits& limits, std::string_view name, const std::string& text) {
  if (name == "max-rate") {
    return set_number(text, plan::kMaxRateMb, limits.rate_mb);
  }
  if (name == "max-active-sessions") {
    return set_number(text, 1'000'000, limits.active_sessions);
  }
  if (name == "max-xmin-age") {
    return set_number(text, plan::kMaxXminAge, limits.xmin_age);
  }
  if (name == "max-replica-lag") {
    try {
      limits.replica_lag = plan::parse_duration(text, std::string(name));
      return true;
    } catch (const base::UsageError&) {
      return false;
    }
  }
  return false;
}

std::string limits_text(const CopyLimits& limits) {
  auto text = limits.rate_mb == 0 ? std::string("as fast as it can")
                                  : "at most " + std::to_string(limits.rate_mb) + " MB/s";
  std::string while_text;
  const auto add = [&](const std::string& what) { while_text += (while_text.empty() ? "" : ", ") + what; };
  if (limits.active_sessions > 0) {
    add("at most " + std::to_string(limits.active_sessions) + " sessions of others are active on the source");
  }
  if (limits.replica_lag.count() > 0) {
    add("no standby is more than " + plan::duration_text(limits.replica_lag) + " behind");
  }
  if (limits.xmin_age > 0) {
    add("no snapshot is more than " + std::to_string(limits.xmin_age) + " transactions old");
  }
  return text + (while_text.empty() ? "" : " while " + while_text);
}

CopyLimits limits_of(const plan::Plan& plan) {
  CopyLimits limits;
  limits.rate_mb = plan.copy_max_rate_mb;
  limits.active_sessions = plan.copy_max_active_sessions;
  limits.replica_lag = plan.copy_max_replica_lag;
  limits.xmin_age = plan.copy_max_xmin_age;
  return limits;
}

}  // namespace

state::CommandReply keep_limits(postgres::Connection& target, const postgres::FencingToken& token,
                                const plan::Plan& plan, const state::CommandRequest& request) {
  state::CommandReply reply;
  reply.id = request.id;
  reply.finished = true;
  auto limits = limits_of(plan);
  int named = 0;
  for (const auto& [name, text] : request.arguments) {
    if (!name.starts_with("max-")) {
      continue;
    }
    ++named;
    if (!set_limit(limits, name, text)) {
      reply.exit_code = static_cast<int>(base::ExitCode::usage);
      reply.message = "throttle can't set " + name + " to " + text;
      return reply;
    }
  }
  if (named == 0) {
    reply.exit_code = static_cast<int>(base::ExitCode::usage);
    reply.message = "throttle wants a limit: max-rate, max-active-sessions, max-replica-lag or max-xmin-age";
    return reply;
  }
  for (const auto& [name, text] : request.arguments) {
    if (name.starts_with("max-")) {
      put_fact(target, token, std::string(kFact) + name, text);
    }
  }
  for (const auto& [key, text] : read_facts(target, std::string(kFact) + "max-")) {
    set_limit(limits, std::string_view(key).substr(kFact.size()), text);
  }
  reply.output = "tables are copied " + limits_text(limits) + "\n";
  return reply;
}

bool obey_throttle(postgres::Connection& target, const postgres::FencingToken& token,
                   const plan::Plan& plan) {
  postgres::Transaction transaction(target);
  const auto request = take_command(target, token, "throttle");
  if (!request) {
    transaction.rollback();
    return false;
  }
  answer_command(target, keep_limits(target, token, plan, *request));
  transaction.commit_or_throw();
  return true;
}

Throttle::Throttle(const Context& context, Publisher& publisher)
    : context_(context), publisher_(publisher), limits_(limits_of(context.plan)) {
  if (limits_.looks_at_source()) {
    require_sight(context_.servers.source());
  }
  pace_.set_rate(limits_.rate_mb * kMegabyte);
  apply_limits(context_.servers.target());
  thread_ = std::thread([this] { watch(); });
}

Throttle::~Throttle() {
  ended_.request();
  thread_.join();
}

replication::snapshot::Pace* Throttle::begin_copy(bool snapshot_each) {
  snapshot_each_ = snapshot_each;
  copying_ = true;
  return &pace_;
}

void Throttle::end_copy() {
  copying_ = false;
}

void Throttle::watch() {
  while (!ended_.wait(base::Deadline::in(kLook))) {
    try {
      look();
      complained_ = false;
    } catch (const base::Stopped&) {
      return;
    } catch (const base::Error& error) {
      target_.reset();
      source_.reset();
      if (!complained_) {
        base::log::warn("how fast the copy may go could not be asked: " + error.describe());
      }
      complained_ = true;
    }
  }
}

void Throttle::look() {
  if (!target_ || !target_->usable()) {
    target_.reset();
    target_.emplace(context_.servers.open(Side::target, "throttle"));
  }
  while (obey_throttle(*target_, context_.token, context_.plan)) {
  }
  apply_limits(*target_);
  if (copying_ && limits_.looks_at_source()) {
    look_at_load();
  } else {
    hold("", "");
  }
}

void Throttle::apply_limits(postgres::Connection& target) {
  auto wanted = limits_;
  for (const auto& [key, text] : read_facts(target, std::string(kFact) + "max-")) {
    set_limit(wanted, std::string_view(key).substr(kFact.size()), text);
  }
  if (wanted == limits_) {
    return;
  }
  if (wanted.rate_mb != limits_.rate_mb) {
    pace_.set_rate(wanted.rate_mb * kMegabyte);
  }
  limits_ = wanted;
  base::log::info("tables are copied " + limits_text(limits_) + ", as `pgcutover throttle` said");
}

void Throttle::look_at_load() {
  if (!source_ || !source_->usable()) {
    source_.reset();
    source_.emplace(context_.servers.open(Side::source, "throttle"));
    require_sight(*source_);
  }
  hold(load_.too_busy(*source_, limits_), snapshot_each_ ? SourceLoad::too_old(*source_, limits_) : "");
}

void Throttle::hold(const std::string& sending, const std::string& starting) {
  pace_.hold(!sending.empty());
  pace_.hold_starts(!starting.empty());
  const auto& why = sending.empty() ? starting : sending;
  if (why == held_) {
    return;
  }
  if (held_.empty() || why.empty()) {
    base::log::info(why.empty() ? "the copy goes on" : why);
  }
  held_ = why;
  publisher_.update([this](state::Status& status) { status.message = held_; }, true);
}

}  // namespace cutover::steps
