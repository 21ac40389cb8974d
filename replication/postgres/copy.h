// COPY out of and into a server as raw buffers: forwarded, never parsed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "replication/postgres/connection.h"

namespace replication::postgres {

// COPY ... TO STDOUT.
//
// Memory: the server sends a row as one message, and libpq holds it as a whole before any of it can be read;
// its buffer is up to twice the largest row and keeps that size for the connection's life. No second copy is
// made.
class CopyOut {
 public:
  CopyOut(Connection& connection, std::string_view sql);
  ~CopyOut();  // cancels an unfinished COPY
  CopyOut(const CopyOut&) = delete;
  CopyOut& operator=(const CopyOut&) = delete;
  // Called before more is read of a row that isn't there as a whole, with about as many bytes as there are
  // of it (never more), and with a large row's exact size so far while it is handed out. May wait.
  void before_more_of_row(std::function<void(std::size_t bytes)> told) { before_more_ = std::move(told); }
  // Puts the next bytes into `into`, which isn't empty: of one row only. As many as there is room for: the
  // row may go on; fewer: it ended. 0 at the end of all (the COPY's result was checked then).
  std::size_t read(std::span<char> into, base::Deadline deadline);
  std::int64_t rows() const { return rows_; }  // as the server has counted, after the end

 private:
  Connection& connection_;
  std::string sql_;
  std::function<void(std::size_t)> before_more_ = [](std::size_t) {};
  std::size_t arrived_ = 0;  // of the row that isn't there as a whole
  std::size_t given_ = 0;    // of the row that is being handed out
  std::int64_t rows_ = 0;
  bool done_ = false;
};

// COPY ... FROM STDIN. Takes data in pieces of any size, whatever the rows: libpq holds half a megabyte of
// it.
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
