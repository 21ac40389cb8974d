#include "tests/load/commit_log.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include "replication/base/error.h"

namespace load {

using replication::base::Error;

namespace {

const char* word(Outcome outcome) {
  switch (outcome) {
    case Outcome::acknowledged:
      return "acknowledged";
    case Outcome::failed:
      return "failed";
    case Outcome::doubt:
      break;
  }
  return "doubt";
}

}  // namespace

CommitLog::CommitLog(const std::string& path) {
  if (path.empty()) {
    return;
  }
  read(path);
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    throw Error("cannot open " + path + ": " + std::strerror(errno));
  }
}

CommitLog::~CommitLog() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

void CommitLog::read(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    std::istringstream words(line);
    std::string kind;
    TransferId id;
    Transfer transfer;
    words >> kind >> id.first >> id.second;
    if (kind == "sent") {
      words >> transfer.from >> transfer.to >> transfer.amount;
      transfers_[id] = transfer;
    } else if (kind == "acknowledged" || kind == "doubt" || kind == "failed") {
      transfers_[id].outcome = kind == "acknowledged" ? Outcome::acknowledged
                               : kind == "failed"     ? Outcome::failed
                                                      : Outcome::doubt;
    } else {
      words.setstate(std::ios::failbit);
    }
    // A last line without its end is a crash of the writer, everything else is a broken log.
    if (!words && !in.eof()) {
      throw Error("broken commit log " + path + ":" + std::to_string(number) + ": " + line);
    }
  }
}

void CommitLog::append(const std::string& line) {
  // One write(2) a line: whole lines even if we are killed.
  if (fd_ >= 0 && write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    throw Error(std::string("cannot write the commit log: ") + std::strerror(errno));
  }
}

void CommitLog::sent(TransferId id, int from, int to, std::int64_t amount) {
  const std::lock_guard lock(mutex_);
  transfers_[id] = {from, to, amount, Outcome::doubt};
  append("sent " + std::to_string(id.first) + " " + std::to_string(id.second) + " " + std::to_string(from) +
         " " + std::to_string(to) + " " + std::to_string(amount) + "\n");
}

void CommitLog::outcome(TransferId id, Outcome outcome) {
  const std::lock_guard lock(mutex_);
  transfers_[id].outcome = outcome;
  append(std::string(word(outcome)) + " " + std::to_string(id.first) + " " + std::to_string(id.second) +
         "\n");
}

std::map<TransferId, Transfer> CommitLog::transfers() const {
  const std::lock_guard lock(mutex_);
  return transfers_;
}

std::int64_t CommitLog::last_seq(int client) const {
  const std::lock_guard lock(mutex_);
  auto after = transfers_.lower_bound({client + 1, INT64_MIN});
  if (after == transfers_.begin()) {
    return 0;
  }
  --after;
  return after->first.first == client ? after->first.second : 0;
}

std::int64_t CommitLog::count(Outcome outcome) const {
  const std::lock_guard lock(mutex_);
  return std::count_if(transfers_.begin(), transfers_.end(),
                       [outcome](const auto& entry) { return entry.second.outcome == outcome; });
}

}  // namespace load
