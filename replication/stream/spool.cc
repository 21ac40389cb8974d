#include "replication/stream/spool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/base/stop.h"
#include "replication/pgoutput/message.h"

namespace replication::stream {
namespace {

using base::Deadline;
using base::Lsn;
using base::milliseconds;

constexpr std::size_t kQueueItems = 256;
constexpr std::size_t kQueueBytes = std::size_t{16} << 20;
constexpr milliseconds kTick{100};  // between looks at the clock, at a stop, at room in the journal
constexpr milliseconds kSyncInterval{500};

constexpr char kRelationTag = 'R';

char tag_of(std::span<const char> message) {
  return message.empty() ? '\0' : message[0];
}

// The relations in force, as the stream sent them.
class Relations {
 public:
  void take(std::span<const char> bytes) {
    const auto message = pgoutput::decode(bytes);
    if (const auto* relation = std::get_if<pgoutput::Relation>(&message)) {
      relations_[relation->relation].assign(bytes.begin(), bytes.end());
    }
  }
  void clear() { relations_.clear(); }
  journal::Entry entry() const {
    journal::Entry made;
    made.context = true;
    for (const auto& [id, bytes] : relations_) {
      made.bytes += bytes;
      made.lengths.push_back(static_cast<std::uint32_t>(bytes.size()));
    }
    return made;
  }

 private:
  std::map<base::Oid, std::string> relations_;
};

std::shared_ptr<const Chunk> chunk_of(const journal::Entry& entry, bool drained) {
  auto chunk = std::make_shared<Chunk>();
  std::size_t at = 0;
  for (const auto length : entry.lengths) {
    chunk->append({entry.bytes.data() + at, length});
    at += length;
  }
  chunk->drained = drained;
  chunk->idle_until = entry.idle_until;
  return chunk;
}

}  // namespace

struct Spool::State {
  State(ReceiverOptions options, journal::JournalOptions journal_options, Lsn on_target)
      : journal(std::move(journal_options), on_target),
        receiver(std::move(options), received, [this] { return drained_end(); }) {}

  void guard(void (State::*loop)()) noexcept;
  void write();
  void feed();
  void take(const Chunk& chunk);
  void look_at(const Chunk& chunk, std::size_t begin, std::size_t stop_before);
  void append(const Chunk& chunk, std::size_t begin, std::size_t end, bool whole);
  void sync_if_due(bool now);
  bool make_room();
  Lsn drained_end();

  journal::Journal journal;
  ChunkQueue received{kQueueItems, kQueueBytes};
  base::Stop stop;
  std::unique_ptr<base::Stop> stop_feeding = std::make_unique<base::Stop>();
  std::atomic<bool> stopped{false};
  std::atomic<std::uint64_t> durable{0};

  // The writer's.
  Relations relations;
  bool in_transaction = false;
  bool said_full = false;
  Lsn end;  // of the last commit
  Deadline sync_due = Deadline::in(kSyncInterval);

  // The feeder's.
  ChunkQueue* queue = nullptr;
  Lsn applied;

  mutable std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  std::uint64_t barriers_asked = 0, barriers_met = 0;
  std::exception_ptr failure;

