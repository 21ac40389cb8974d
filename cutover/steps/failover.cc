#include "cutover/steps/failover.h"

#include <charconv>

#include "cutover/steps/resync.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"
#include "replication/snapshot/copy.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

std::string fact_of(Side side) {
  return "timeline." + std::string(to_string(side));
}

// In the receiver's thread, so with a session of its own.
void take_over_timeline(const Context& context, Side from, std::uint32_t timeline, base::Lsn fork) {
  auto target = context.servers.open(Side::target, "failover");
  // A snapshot may have shown transactions that the promoted server never had, whatever was streamed since.
  if (!step_done(target, "catch-up") || !replication::snapshot::pending_snapshots(target).empty() ||
      resync_begun(target)) {
    replication::stream::StreamLost error(
        "the " + std::string(to_string(from)) + " failed over while tables were copied from it",
        std::string(replication::stream::kCopyAgain));
    error.on(to_string(from));
    throw error;
  }
  put_fact(target, context.token, fact_of(from), std::to_string(timeline));
  base::log::warn("the " + std::string(to_string(from)) + " failed over: timeline " +
                  std::to_string(timeline) + ", forked at " + fork.to_string() +
                  ", behind everything that was received; the stream goes on from there");
}

std::uint32_t kept_timeline(postgres::Connection& target, Side side) {
  const auto kept = read_fact(target, fact_of(side)).value_or("0");
  std::uint32_t timeline = 0;
  std::from_chars(kept.data(), kept.data() + kept.size(), timeline);
  return timeline;
}

}  // namespace

void keep_timeline(Context& context, Side side) {
  put_fact(context.servers.target(), context.token, fact_of(side),
           std::to_string(catalog::server_facts(context.servers.at(side)).timeline));
}

void follow_failover(Context& context, Side from, std::uint32_t& timeline,
                     std::function<void(std::uint32_t timeline, base::Lsn fork)>& on_failover) {
  timeline = kept_timeline(context.servers.target(), from);
  on_failover = [&context, from](std::uint32_t now, base::Lsn fork) {
    take_over_timeline(context, from, now, fork);
  };
}

std::string moved_text(postgres::Connection& side, Side which, postgres::Connection& target) {
  const auto before = kept_timeline(target, which);
  const auto now = catalog::server_facts(side).timeline;
  return before == 0 || before == now
             ? ""
             : ": the server is on timeline " + std::to_string(now) + " instead of " +
                   std::to_string(before) + ", it was restored or a standby was promoted";
}

}  // namespace cutover::steps
