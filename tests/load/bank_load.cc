#include "tests/load/bank_load.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <poll.h>
#include <random>
#include <thread>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/transaction.h"
#include "tests/load/shop_writes.h"

namespace load {

namespace base = replication::base;
namespace postgres = replication::postgres;
using base::Deadline;
using base::milliseconds;

struct BankLoad::State {
  explicit State(BankLoadOptions chosen)
      : options(std::move(chosen)),
        info(postgres::ConnInfo::parse(options.conninfo, "the load's conninfo")),
        log(options.log_path) {}

  const BankLoadOptions options;
  const postgres::ConnInfo info;
  CommitLog log;
  base::Stop finish;  // no new transactions
  base::Stop cut;     // interrupt the ones under way
  mutable std::mutex mutex;
  LoadReport counts;  // under mutex
  std::atomic<std::int64_t> acknowledged{0};
  std::atomic<int> running{0};
  std::vector<std::thread> threads;

  void fail(Failure failure);
};

void BankLoad::State::fail(Failure failure) {
  constexpr std::size_t kKept = 100;
  failure.at = std::chrono::system_clock::now();
  const std::lock_guard lock(mutex);
  ++(failure.kind == "doubt" ? counts.in_doubt : counts.failed);
  if (counts.failures.size() < kKept) {
    counts.failures.push_back(std::move(failure));
  }
}

namespace {

// One application thread with its own session.
class Client {
 public:
  Client(const BankLoadOptions& options, int number, std::int64_t last_seq)
      : options_(options),
        number_(number),
        seq_(last_seq),
        random_(options.seed * 1000 + static_cast<unsigned>(number)) {}

  struct Work {
    TransferId id;
    int from = 0, to = 0;
    std::int64_t amount = 0;
    std::string sql;
  };
  Work next() {
    ++seq_;
    Work work;
    work.id = {number_, seq_};
    std::uniform_int_distribution<int> account(1, options_.size.accounts);
    std::uniform_int_distribution<int> amount(1, 20);
    work.from = account(random_);
    work.to = account(random_);
    if (work.to == work.from) {
      work.to = work.from % options_.size.accounts + 1;
    }
    work.amount = amount(random_);
    work.sql = text_of(work);
    return work;
  }

 private:
  std::string text_of(const Work& work) const {
    const auto change = [](int account, std::int64_t by) {
      return "UPDATE shop.bank_account SET balance = balance + (" + std::to_string(by) +
             ") WHERE id = " + std::to_string(account) + ";";
    };
    // The smaller id first: two clients can't wait for each other.
    const auto pay = change(work.from, -work.amount);
    const auto get = change(work.to, work.amount);
    const auto ids = std::to_string(work.id.first) + ", " + std::to_string(work.id.second) + ", ";
    const auto amount = std::to_string(work.amount);
    return (work.from < work.to ? pay + get : get + pay) +
           "INSERT INTO shop.bank_transfer(client, seq, from_account, to_account, amount) VALUES (" + ids +
           std::to_string(work.from) + ", " + std::to_string(work.to) + ", " + amount +
           "); INSERT INTO shop.bank_journal VALUES (" + ids + amount + ", 'paid');" +
           (options_.shop_writes ? shop_write_sql(options_.size, number_, seq_) : "");
  }

  const BankLoadOptions& options_;
  int number_;
  std::int64_t seq_;
  std::mt19937_64 random_;
};

}  // namespace

// The loop of one client.
class ClientLoop {
 public:
  ClientLoop(BankLoad::State& state, int number);
  void run();

 private:
  bool connect();
  void transact();
  void refused(const Client::Work& work, const base::Error& error);
  void acknowledged(const Client::Work& work);