  Receiver receiver;  // last: its thread uses the others
  std::thread writer, feeder;
};

void Spool::State::guard(void (State::*loop)()) noexcept {
  std::exception_ptr why;
  try {
    (this->*loop)();
    return;
  } catch (const base::Stopped&) {
    return;
  } catch (const std::exception& error) {
    why = std::current_exception();
    base::log::error("the spool " + journal.options().directory + " ended: " + error.what());
  }
  const std::lock_guard lock(mutex);
  failure = failure ? failure : why;
}

// Called by the receiver before it connects: what it delivered before must be in the journal, or it would be
// there twice.
Lsn Spool::State::drained_end() {
  std::uint64_t mine = 0;
  {
    const std::lock_guard lock(mutex);
    mine = ++barriers_asked;
  }
  std::shared_ptr<const Chunk> barrier;
  while (!received.push(std::move(barrier), 1, Deadline::in(kTick))) {
    stop.check();
  }
  std::unique_lock lock(mutex);
  while (!changed.wait_for(lock, kTick, [&] { return barriers_met >= mine; })) {
    stop.check();
    if (failure) {
      std::rethrow_exception(failure);
    }
  }
  return journal.end();
}

void Spool::State::write() {
  while (!stop.requested()) {
    if (!make_room()) {
      sync_if_due(false);
      stop.wait(Deadline::in(kTick));
      continue;
    }
    const auto chunk = received.pop(Deadline::in(kTick));
    if (!chunk) {
      sync_if_due(true);
      continue;
    }
    if (!*chunk) {
      const std::lock_guard lock(mutex);
      ++barriers_met;
      changed.notify_all();
      continue;
    }
    take(**chunk);
    sync_if_due(false);
  }
  journal.sync();
}

void Spool::State::sync_if_due(bool now) {
  if ((now || sync_due.expired()) && journal.end() > journal.synced()) {
    receiver.set_durable_lsn(journal.sync());
  }
  if (sync_due.expired()) {
    sync_due = Deadline::in(kSyncInterval);
  }
}

bool Spool::State::make_room() {
  if (!in_transaction && journal.wants_rotation()) {
    journal.rotate(relations.entry());
  }
  journal.release(Lsn{durable.load()});
  if (!journal.full()) {
    said_full = false;
    return true;
  }
  if (in_transaction && journal.only_one_segment()) {
    throw base::StateError("a transaction is larger than --spool-limit, " +
                               std::to_string(journal.options().limit_bytes) + " bytes",
                           "run again with a larger --spool-limit");
  }
  if (!said_full) {
    said_full = true;
    base::log::warn(
        "the spool " + journal.options().directory + " is full (" + std::to_string(journal.bytes()) +
        " bytes): nothing more is received until the target has some of it; the source keeps its WAL");
  }
  return false;
}

void Spool::State::take(const Chunk& chunk) {
  if (chunk.reset) {
    journal.drop_unfinished();
    relations.clear();
    in_transaction = false;
  }
  std::size_t whole = 0;  // messages up to and with the last commit
  for (std::size_t i = 0; i < chunk.messages(); ++i) {
    whole = tag_of(chunk.message(i)) == pgoutput::kCommitTag ? i + 1 : whole;
  }
  look_at(chunk, 0, whole);
  if (whole > 0 && whole < chunk.messages()) {
    append(chunk, 0, whole, true);
    // Under a backlog hardly any chunk ends with a commit.
    if (journal.wants_rotation()) {
      journal.rotate(relations.entry());
    }
    look_at(chunk, whole, chunk.messages());
    append(chunk, whole, chunk.messages(), !in_transaction);
    return;
  }
  look_at(chunk, whole, chunk.messages());
  append(chunk, 0, chunk.messages(), !in_transaction);
}

void Spool::State::look_at(const Chunk& chunk, std::size_t begin, std::size_t stop_before) {
  for (auto i = begin; i < stop_before; ++i) {
    const auto bytes = chunk.message(i);
    switch (tag_of(bytes)) {
      case pgoutput::kBeginTag:
        in_transaction = true;
        break;
      case pgoutput::kCommitTag: {
        const auto message = pgoutput::decode(bytes);
        end = std::max(end, std::get<pgoutput::Commit>(message).end_lsn);
        in_transaction = false;
        break;
      }
      case kRelationTag:
        relations.take(bytes);
        break;
      default:
        break;
    }
  }
}

void Spool::State::append(const Chunk& chunk, std::size_t begin, std::size_t stop_before, bool whole) {
  journal::Entry entry;
  for (auto i = begin; i < stop_before; ++i) {
    const auto bytes = chunk.message(i);
    entry.bytes.append(bytes.begin(), bytes.end());
    entry.lengths.push_back(static_cast<std::uint32_t>(bytes.size()));
  }
  entry.whole = whole;
  entry.reset = chunk.reset && begin == 0;
  entry.drained = chunk.drained && whole;
  entry.idle_until = whole ? chunk.idle_until : Lsn{};
  entry.end_lsn = std::max(end, entry.idle_until);
  journal.append(entry);
}

// A batch closes where the journal has nothing more to give, whatever the socket had when it came: backlogs
// make large batches, and a journal that is full and takes nothing more must not leave apply waiting for an
// end.
void Spool::State::feed() {
  journal::Reader reader(journal, applied);
  bool told_drained = true;
  while (!stop_feeding->requested()) {
    auto entry = reader.next(told_drained ? Deadline::in(kTick) : Deadline::in(milliseconds{0}));
    if (!entry && told_drained) {
      continue;
    }
    told_drained = !entry || (entry->whole && !reader.more());
    auto chunk = chunk_of(entry ? *entry : journal::Entry{}, told_drained);
    const auto bytes = chunk->footprint();
    while (!queue->push(std::move(chunk), bytes, Deadline::in(kTick))) {
      stop_feeding->check();
    }
  }
}

Spool::Spool(ReceiverOptions receiver, journal::JournalOptions journal, base::Lsn applied)
    : state_(std::make_unique<State>(std::move(receiver), std::move(journal), applied)) {
  state_->durable = applied.value;
}

Spool::~Spool() {
  detach();
  stop();
}

void Spool::start() {
  state_->receiver.set_durable_lsn(state_->journal.synced());
  state_->writer = std::thread([state = state_.get()] { state->guard(&State::write); });
  state_->receiver.start();
}

void Spool::stop() {
  if (state_->stopped.exchange(true)) {
    return;
  }
  state_->stop.request();  // also ends a receiver that waits for the writer
  state_->receiver.stop();
  if (state_->writer.joinable()) {
    state_->writer.join();
  }
}

bool Spool::stopped() const {
  return state_->stopped;
}

void Spool::attach(ChunkQueue& queue, base::Lsn applied) {
  detach();
  state_->queue = &queue;
  state_->applied = applied;
  state_->stop_feeding = std::make_unique<base::Stop>();
  state_->feeder = std::thread([state = state_.get()] { state->guard(&State::feed); });
}

void Spool::detach() {
  state_->stop_feeding->request();
  if (state_->feeder.joinable()) {
    state_->feeder.join();
  }
}

void Spool::set_durable_lsn(base::Lsn lsn) {
  auto before = state_->durable.load();
  while (before < lsn.value && !state_->durable.compare_exchange_weak(before, lsn.value)) {
  }
}

Receiver& Spool::receiver() {
  return state_->receiver;
}
base::Lsn Spool::end() const {
  return state_->journal.end();
}
base::Lsn Spool::durable() const {
  return Lsn{state_->durable.load()};
}
std::uint64_t Spool::bytes() const {
  return state_->journal.bytes();
}
bool Spool::full() const {
  return state_->journal.full();
}
const std::string& Spool::directory() const {
  return state_->journal.options().directory;
}

std::exception_ptr Spool::failure() const {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->failure) {
      return state_->failure;
    }
  }
  return state_->receiver.failure();
}

}  // namespace replication::stream
