// A burst: statements sent in one go through the pipeline, answered in one go, with the number of rows that
// each must touch. And the prepared statements of a session. One thread, the connection's.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "replication/apply/row_encoder.h"
#include "replication/apply/target_table.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/params.h"
#include "replication/postgres/pipeline.h"

namespace replication::apply {

// Which statements the session has prepared. Bounded: the oldest is deallocated for a new one.
class StatementCache {
 public:
  explicit StatementCache(std::size_t statements_max = 2'000) : statements_max_(statements_max) {}

  struct Slot {
    std::string name;
    bool prepare = false;                   // not prepared yet
    std::optional<std::string> deallocate;  // to be deallocated first
  };
  Slot slot(const std::string& key);
  // The statement could not be prepared, or its burst ended before.
  void forget(const std::string& key);

 private:
  const std::size_t statements_max_;
  std::uint64_t names_ = 0;
  std::unordered_map<std::string, std::string> names_by_key_;
  std::deque<std::string> keys_;  // oldest first
};

enum class Operation : char {
  insert = 'i',
  remove = 'd',
  update = 'u',
  update_one = 'm',
  replace_one = 'r',
  remove_one = 'x',
  conflict = 'c'
};

class Burst {
 public:
  Burst(postgres::Connection& connection, StatementCache& statements);

  // BEGIN, SAVEPOINT, TRUNCATE...: whatever it touches is right. `tag` comes back with a failure.
  void control(const std::string& sql, std::size_t tag = 0);
  // The compare-and-set of the progress row: its failure means that the row isn't ours.
  void progress(const std::string& sql, const postgres::Params& params);
  // A set or single row statement; `old_rows` is $1 where there are two parameters.
  void rows(const TargetTable& table, Operation operation, const Mask& unchanged, const EncodedRows& rows,
            std::size_t expected, std::size_t tag, const EncodedRows* old_rows = nullptr);
  // A set of rows of any size, as statements of a size that both sides can keep in their caches: the server
  // works on one while the next is encoded, and neither needs memory for all of them at once.
  void set(const TargetTable& table, Operation operation, const Mask& unchanged, std::span<const Row> rows,
           RowPart part = RowPart::all);
  void conflict(const TargetTable& table, const EncodedRows& old_rows, const EncodedRows& new_rows,
                const std::vector<std::string>& texts);
  void query(const std::string& sql);  // its result is Report::last

  enum class What { control, progress, prepare, rows };
  struct Failure {
    What what = What::control;
    std::size_t tag = 0;
    const TargetTable* table = nullptr;
    std::string sqlstate, message;
  };
  struct Miss {  // another number of rows than expected
    std::size_t tag = 0;
    const TargetTable* table = nullptr;
    std::size_t expected = 0;
    std::int64_t touched = 0;
  };
  struct Report {
    std::optional<Failure> failure;  // the first one; what follows it was skipped by the server
    std::vector<Miss> misses;
    postgres::Result last;
  };
  // Sends the sync, reads every outcome. Throws only where the connection is lost.
  Report finish();

 private:
  struct Sent {
    What what = What::control;
    std::size_t tag = 0;
    const TargetTable* table = nullptr;
    std::optional<std::size_t> expected;
    std::string statement;  // key in the cache, of prepare
  };
  void execute(const TargetTable& table, Operation operation, const Mask& unchanged,
               const postgres::Params& params, std::optional<std::size_t> expected, std::size_t tag);

  StatementCache& statements_;
  postgres::Pipeline pipeline_;
  std::vector<Sent> sent_;
};

}  // namespace replication::apply