  BankLoad::State& state_;
  int number_;
  Client client_;
  std::optional<postgres::Connection> connection_;
  std::optional<base::Clock::time_point> last_ack_;
  WallTime last_ack_wall_;
};

ClientLoop::ClientLoop(BankLoad::State& state, int number)
    : state_(state), number_(number), client_(state.options, number, state.log.last_seq(number)) {}

void ClientLoop::run() {
  const auto& options = state_.options;
  const auto interval = std::chrono::duration_cast<base::Clock::duration>(
      std::chrono::duration<double>(options.rate > 0 ? options.clients / options.rate : 0));
  // Spread over the interval, so that the clients don't march in step.
  auto due = base::Clock::now() + interval * (number_ - 1) / options.clients;
  while (!state_.finish.wait(Deadline::at(due))) {
    if (connection_ && connection_->usable()) {
      transact();
    } else if (!connect()) {
      state_.finish.wait(Deadline::in(milliseconds(100)));
    }
    // After a stall it goes on at its rate; the lost time isn't caught up.
    due = std::max(due + interval, base::Clock::now() - interval);
  }
}

bool ClientLoop::connect() {
  postgres::SessionOptions session;
  session.server = "the application's server";
  session.application_name = "shop";
  // As an application does it: none of the tool's settings.
  session.kind = postgres::SessionKind::console;
  session.statement_timeout = state_.options.answer_limit;
  session.connect_timeout = state_.options.answer_limit;
  try {
    connection_.emplace(postgres::Connection::open(state_.info, session, state_.cut));
    return true;
  } catch (const base::Error& error) {
    connection_.reset();
    state_.fail({.at = {}, .client = number_, .seq = 0, .kind = "connect", .text = error.describe()});
    return false;
  }
}

void ClientLoop::transact() {
  const auto work = client_.next();
  state_.log.sent(work.id, work.from, work.to, work.amount);
  std::optional<postgres::Transaction> transaction;
  try {
    transaction.emplace(*connection_);
    connection_->exec(work.sql);
  } catch (const base::Error& error) {
    transaction.reset();  // rolls back, before the connection may go
    refused(work, error);
    return;
  }
  std::string doubt = "connection lost at COMMIT";
  try {
    if (transaction->commit() == postgres::CommitOutcome::committed) {
      acknowledged(work);
      return;
    }
  } catch (const base::Error& error) {
    if (!error.sqlstate().empty() && error.connection_usable()) {
      refused(work, error);
      return;
    }
    doubt = error.describe();  // no word from the server about this transaction
  }
  state_.log.outcome(work.id, Outcome::doubt);
  state_.fail({.at = {}, .client = number_, .seq = work.id.second, .kind = "doubt", .text = doubt});
  connection_.reset();
}

void ClientLoop::refused(const Client::Work& work, const base::Error& error) {
  state_.log.outcome(work.id, Outcome::failed);
  const bool lost = !error.connection_usable() || error.sqlstate().empty();
  state_.fail({.at = {},
               .client = number_,
               .seq = work.id.second,
               .kind = error.sqlstate().empty() ? "lost" : error.sqlstate(),
               .text = error.describe()});
  if (lost) {
    connection_.reset();
  }
}

void ClientLoop::acknowledged(const Client::Work& work) {
  state_.log.outcome(work.id, Outcome::acknowledged);
  const auto now = base::Clock::now();
  const auto wall = std::chrono::system_clock::now();
  {
    const std::lock_guard lock(state_.mutex);
    ++state_.counts.acknowledged;
    if (last_ack_) {
      const auto gap = std::chrono::duration_cast<milliseconds>(now - *last_ack_);
      auto& longest = state_.counts.longest_stall[number_];
      if (gap >= longest.length) {
        longest = {gap, last_ack_wall_, wall};
      }
    }
  }
  last_ack_ = now;
  last_ack_wall_ = wall;
  state_.acknowledged.fetch_add(1);
}

Stall LoadReport::worst() const {
  Stall worst;
  for (const auto& [client, stall] : longest_stall) {
    if (stall.length >= worst.length) {
      worst = stall;
    }
  }
  return worst;
}

BankLoad::BankLoad(BankLoadOptions options) : state_(std::make_unique<State>(std::move(options))) {
  state_->running = state_->options.clients;
  for (int number = 1; number <= state_->options.clients; ++number) {
    state_->threads.emplace_back([state = state_.get(), number] {
      try {
        ClientLoop(*state, number).run();
      } catch (const std::exception& error) {
        state->fail({.at = {}, .client = number, .seq = 0, .kind = "bug", .text = error.what()});
      }
      state->running.fetch_sub(1);
    });
  }
}

BankLoad::~BankLoad() {
  stop(Deadline::in(milliseconds(0)));
}

LoadReport BankLoad::stop(Deadline deadline) {
  state_->finish.request();
  while (state_->running.load() > 0 && !deadline.expired()) {
    ::poll(nullptr, 0, 10);
  }
  state_->cut.request();
  for (auto& thread : state_->threads) {
    if (thread.joinable()) {
      thread.join();
    }
  }
  return report();
}

LoadReport BankLoad::report() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

std::int64_t BankLoad::acknowledged() const {
  return state_->acknowledged.load();
}

void BankLoad::wait_acknowledged(std::int64_t more, Deadline deadline) const {
  const auto goal = acknowledged() + more;
  while (acknowledged() < goal) {
    if (deadline.expired()) {
      const auto so_far = report();
      throw base::TimeoutError(
          "timed out waiting for " + std::to_string(more) + " acknowledged commits" +
          (so_far.failures.empty() ? "" : "; a client failed: " + so_far.failures.back().text));
    }
    ::poll(nullptr, 0, 10);
  }
}

Stall BankLoad::take_worst_stall() {
  const std::lock_guard lock(state_->mutex);
  const auto worst = state_->counts.worst();
  state_->counts.longest_stall.clear();
  return worst;
}

const CommitLog& BankLoad::log() const {
  return state_->log;
}

}  // namespace load
