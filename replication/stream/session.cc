#include "replication/stream/session.h"

#include <algorithm>
#include <charconv>
#include <thread>

#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/stream/marker.h"
#include "replication/stream/slot.h"
#include "replication/stream/timeline.h"

namespace replication::stream {
namespace {

using base::Deadline;
using base::Lsn;
using base::milliseconds;
using postgres::quote_identifier;

constexpr milliseconds kRoomInterval{20};     // between looks at the clock while the queue is full
constexpr milliseconds kHoldInterval{1};      // between looks at the queue while apply is busy
constexpr milliseconds kAskInterval{10'000};  // of silence, before the server is asked for an answer
constexpr milliseconds kFinishTime{3'000};
constexpr milliseconds kShortWait{1};
// A local socket takes some 280 small messages, which a walsender decodes in less than a millisecond: a
// longer nap would make it wait for us.
constexpr std::chrono::microseconds kNap{400};
constexpr int kShortWaitsMax = 16;
constexpr milliseconds kBusyAfter{50};
constexpr milliseconds kGatherTime{10};
constexpr std::uint32_t kLargeRead = 128;       // messages: about what a unix socket holds
constexpr std::uint32_t kEventsPerClock = 128;  // a look at the clock costs as much as a message

StreamLost gap(const ReceiverOptions& options, const std::string& message) {
  StreamLost error(message, std::string(kCopyAgain));
  error.on(options.server_name);
  return error;
}

std::vector<std::pair<std::string, std::string>> plugin_options(const ReceiverOptions& options,
                                                                int server_major) {
  std::vector<std::pair<std::string, std::string>> list{
      {"proto_version", "1"}, {"publication_names", quote_identifier(options.publication)}};
  if (options.binary && server_major >= 14) {
    list.emplace_back("binary", "true");
  }
  return list;
}

// Returns the timeline that the server is on.
std::uint32_t check_server(postgres::Connection& connection, const ReceiverOptions& options,
                           Remembered& remembered) {
  const auto system = connection.exec("IDENTIFY_SYSTEM");
  const auto identifier = system.text(0, 0);
  const auto timeline = static_cast<std::uint32_t>(system.integer(0, 1));
  const auto& wanted_identifier =
      options.system_identifier.empty() ? remembered.system_identifier : options.system_identifier;
  if (!wanted_identifier.empty() && identifier != wanted_identifier) {
    throw gap(options, "another server answers at " + options.server.describe() + ": system identifier " +
                           identifier + " instead of " + wanted_identifier);
  }
  remembered.system_identifier = identifier;
  return timeline;
}

// A promoted standby has what the old server had written up to the fork, and nothing that it wrote behind
// that: whatever of it has arrived here would stay on the target for good. Only a slot that the server itself
// kept in step sees the same changes from there on; one that came with a copy of the files may decode with
// catalog rows that are gone.
Lsn check_failover(postgres::Connection& connection, const ReceiverOptions& options, const Timeline& before,
                   const Timeline& now, Lsn arrived) {
  const bool same_number = now.number == before.number;
  const auto what = "the server is on timeline " + (same_number ? now.text() : std::to_string(now.number)) +
                    " instead of " + (same_number ? before.text() : std::to_string(before.number)) +
                    ", it was restored or a standby was promoted";
  const bool may_follow = options.lineage.on_failover != nullptr;
  const auto slot = may_follow ? slot_state(connection, options.slot) : std::nullopt;
  if (!may_follow || !slot || !slot->failover) {
    throw gap(options, what + (may_follow ? ", and slot " + quote_identifier(options.slot) +
                                                (slot ? " is no failover slot" : " isn't there")
                                          : ""));
  }
  const auto fork = fork_of(connection, now.number, before);
  if (!fork) {
    throw gap(options, what + ", and that timeline doesn't descend from the one before");
  }
  if (arrived > *fork) {
    throw gap(options, what + "; its history forked at " + fork->to_string() + ", and changes up to " +
                           arrived.to_string() +
                           " that it never had were received before: the target may have them");
  }
  return *fork;
}

// Positions and timelines can be the same on two copies of a server that went apart; what was written on one
// of them since isn't.
void check_heartbeat(postgres::Connection& connection, const ReceiverOptions& options) {
  if (!options.lineage.heartbeat_us) {
    return;
  }
  const auto there = read_heartbeat(connection);
  if (const auto arrived = options.lineage.heartbeat_us->load(); there < arrived) {
    throw gap(options, heartbeat_text(there, arrived));
  }
}

void check_slot(postgres::Connection& connection, const ReceiverOptions& options, Lsn covered,
                int our_old_pid) {
  const auto name = "slot " + quote_identifier(options.slot);
  const auto slot = slot_state(connection, options.slot);
  if (!slot) {
    throw gap(options, name + " doesn't exist");
  }
  if (slot->plugin != "pgoutput") {
    throw gap(options, name + " has plugin " + (slot->plugin.empty() ? "none" : slot->plugin) +
                           " instead of pgoutput: it isn't ours");
  }
  if (slot->database != connection.database()) {
    throw gap(options, name + " belongs to database \"" + slot->database + "\", not to \"" +
                           connection.database() + "\"");
  }
  if (slot->invalidated()) {
    throw gap(options, name + " was invalidated by the server" +
                           (slot->invalidation_reason.empty() ? "" : ": " + slot->invalidation_reason) +
                           (slot->wal_status.empty() ? "" : " (wal_status " + slot->wal_status + ")"));
  }
  // START_REPLICATION from a place that isn't there yet would silently pass over what is written up to there.
  if (const Lsn end{slot->restart_lsn.value + slot->retained_bytes}; end < covered) {
    throw gap(options, "the server's WAL ends at " + end.to_string() + ", before what was applied, " +
                           covered.to_string() + ": it was set back to an earlier state");
  }
  if (slot->confirmed_flush_lsn > covered) {
    throw gap(options, name + " is at " + slot->confirmed_flush_lsn.to_string() +
                           ", ahead of what was applied, " + covered.to_string());
  }
  if (slot->active) {
    if (slot->active_pid == our_old_pid) {
      // The walsender of our lost connection, which hasn't noticed yet and may not for minutes.
      connection.exec("SELECT pg_catalog.pg_terminate_backend(" + std::to_string(our_old_pid) + ")");
    }
    throw base::Error(name + " is held by pid " + std::to_string(slot->active_pid),
                      "it becomes free when that session ends; SELECT pg_terminate_backend(" +
                          std::to_string(slot->active_pid) + ") ends it")
        .on(options.server_name)
        .with_sqlstate(postgres::sqlstate::kObjectInUse)
        .set_retryable(true);
  }
}

}  // namespace

void check_stream(postgres::Connection& connection, const ReceiverOptions& options, Lsn covered, Lsn arrived,
                  Remembered& remembered) {
  if (connection.exec("SELECT pg_catalog.pg_is_in_recovery()").boolean(0, 0)) {
    throw base::Error("the server is a standby that isn't promoted yet", "give the primary's address")
        .on(options.server_name)
        .set_retryable(true);
  }
  const auto timeline = timeline_of(connection, check_server(connection, options, remembered));
  const auto before = remembered.timeline.number == 0 ? options.lineage.timeline : remembered.timeline;
  const bool moved =
      before.number != 0 && (timeline.number != before.number ||
                             (before.begin && timeline.begin && *timeline.begin != *before.begin));
  const Lsn fork =
      moved ? check_failover(connection, options, before, timeline, std::max(covered, arrived)) : Lsn{};
  check_slot(connection, options, covered, moved ? 0 : remembered.walsender_pid);
  check_heartbeat(connection, options);
  if (moved) {
    const auto heartbeat = write_heartbeat(connection, 0);
    options.lineage.on_failover(timeline, fork, heartbeat);
    if (options.lineage.heartbeat_us) {
      options.lineage.heartbeat_us->store(heartbeat);
    }
  }
  remembered.timeline = timeline;
  // What the server said so far (a collation warning at connect) is about the session, not about the stream.
  connection.take_notices();
}

Session::Session(const ReceiverOptions& options, postgres::Connection& connection, Lsn start,
                 ChunkBuilder& builder, Positions& positions)
    : options_(options),
      connection_(connection),
      builder_(builder),
      positions_(positions),
      status_interval_(std::min(options.status_interval, options.silence_limit / 3)),
      ask_interval_(std::min(kAskInterval, options.silence_limit / 3)),
      stream_(connection, options.slot, start, plugin_options(options, connection.server_major())),
      status_due_(Deadline::in(status_interval_)),
      silence_due_(Deadline::in(options.silence_limit)),
      ask_due_(Deadline::in(ask_interval_)) {
  builder_.begin_connection();
}

void Session::pump() {
  for (;;) {
    step();
  }
}

void Session::step() {
  if (++events_ % kEventsPerClock == 0) {
    connection_.stop().check();
    send_status_if_due();
  }
  if (builder_.blocked() && !builder_.offer(Deadline::in(milliseconds{0}))) {
    wait_for_room();
    return;
  }
  const auto event = stream_.poll();
  check_notices();
  if (event.kind == postgres::ReplicationStream::Event::Kind::idle) {
    if (!more_is_coming()) {
      builder_.drained();
      handed_over_ = base::Clock::now();
    }
    if (!builder_.blocked()) {
      wait_for_data();
    }
    return;
  }
  handle(event);
}

void Session::handle(const postgres::ReplicationStream::Event& event) {
  using Kind = postgres::ReplicationStream::Event::Kind;
  heard_ = true;
  if (event.kind == Kind::data) {
    // Relations come with position 0; a begin with an earlier one. The server's position only ever grows.
    advance_received(event.wal_start);
    positions_.bytes.fetch_add(event.data.size(), std::memory_order_relaxed);
    builder_.append(event.data);
    proved_alive_ = true;
    return;
  }
  advance_received(event.wal_end);
  builder_.keepalive(event.wal_end);
  if (event.reply_requested) {
    send_status(false);
  }
}

// The socket isn't read meanwhile: the server's send buffer fills, and its walsender waits with it. What
// keeps the connection alive is that the server hears from us.
void Session::wait_for_room() {
  connection_.stop().check();
  builder_.offer(Deadline::in(kRoomInterval).sooner(status_due_));
  heard();  // silence counts only while we listen
  send_status_if_due();
}

void Session::wait_for_data() {
  if (heard_) {
    heard();
  }
  auto until = status_due_;
  if (builder_.holding()) {
    until = until.sooner(Deadline::in(kHoldInterval));
  }
  const auto before = base::Clock::now();
  stream_.wait(-1, until);
  let_more_come(before);
  check_silence();
  send_status_if_due();
}

// A walsender that is a little slower than we are wakes us for every message, at three system calls each:
// more than receiving itself. After a row of short waits a moment is given for more to gather; a lone
// transaction never comes to that, and after a large read the socket may have been full, which must not hold
// the walsender back.
void Session::let_more_come(base::Clock::time_point waited_since) {
  const bool large_read = events_ - events_at_wait_ >= kLargeRead;
  const bool short_wait = base::Clock::now() - waited_since < kShortWait;
  events_at_wait_ = events_;
  if (!short_wait) {
    busy_since_.reset();
  } else if (!busy_since_) {
    busy_since_ = waited_since;
  }
  short_waits_ = short_wait && !large_read ? std::min(short_waits_ + 1, kShortWaitsMax) : 0;
  if (short_waits_ == kShortWaitsMax) {
    std::this_thread::sleep_for(kNap);
  }
}

// A backlog comes as fast as the walsender decodes it, which is often slower than apply: handed over whenever
// the socket is empty for a moment it would make thousands of tiny batches, whose cost the walsender then
// lacks. Once there was no pause for a while, a little is gathered first; reading goes on meanwhile.
bool Session::more_is_coming() const {
  const auto now = base::Clock::now();
  return busy_since_ && now - *busy_since_ > kBusyAfter && now - handed_over_ < kGatherTime;
}

void Session::heard() {
  heard_ = false;
  silence_due_ = Deadline::in(options_.silence_limit);
  ask_due_ = Deadline::in(ask_interval_);
}

// A server that vanished without a word (power, network) is noticed by its silence. A walsender that is
// caught up answers at once, with its position; one that decodes a huge transaction only when it comes up for
// air.
void Session::check_silence() {
  if (silence_due_.expired()) {
    throw base::Error("nothing heard from " + options_.server_name + " for " +
                      std::to_string(options_.silence_limit.count() / 1000) + " s")
        .on(options_.server_name)
        .with_sqlstate("08006")
        .set_retryable(true)
        .set_connection_usable(false);
  }
  if (ask_due_.expired()) {
    ask_due_ = Deadline::in(ask_interval_);
    send_status(true);
  }
}

void Session::send_status_if_due() {
  if (status_due_.expired()) {
    send_status(false);
  }
}

void Session::send_status(bool reply_requested) {
  const auto durable = positions_.durable.load(std::memory_order_acquire);
  if (durable > positions_.confirmed.load(std::memory_order_relaxed)) {
    base::fault_point("stream.before-confirm");
  }
  const Lsn received{positions_.received.load(std::memory_order_relaxed)};
  stream_.send_status(std::max(received, Lsn{durable}), Lsn{durable}, Lsn{durable}, reply_requested);
  positions_.confirmed.store(durable, std::memory_order_relaxed);
  status_due_ = Deadline::in(status_interval_);
}

void Session::advance_received(Lsn lsn) {
  if (lsn.value > positions_.received.load(std::memory_order_relaxed)) {
    positions_.received.store(lsn.value, std::memory_order_relaxed);
  }
}

// A warning inside the stream can mean that changes are left out: from 18 on an unknown publication is one,
// before it is an error. Only what is plain information by its SQLSTATE may pass.
void Session::check_notices() {
  for (const auto& [code, message] : connection_.take_notices()) {
    if (code.starts_with("00") || code.starts_with("01")) {
      base::log::warn(options_.server_name + " says in the stream: " + message + " (" + code + ")");
      continue;
    }
    auto error = gap(options_, "the stream leaves out changes: " + message);
    error.with_sqlstate(code);
    throw error;
  }
}

void Session::finish() noexcept {
  try {
    const postgres::Connection::Uninterrupted guard(connection_);
    send_status(false);
  } catch (const std::exception& error) {
    base::log::debug(std::string("last status of the stream: ") + error.what());
  }
  stream_.finish(Deadline::in(kFinishTime));
}

}  // namespace replication::stream
