// A burst: statements sent in one go through the pipeline, answered in one go, with the number of rows that
// each must touch. And the prepared statements of a session. One thread, the connection's.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "replication/apply/batch.h"
#include "replication/apply/row_encoder.h"
#include "replication/apply/target_table.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/params.h"
#include "replication/postgres/pipeline.h"

namespace replication::apply {

// Which statements the session has prepared. Bounded: the one that wasn't used for the longest time is
// deallocated for a new one.
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
  struct Entry {
    std::string key, name;
  };
  std::list<Entry> entries_;                                                 // the last used one first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_;  // views into `entries_`
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
  ~Burst();
  Burst(const Burst&) = delete;
  Burst& operator=(const Burst&) = delete;

  // BEGIN, SAVEPOINT, TRUNCATE...: whatever it touches is right. `tag` comes back with a failure.
  void control(const std::string& sql, std::size_t tag = 0);
  // The same for a statement that is sent with every batch: prepared once a session.
  void fixed(const std::string& sql);
  void commit();
  // The compare-and-set of the progress row: its failure means that the row isn't ours.
  void progress(const std::string& sql, const postgres::Params& params);
  // A set or single row statement; `old_rows` is $1 where there are two parameters.
  void rows(const TargetTable& table, Operation operation, const Mask& unchanged, const EncodedRows& rows,
            std::size_t expected, std::size_t tag, const EncodedRows* old_rows = nullptr);
  // A set of rows of any size (of a delete only the keys are sent), as statements of a size that both sides
  // can keep in their caches: the server works on one while the next is encoded, and neither needs memory for
  // all of them at once.
  void set(const TargetTable& table, Operation operation, const Mask& unchanged, std::span<const Row> rows);
  void truncate(const TruncateTables& truncate, std::size_t tag = 0);
  void conflict(const TargetTable& table, const EncodedRows& old_rows, const EncodedRows& new_rows,
                const std::vector<std::string>& texts);
  // Sets that are sent from now on fail on the server where they touch another number of rows than they were
  // given, so that a COMMIT may follow in the same burst. Sets only: a single row that is missed is recorded.
  void guard_sets() { guarded_ = true; }

  // Rows (and truncated tables) of the statements sent so far.
  const std::unordered_map<const TargetTable*, std::int64_t>& rows_sent() const { return rows_sent_; }

  enum class What { control, commit, progress, prepare, rows };
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
    bool committed = false;  // by the server's own word, whatever failed after it
    postgres::Result last;   // of the last statement that succeeded
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
  enum class Form : char { plain = 'p', guarded = 'g', guarded_values = 'v' };
  void execute(const TargetTable& table, Operation operation, const Mask& unchanged,
               const postgres::Params& params, std::optional<std::size_t> expected, std::size_t tag,
               Form form = Form::plain);
  void set_of_one(const TargetTable& table, Operation operation, const Mask& unchanged, Row row);
  // The name of a statement; sends what prepares it, where the session doesn't have it yet: `make` gives it,
  // and may declare its parameters' types.
  using Make = std::function<std::string(postgres::Params& types)>;
  std::string prepared(const std::string& key, const TargetTable* table, std::size_t tag, const Make& make);

  StatementCache& statements_;
  postgres::Pipeline pipeline_;
  bool guarded_ = false;
  std::unordered_map<const TargetTable*, std::int64_t> rows_sent_;
  std::vector<Sent> sent_;
};

}  // namespace replication::apply
