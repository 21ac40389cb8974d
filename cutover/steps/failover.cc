#include "cutover/steps/failover.h"

#include <atomic>
#include <charconv>
#include <memory>

#include "cutover/steps/resync.h"
#include "replication/base/log.h"
#include "replication/catalog/server.h"
#include "replication/snapshot/copy.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

namespace stream = replication::stream;

std::string fact_of(Side side) {
  return "timeline." + std::string(to_string(side));
}

// On the other side: a server that is set back takes with it what it says of itself.
std::string heartbeat_fact(Side side) {
  return "heartbeat." + std::string(to_string(side));
}

// In the receiver's thread, so with a session of its own.
void take_over_timeline(const Context& context, Side from, const stream::Timeline& timeline, base::Lsn fork,
                        std::int64_t heartbeat) {
  auto target = context.servers.open(Side::target, "failover");
  // A snapshot may have shown transactions that the promoted server never had, whatever was streamed since.
  if (!step_done(target, "catch-up") || !replication::snapshot::pending_snapshots(target).empty() ||
      resync_begun(target)) {
    stream::StreamLost error(
        "the " + std::string(to_string(from)) + " failed over while tables were copied from it",
        std::string(stream::kCopyAgain));
    error.on(to_string(from));
    throw error;
  }
  auto receiver = context.servers.open(other(from), "failover");
  put_fact(receiver, context.token, heartbeat_fact(from), std::to_string(heartbeat));
  put_fact(target, context.token, fact_of(from), to_text(timeline));
  base::log::warn("the " + std::string(to_string(from)) + " failed over: timeline " +
                  std::to_string(timeline.number) + ", forked at " + fork.to_string() +
                  ", behind everything that was received; the stream goes on from there");
}

stream::Timeline kept_timeline(postgres::Connection& target, Side side) {
  return stream::timeline_from_text(read_fact(target, fact_of(side)).value_or("0"));
}

}  // namespace

void keep_timeline(Context& context, Side side) {
  auto session = context.servers.open(side, "timeline", postgres::SessionKind::replication);
  const auto system = session.exec("IDENTIFY_SYSTEM");
  put_fact(context.servers.target(), context.token, fact_of(side),
           to_text(stream::timeline_of(session, static_cast<std::uint32_t>(system.integer(0, 1)))));
  keep_heartbeat(context, side, 0);  // of an earlier stream
}

stream::Lineage follow_failover(Context& context, Side from) {
  auto& target = context.servers.target();
  stream::Lineage lineage;
  lineage.timeline = kept_timeline(target, from);
  const auto kept = read_fact(context.servers.at(other(from)), heartbeat_fact(from)).value_or("0");
  std::int64_t heartbeat = 0;
  std::from_chars(kept.data(), kept.data() + kept.size(), heartbeat);
  lineage.heartbeat_us = std::make_shared<std::atomic<std::int64_t>>(heartbeat);
  lineage.on_failover = [&context, from](const stream::Timeline& now, base::Lsn fork, std::int64_t written) {
    take_over_timeline(context, from, now, fork, written);
  };
  return lineage;
}

void keep_heartbeat(Context& context, Side from, std::int64_t arrived) {
  put_fact(context.servers.at(other(from)), context.token, heartbeat_fact(from), std::to_string(arrived));
}

std::string moved_text(postgres::Connection& side, Side which, postgres::Connection& target) {
  const auto before = kept_timeline(target, which).number;
  const auto now = catalog::server_facts(side).timeline;
  return before == 0 || before == now
             ? ""
             : ": the server is on timeline " + std::to_string(now) + " instead of " +
                   std::to_string(before) + ", it was restored or a standby was promoted";
}

}  // namespace cutover::steps
