// What clients know about their transactions: the ground truth of the proof. In memory, and in an append-only
// file of one line an event, so that it outlives a load generator that is killed:
//
//   sent CLIENT SEQ FROM TO AMOUNT      before BEGIN
//   acknowledged CLIENT SEQ             the server said COMMIT
//   doubt CLIENT SEQ                    the connection was lost at COMMIT
//   failed CLIENT SEQ                   refused or lost before COMMIT: must not be there
// A transaction that was sent and has no outcome (the generator died) is in doubt.
//
// Threads: safe from every thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace load {

enum class Outcome { doubt, acknowledged, failed };

struct Transfer {
  int from = 0;
  int to = 0;
  std::int64_t amount = 0;
  Outcome outcome = Outcome::doubt;
};

using TransferId = std::pair<int, std::int64_t>;  // client, seq

class CommitLog {
 public:
  // An empty path keeps it in memory only. An existing file is continued: what is in it is read first.
  explicit CommitLog(const std::string& path = {});
  ~CommitLog();
  CommitLog(const CommitLog&) = delete;
  CommitLog& operator=(const CommitLog&) = delete;

  void sent(TransferId id, int from, int to, std::int64_t amount);
  void outcome(TransferId id, Outcome outcome);

  std::map<TransferId, Transfer> transfers() const;
  // The highest seq a client has sent; 0 where it is new.
  std::int64_t last_seq(int client) const;
  std::int64_t count(Outcome outcome) const;

 private:
  void read(const std::string& path);
  void append(const std::string& line);
  mutable std::mutex mutex_;
  std::map<TransferId, Transfer> transfers_;
  int fd_ = -1;
};

}  // namespace load
