// Clients that move money between accounts and write down what the server acknowledged, so that bank_proof.h
// can tell later whether anything was lost, doubled or invented.
//
// Each transaction: two updates of balances (their total never changes), one row with a unique (client, seq)
// in shop.bank_transfer, the same in the keyless shop.bank_journal, and one of the writes of shop_writes.h.
// A transaction that fails is counted and kept with its error; its number is not used again. A client whose
// connection is lost opens another one and goes on.
//
// Threads: one a client; the functions here are for one owner.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "replication/base/deadline.h"
#include "tests/load/commit_log.h"
#include "tests/load/shop_schema.h"

namespace load {

struct BankLoadOptions {
  std::string conninfo;  // of a pooler or a server
  int clients = 4;
  double rate = 100;          // transactions a second over all clients; 0 = as fast as it goes
  std::string log_path = {};  // of the commit log; empty = in memory only
  ShopSize size = {};         // as given to shop_schema_sql
  std::uint64_t seed = 1;
  bool shop_writes = true;  // false: only the bank's own tables
  // How long a client waits for an answer before it takes the connection for lost.
  replication::base::milliseconds answer_limit{120'000};
};

using WallTime = std::chrono::system_clock::time_point;

struct Stall {
  replication::base::milliseconds length{0};
  WallTime begin, end;  // the two acknowledged commits around it
};

struct Failure {
  WallTime at;
  int client = 0;
  std::int64_t seq = 0;  // 0: a connection could not be opened
  std::string kind;      // SQLSTATE, or "lost", "connect", "doubt"
  std::string text;
};

struct LoadReport {
  std::int64_t acknowledged = 0;
  std::int64_t in_doubt = 0;
  std::int64_t failed = 0;        // refused, lost before COMMIT, and connections that could not be opened
  std::vector<Failure> failures;  // the first 100 of them and of those in doubt
  std::map<int, Stall> longest_stall;  // by client, since the last take_worst_stall()
  Stall worst() const;
};

class BankLoad {
 public:
  explicit BankLoad(BankLoadOptions options);
  ~BankLoad();  // stops at once
  BankLoad(const BankLoad&) = delete;
  BankLoad& operator=(const BankLoad&) = delete;

  // Clients end after the transaction they are in; what has no answer by the deadline is cut and in doubt. To
  // be called once.
  LoadReport stop(replication::base::Deadline deadline);
  LoadReport report() const;  // so far
  std::int64_t acknowledged() const;
  // Waits for `more` acknowledged commits from now on. Throws TimeoutError with the last failure.
  void wait_acknowledged(std::int64_t more, replication::base::Deadline deadline) const;
  // The longest stall since the last call (or the start), of any client.
  Stall take_worst_stall();
  const CommitLog& log() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace load
