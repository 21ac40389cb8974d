// Compares what the clients know (CommitLog) with what a database holds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/load/commit_log.h"
#include "tests/load/shop_schema.h"

namespace replication::postgres {
class Connection;
}

namespace load {

struct BankProof {
  std::int64_t acknowledged = 0;      // by the log
  std::int64_t doubtful = 0;          // by the log; under load also those under way
  std::int64_t doubtful_present = 0;  // of these, committed after all
  std::int64_t transfers = 0;         // rows
  std::int64_t journal = 0;           // rows
  std::int64_t total = 0;             // sum of the balances
  // What is wrong, one line each; the first 20, then how many more there are.
  std::vector<std::string> violations;
  // An empty log proves nothing.
  bool holds() const { return violations.empty() && acknowledged > 0; }
  std::string summary() const;
};

// The load may go on meanwhile: what was acknowledged before the call has to be there, what is there has to
// have been sent by the end of it. On a replica, wait first until it has what was acknowledged
// (has_acknowledged).
//
// In one REPEATABLE READ transaction, with a session that may read the schema `shop`:
// - every acknowledged transfer is there exactly once in shop.bank_transfer and in the keyless
// shop.bank_journal,
//   with the accounts and the amount that were sent;
// - one in doubt is in both once or in neither; a failed one and one that was never sent is in neither;
// - the balances' total is what it was, and each balance is the start balance plus its transfers;
// - the trigger of shop.orders fired exactly once for each order.
// Whether the last acknowledged transfer of each client is there: a replica that applies in commit order has
// then all that was acknowledged when `sent` (CommitLog::transfers()) was taken.
bool has_acknowledged(replication::postgres::Connection& connection,
                      const std::map<TransferId, Transfer>& sent);

BankProof prove_bank(replication::postgres::Connection& connection, const CommitLog& log,
                     const ShopSize& size);
// The same for a replica: `before` is what it was waited for with has_acknowledged. What was acknowledged
// since then may still be under way to it.
BankProof prove_bank(replication::postgres::Connection& connection, const CommitLog& log,
                     const ShopSize& size, const std::map<TransferId, Transfer>& before);

}  // namespace load
