#include "replication/stream/receiver.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/stream/chunk_builder.h"
#include "replication/stream/session.h"
#include "replication/stream/slot.h"

namespace replication::stream {
namespace {

using base::Deadline;
using base::Lsn;
using base::milliseconds;

constexpr milliseconds kBackoffFirst{100};
constexpr milliseconds kBackoffMax{5'000};

}  // namespace

struct Receiver::State {
  State(ReceiverOptions the_options, ChunkQueue& queue, std::function<Lsn()> the_start_lsn)
      : options(std::move(the_options)), start_lsn(std::move(the_start_lsn)), builder(queue) {}

  void run() noexcept;
  void keep_connected();
  void connect_and_pump();
  Lsn ask_start();
  bool try_again(const base::Error& error);

  const ReceiverOptions options;
  const std::function<Lsn()> start_lsn;
  base::Stop stop;
  Positions positions;
  std::jthread thread;

  // The receiver's thread only.
  ChunkBuilder builder;
  Remembered remembered;
  milliseconds backoff = kBackoffFirst;
  // Within start_lsn(): what that throws is apply's own failure, which a new connection doesn't mend and
  // which apply's owner still has to see as it is.
  bool asking = false;
  std::optional<Deadline> budget;  // set from the loss of a connection until the next one proved alive

  mutable std::mutex failure_mutex;
  std::exception_ptr failure;
};

void Receiver::State::run() noexcept {
  std::exception_ptr why;
  try {
    keep_connected();
  } catch (const base::Stopped&) {
    if (!stop.requested()) {
      why = std::current_exception();
    }
  } catch (const base::Error& error) {
    base::log::error("the stream of slot " + postgres::quote_identifier(options.slot) +
                     " ended: " + error.describe());
    why = std::current_exception();
  } catch (...) {
    why = std::current_exception();
  }
  positions.connected = false;
  const std::lock_guard lock(failure_mutex);
  failure = why;
}

void Receiver::State::keep_connected() {
  for (;;) {
    try {
      connect_and_pump();
    } catch (const base::Stopped&) {
      throw;
    } catch (const base::Error& error) {
      positions.connected = false;
      if (asking || !try_again(error)) {
        throw;
      }
    }
    if (stop.wait(Deadline::in(backoff))) {
      throw base::Stopped();
    }
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

// True where a new connection may do better and the budget isn't used up.
bool Receiver::State::try_again(const base::Error& error) {
  if (!error.retryable()) {
    return false;
  }
  if (!budget) {
    budget = Deadline::in(options.retry_budget);
  }
  if (budget->expired()) {
    throw base::Error("gave up after " + std::to_string(options.retry_budget.count() / 1000) +
                          " s without a stream from slot " + postgres::quote_identifier(options.slot) + ": " +
                          error.message(),
                      error.hint().empty()
                          ? "nothing is lost: the slot keeps the changes. Start again when the "
                            "server can be reached"
                          : error.hint())
        .on(options.server_name)
        .at(error.where())
        .with_sqlstate(error.sqlstate());
  }
  base::log::warn("no stream from " + options.server_name + ", trying again: " + error.describe());
  return true;
}

Lsn Receiver::State::ask_start() {
  asking = true;
  const Lsn start = start_lsn();
  asking = false;
  PGCUTOVER_CHECK(start.valid(), "a stream starts at a known position");
  return start;
}

void Receiver::State::connect_and_pump() {
  postgres::SessionOptions session_options;
  session_options.server = options.server_name;
  session_options.application_name = "pgcutover receiver";
  session_options.kind = postgres::SessionKind::replication;
  session_options.settings = {{"wal_sender_timeout", std::to_string(options.silence_limit.count())}};
  auto connection = postgres::Connection::open(options.server, session_options, stop);
  const Lsn start = ask_start();
  check_stream(connection, options, std::max(start, Lsn{positions.durable.load()}),
               Lsn{positions.received.load()}, remembered);
  remembered.walsender_pid = connection.backend_pid();

  Session session(options, connection, start, builder, positions);
  positions.connected = true;
  base::log::info("streaming from " + options.server_name + ", slot " +
                  postgres::quote_identifier(options.slot) + ", at " + start.to_string());
  try {
    session.pump();
  } catch (const base::Stopped&) {
    session.finish();
    throw;
  } catch (base::Error& error) {
    if (session.proved_alive()) {
      budget.reset();
      backoff = kBackoffFirst;
    }
    if (error.sqlstate() == postgres::sqlstate::kUndefinedObject) {
      StreamLost lost(
          error.message() + " at this place of the WAL: it has to be there before the slot is made",
          std::string(kCopyAgain));
      lost.on(options.server_name).with_sqlstate(error.sqlstate());
      throw lost;
    }
    // A table was truncated, rewritten or created while the slot was made, and written to by a transaction
    // that spans the end of that: this slot can't decode it, however often it is tried.
    if (error.sqlstate() == postgres::sqlstate::kInternalError &&
        error.message().find("could not map filen") != std::string::npos) {
      StreamLost lost(
          error.message() +
              ": tables were truncated, rewritten or created while the slot was made, and the server "
              "can't decode what spans that",
          std::string(kCopyAgain));
      lost.on(options.server_name).with_sqlstate(error.sqlstate());
      throw lost;
    }
    throw;
  }
}

Receiver::Receiver(ReceiverOptions options, ChunkQueue& queue, std::function<Lsn()> start_lsn)
    : state_(std::make_unique<State>(std::move(options), queue, std::move(start_lsn))) {}

Receiver::~Receiver() {
  stop();
}

void Receiver::start() {
  PGCUTOVER_CHECK(!state_->thread.joinable() && !state_->stop.requested(), "a receiver is started once");
  state_->thread = std::jthread([state = state_.get()] { state->run(); });
}

void Receiver::stop() {
  state_->stop.request();
  if (state_->thread.joinable()) {
    state_->thread.join();
  }
}

void Receiver::set_durable_lsn(Lsn lsn) {
  auto current = state_->positions.durable.load(std::memory_order_relaxed);
  while (lsn.value > current &&
         !state_->positions.durable.compare_exchange_weak(current, lsn.value, std::memory_order_release,
                                                          std::memory_order_relaxed)) {
  }
}

Lsn Receiver::received_lsn() const {
  return Lsn{state_->positions.received.load(std::memory_order_relaxed)};
}
Lsn Receiver::confirmed_lsn() const {
  return Lsn{state_->positions.confirmed.load(std::memory_order_relaxed)};
}
std::uint64_t Receiver::bytes_received() const {
  return state_->positions.bytes.load(std::memory_order_relaxed);
}
bool Receiver::connected() const {
  return state_->positions.connected.load(std::memory_order_relaxed);
}

std::exception_ptr Receiver::failure() const {
  const std::lock_guard lock(state_->failure_mutex);
  return state_->failure;
}

}  // namespace replication::stream
