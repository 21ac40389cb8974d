// COPY out of and into a server as raw buffers: forwarded, never parsed.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "replication/postgres/connection.h"

namespace replication::postgres {

// COPY ... TO STDOUT. next() gives one CopyData message after the other (a row in text and binary format).
class CopyOut {
 public:
  CopyOut(Connection& connection, std::string_view sql);
  ~CopyOut();  // cancels an unfinished COPY
  CopyOut(const CopyOut&) = delete;
  CopyOut& operator=(const CopyOut&) = delete;
  // False at the end (the COPY's result was checked then). `data` lives until the next call.
  bool next(std::span<const char>& data, base::Deadline deadline);

 private:
  Connection& connection_;
  std::string sql_;
  char* buffer_ = nullptr;
  bool done_ = false;
};

// COPY ... FROM STDIN.
class CopyIn {
 public:
  CopyIn(Connection& connection, std::string_view sql);
  ~CopyIn();  // aborts an unfinished COPY
  CopyIn(const CopyIn&) = delete;
  CopyIn& operator=(const CopyIn&) = delete;
  void write(std::span<const char> data, base::Deadline deadline);
  std::int64_t finish(base::Deadline deadline);  // rows

 private:
  Connection& connection_;
  std::string sql_;
  std::size_t unflushed_ = 0;
  bool done_ = false;
};

}  // namespace replication::postgres
