#include "tests/load/bank_proof.h"

#include <map>

#include "replication/postgres/connection.h"
#include "replication/postgres/transaction.h"

namespace load {

namespace postgres = replication::postgres;

namespace {

struct Seen {
  std::int64_t transfers = 0;
  std::int64_t journal = 0;
  int from = 0, to = 0;
  std::int64_t amount = 0;
  std::int64_t journal_amount = 0;
};

class Violations {
 public:
  explicit Violations(std::vector<std::string>& list) : list_(list) {}
  void add(std::string text) {
    constexpr std::int64_t kShown = 20;
    if (++count_ <= kShown) {
      list_.push_back(std::move(text));
    } else if (count_ == kShown + 1) {
      list_.emplace_back();
    }
    if (count_ > kShown) {
      list_.back() = "and " + std::to_string(count_ - kShown) + " more";
    }
  }

 private:
  std::vector<std::string>& list_;
  std::int64_t count_ = 0;
};

std::string name_of(TransferId id) {
  return "transfer " + std::to_string(id.second) + " of client " + std::to_string(id.first);
}

std::map<TransferId, Seen> read_rows(postgres::Connection& connection, BankProof& proof) {
  std::map<TransferId, Seen> rows;
  const auto transfers =
      connection.exec("SELECT client, seq, from_account, to_account, amount FROM shop.bank_transfer");
  for (int i = 0; i < transfers.rows(); ++i) {
    auto& seen = rows[{static_cast<int>(transfers.integer(i, 0)), transfers.integer(i, 1)}];
    ++seen.transfers;
    seen.from = static_cast<int>(transfers.integer(i, 2));
    seen.to = static_cast<int>(transfers.integer(i, 3));
    seen.amount = transfers.integer(i, 4);
  }
  const auto journal = connection.exec("SELECT client, seq, amount FROM shop.bank_journal");
  for (int i = 0; i < journal.rows(); ++i) {
    auto& seen = rows[{static_cast<int>(journal.integer(i, 0)), journal.integer(i, 1)}];
    ++seen.journal;
    seen.journal_amount = journal.integer(i, 2);
  }
  proof.transfers = transfers.rows();
  proof.journal = journal.rows();
  return rows;
}

void compare(TransferId id, const Transfer& sent, const Seen& seen, BankProof& proof, Violations& wrong) {
  const auto times = [](std::int64_t n) { return std::to_string(n) + " times"; };
  const std::string found = " is " + times(seen.transfers) + " in bank_transfer and " + times(seen.journal) +
                            " in the keyless bank_journal";
  const bool once = seen.transfers == 1 && seen.journal == 1;
  const bool absent = seen.transfers == 0 && seen.journal == 0;
  switch (sent.outcome) {
    case Outcome::acknowledged:
      ++proof.acknowledged;
      if (!once) {
        wrong.add("acknowledged " + name_of(id) + found);
      }
      break;
    case Outcome::doubt:
      ++proof.doubtful;
      proof.doubtful_present += once ? 1 : 0;
      if (!once && !absent) {
        wrong.add("doubtful " + name_of(id) + found);
      }
      break;
    case Outcome::failed:
      if (!absent) {
        wrong.add("failed " + name_of(id) + found);
      }
      break;
  }
  if (once && (seen.from != sent.from || seen.to != sent.to || seen.amount != sent.amount ||
               seen.journal_amount != sent.amount)) {
    wrong.add(name_of(id) + " has other accounts or another amount than was sent");
  }
}

void check_balances(postgres::Connection& connection, const ShopSize& size, BankProof& proof,
                    Violations& wrong) {
  const auto start = std::to_string(size.start_balance);
  const auto total = connection.exec("SELECT count(*), coalesce(sum(balance), 0) FROM shop.bank_account");
  proof.total = total.integer(0, 1);
  if (total.integer(0, 0) != size.accounts) {
    wrong.add(total.text(0, 0) + " accounts instead of " + std::to_string(size.accounts));
  }
  if (proof.total != size.accounts * size.start_balance) {
    wrong.add("the balances' total is " + std::to_string(proof.total) + " instead of " +
              std::to_string(size.accounts * size.start_balance));
  }
  const auto off =
      connection.exec("SELECT a.id, a.balance, " + start +
                      " + coalesce(sum(t.change), 0) FROM shop.bank_account a LEFT JOIN "
                      "(SELECT to_account AS id, amount AS change FROM shop.bank_transfer "
                      "UNION ALL SELECT from_account, -amount FROM shop.bank_transfer) t USING (id) "
                      "GROUP BY a.id, a.balance HAVING a.balance <> " +
                      start + " + coalesce(sum(t.change), 0) ORDER BY a.id");
  for (int i = 0; i < off.rows(); ++i) {
    wrong.add("account " + off.text(i, 0) + " holds " + off.text(i, 1) + ", its transfers make " +
              off.text(i, 2));
  }
}

void check_triggers(postgres::Connection& connection, Violations& wrong) {
  const auto odd = connection.exec(
      "SELECT coalesce(o.id, a.id), coalesce(a.n, 0) FROM shop.orders o FULL JOIN "
      "(SELECT \"order\" AS id, count(*) AS n FROM shop.order_audit GROUP BY 1) a USING (id) "
      "WHERE o.id IS NULL OR a.n IS DISTINCT FROM 1 ORDER BY 1");
  for (int i = 0; i < odd.rows(); ++i) {
    wrong.add("order " + odd.text(i, 0) + " has " + odd.text(i, 1) + " audit rows, or is gone");
  }
}

}  // namespace

bool has_acknowledged(postgres::Connection& connection, const std::map<TransferId, Transfer>& sent) {
  std::map<int, std::int64_t> last;
  for (const auto& [id, transfer] : sent) {
    if (transfer.outcome == Outcome::acknowledged) {
      last[id.first] = std::max(last[id.first], id.second);
    }
  }
  for (const auto& [client, seq] : last) {
    const auto found =
        connection.exec("SELECT 1 FROM shop.bank_transfer WHERE client = " + std::to_string(client) +
                        " AND seq = " + std::to_string(seq));
    if (found.rows() == 0) {
      return false;
    }
  }
  return true;
}

BankProof prove_bank(postgres::Connection& connection, const CommitLog& log, const ShopSize& size) {
  return prove_bank(connection, log, size, log.transfers());
}

BankProof prove_bank(postgres::Connection& connection, const CommitLog& log, const ShopSize& size,
                     const std::map<TransferId, Transfer>& before) {
  BankProof proof;
  Violations wrong(proof.violations);
  postgres::Transaction transaction(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  const auto rows = read_rows(connection, proof);
  const auto after = log.transfers();
  for (const auto& [id, transfer] : before) {
    const auto found = rows.find(id);
    compare(id, transfer, found == rows.end() ? Seen{} : found->second, proof, wrong);
  }
  for (const auto& [id, seen] : rows) {
    if (before.contains(id)) {
      continue;
    }
    const auto sent = after.find(id);
    if (sent == after.end()) {
      wrong.add(name_of(id) + " was never sent");
      continue;
    }
    // Begun while we read: there or not, but the same in both tables.
    auto transfer = sent->second;
    transfer.outcome = transfer.outcome == Outcome::failed ? Outcome::failed : Outcome::doubt;
    BankProof not_counted;
    compare(id, transfer, seen, not_counted, wrong);
  }
  check_balances(connection, size, proof, wrong);
  check_triggers(connection, wrong);
  transaction.rollback();
  return proof;
}

std::string BankProof::summary() const {
  std::string text = std::to_string(acknowledged) + " acknowledged, " + std::to_string(doubtful) +
                     " in doubt or under way (" + std::to_string(doubtful_present) + " committed), " +
                     std::to_string(transfers) + " transfers and " + std::to_string(journal) +
                     " journal rows, total " + std::to_string(total);
  if (acknowledged == 0) {
    text += "\n  nothing was acknowledged: this proves nothing";
  }
  for (const auto& violation : violations) {
    text += "\n  " + violation;
  }
  return text;
}

}  // namespace load
