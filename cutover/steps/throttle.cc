#include "cutover/steps/throttle.h"

#include <charconv>

#include "cutover/steps/store.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

using base::milliseconds;

constexpr milliseconds kLook{500};
constexpr std::string_view kRate = "copy.max-rate";
constexpr std::string_view kArgument = "max-rate";
constexpr std::int64_t kMegabyte = 1'000'000;

std::optional<std::int64_t> rate_of(std::string_view text) {
  std::int64_t rate = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, rate);
  const bool fine = error == std::errc() && rest == end && rate >= 0 && rate <= plan::kMaxRateMb;
  return fine ? std::optional(rate) : std::nullopt;
}

std::string rate_text(std::int64_t rate) {
  return rate == 0 ? "as fast as it can" : "at most " + std::to_string(rate) + " MB/s";
}

// Work of others: what this tool does isn't a reason for it to rest.
std::int64_t active_sessions(postgres::Connection& source) {
  return source
      .one_row(
          "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND backend_type = "
          "'client backend' AND pid <> pg_catalog.pg_backend_pid() AND application_name NOT LIKE "
          "'pgcutover%'")
      .integer(0, 0);
}

// Without it other roles' sessions show no state: the limit would never be reached, silently.
void require_sight(postgres::Connection& source) {
  if (!source.one_row("SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')").boolean(0, 0)) {
    throw base::StateError(
        "copy: {max-active-sessions} can't be kept: this role doesn't see what other sessions do",
        "on the source: GRANT pg_read_all_stats TO the tool's role, or leave the limit out")
        .on("source");
  }
}

}  // namespace

state::CommandReply keep_rate(postgres::Connection& target, const postgres::FencingToken& token,
                              const state::CommandRequest& request) {
  state::CommandReply reply;
  reply.id = request.id;
  reply.finished = true;
  const auto given = request.arguments.find(std::string(kArgument));
  const auto rate = given == request.arguments.end() ? std::nullopt : rate_of(given->second);
  if (!rate) {
    reply.exit_code = static_cast<int>(base::ExitCode::usage);
    reply.message = "throttle wants a rate in MB per second, 0 for no limit";
    return reply;
  }
  put_fact(target, token, kRate, std::to_string(*rate));
  reply.output = "tables are copied " + rate_text(*rate) + "\n";
  return reply;
}

bool obey_throttle(postgres::Connection& target, const postgres::FencingToken& token) {
  postgres::Transaction transaction(target);
  const auto request = take_command(target, token, "throttle");
  if (!request) {
    transaction.rollback();
    return false;
  }
  answer_command(target, keep_rate(target, token, *request));
  transaction.commit_or_throw();
  return true;
}

Throttle::Throttle(const Context& context, Publisher& publisher)
    : context_(context), publisher_(publisher), rate_mb_(context.plan.copy_max_rate_mb) {
  if (context_.plan.copy_max_active_sessions > 0) {
    require_sight(context_.servers.source());
  }
  pace_.set_rate(rate_mb_ * kMegabyte);
  apply_rate(context_.servers.target());
  thread_ = std::thread([this] { watch(); });
}

Throttle::~Throttle() {
  ended_.request();
  thread_.join();
}

replication::snapshot::Pace* Throttle::begin_copy() {
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
  while (obey_throttle(*target_, context_.token)) {
  }
  apply_rate(*target_);
  if (copying_ && context_.plan.copy_max_active_sessions > 0) {
    look_at_load();
  } else if (!held_.empty()) {
    rest(false, "");
  }
}

void Throttle::apply_rate(postgres::Connection& target) {
  const auto kept = read_fact(target, kRate);
  const auto rate = kept ? rate_of(*kept) : std::nullopt;
  if (rate && *rate != rate_mb_) {
    rate_mb_ = *rate;
    pace_.set_rate(rate_mb_ * kMegabyte);
    base::log::info("tables are copied " + rate_text(rate_mb_) + ", as `pgcutover throttle` said");
  }
}

void Throttle::look_at_load() {
  if (!source_ || !source_->usable()) {
    source_.reset();
    source_.emplace(context_.servers.open(Side::source, "throttle"));
  }
  const auto limit = context_.plan.copy_max_active_sessions;
  const auto active = active_sessions(*source_);
  if ((active > limit) == held_.empty()) {
    rest(active > limit,
         "the copy rests: more than " + std::to_string(limit) + " sessions are active on the source");
  }
}

void Throttle::rest(bool held, const std::string& why) {
  held_ = held ? why : "";
  pace_.hold(held);
  base::log::info(held ? why : "the copy goes on");
  publisher_.update([this](state::Status& status) { status.message = held_; }, true);
}

}  // namespace cutover::steps
