// How far a copy is: what all workers have done, told to one listener, one call at a time. Any thread.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/copy_stream.h"
#include "replication/snapshot/row_estimate.h"

namespace replication::snapshot {

class CopyTally {
 public:
  // `tell` outlives it.
  CopyTally(const std::function<void(const CopyProgress&)>& tell, const std::vector<catalog::Table>& tables);
  void done_before(const catalog::Table& table, std::int64_t rows);
  // Before the first worker.
  void expect(RowEstimates rows) { expected_ = std::move(rows); }
  void moved(const catalog::Table& table, std::int64_t rows, std::int64_t bytes);
  void again(const catalog::Table& table);
  void finished(const catalog::Table& table, std::int64_t rows);

 private:
  std::int64_t done_of(const catalog::Table& table, const CopiedTable& copied) const;
  void publish(bool always);

  std::mutex mutex_;
  const std::function<void(const CopyProgress&)>& tell_;
  RowEstimates expected_;
  CopyProgress progress_;
  std::int64_t finished_bytes_ = 0;
  std::map<const catalog::Table*, CopiedTable> running_;
  std::map<const catalog::Table*, base::Clock::time_point> began_;
  base::Clock::time_point told_{};
};

}  // namespace replication::snapshot
