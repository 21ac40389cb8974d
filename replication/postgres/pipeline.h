// libpq's pipeline mode: many statements sent before the first answer is read.
//
// Usage: send(...)* sync() then read results with next(), in the order of sending. After a failed statement
// the server skips everything up to the sync; next() returns those as `skipped`. The pipeline must be drained
// up to its sync before the object is destroyed or the connection is used otherwise. Sending also reads what
// has arrived, so that the two sides can't wait for each other.
#pragma once

#include <string>
#include <string_view>

#include "replication/postgres/connection.h"

namespace replication::postgres {

class Pipeline {
 public:
  explicit Pipeline(Connection& connection);  // enters pipeline mode
  ~Pipeline();  // drains what is left, leaves pipeline mode; marks broken where it can't
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  void prepare(const std::string& name, const std::string& sql, const Params& types = {});
  void execute_prepared(const std::string& name, const Params& params);
  void execute(std::string_view sql, const Params& params = {});
  void sync();

  struct Outcome {
    enum class Kind { ok, failed, skipped, synced } kind = Kind::ok;
    Result result;         // where ok
    std::string sqlstate;  // where failed
    std::string message;   // where failed: primary message, detail and context in one line
  };
  // The next statement's outcome, waiting for it. Throws only where the connection is lost or the deadline
  // passes.
  Outcome next(base::Deadline deadline);
  // Statements (and syncs) sent whose outcome wasn't read yet.
  std::size_t pending() const { return pending_; }

 private:
  void sent(int ok, std::string_view what, std::size_t bytes);
  void flush();
  Connection& connection_;
  std::size_t pending_ = 0;
  std::size_t unflushed_ = 0;  // bytes handed to libpq since the last flush: its buffer is bounded by us
  bool unsynced_ = false;
};

}  // namespace replication::postgres
