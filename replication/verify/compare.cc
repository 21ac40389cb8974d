#include "replication/verify/compare.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <numeric>
#include <poll.h>
#include <thread>

#include "replication/base/error.h"
#include "replication/verify/both_sides.h"
#include "replication/verify/differences.h"
#include "replication/verify/side.h"
#include "replication/verify/table_sql.h"

namespace replication::verify {
namespace {

// A stop of our own for the jobs, requested when the caller's is, or when one job fails.
class StopRelay {
 public:
  explicit StopRelay(const base::Stop& outer) : thread_([this, &outer] { watch(outer); }) {}
  ~StopRelay() {
    ended_.request();
    thread_.join();
  }
  StopRelay(const StopRelay&) = delete;
  StopRelay& operator=(const StopRelay&) = delete;
  base::Stop& stop() { return stop_; }

 private:
  void watch(const base::Stop& outer) {
    try {
      base::poll_fd(outer.fd(), POLLIN, base::Deadline::never(), ended_);
      stop_.request();
    } catch (const base::Error&) {
      // Stopped: the jobs have ended. Whatever else poll may say, the jobs end by themselves.
    }
  }
  base::Stop stop_, ended_;
  std::thread thread_;  // last: starts when all else is there
};

class Run {
 public:
  Run(const CompareOptions& options, const std::vector<const catalog::Table*>& tables)
      : options_(options), tables_(tables), order_(tables.size()) {
    results_.resize(tables.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    // Biggest first, so that no job is left alone with one at the end.
    std::ranges::stable_sort(order_, std::greater{}, [this](std::size_t i) { return tables_[i]->bytes; });
  }

  void job(base::Stop& stop) noexcept {
    try {
      Side source(options_.source, "source", options_.source_snapshot, options_.left_out, stop);
      Side target(options_.target, "target", options_.target_snapshot, options_.left_out, stop);
      for (auto next = next_.fetch_add(1); next < order_.size(); next = next_.fetch_add(1)) {
        const auto index = order_[next];
        results_[index] = compare_table(source, target, *tables_[index]);
        report_progress();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) {
        failure_ = std::current_exception();
      }
      stop.request();
    }
  }

  std::vector<TableResult> take() {
    if (failure_) {
      std::rethrow_exception(failure_);
    }
    return std::move(results_);
  }

 private:
  TableResult compare_table(Side& source, Side& target, const catalog::Table& table) const;
  void fill(TableResult& result, Side& source, Side& target, const catalog::Table& table) const;

  void report_progress() {
    const std::lock_guard lock(mutex_);
    ++done_;
    if (options_.progress) {
      options_.progress(done_, static_cast<std::int64_t>(order_.size()));
    }
  }

  const CompareOptions& options_;
  const std::vector<const catalog::Table*>& tables_;
  std::vector<std::size_t> order_;
  std::atomic<std::size_t> next_{0};
  std::vector<TableResult> results_;  // each element is written by one job
  std::mutex mutex_;                  // guards what follows
  std::exception_ptr failure_;
  std::int64_t done_ = 0;
};

TableResult Run::compare_table(Side& source, Side& target, const catalog::Table& table) const {
  TableResult result;
  result.table = table.display();
  try {
    fill(result, source, target, table);
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    if (!error.connection_usable()) {
      throw;
    }
    result.verdict = Verdict::not_compared;
    result.detail = error.describe();
  }
  source.end_table();
  target.end_table();
  if (!table.left_out.empty()) {
    std::string without;
    for (const auto& column : table.left_out) {
      without += (without.empty() ? "without " : ", ") + column.name;
    }
    result.detail = without + (result.detail.empty() ? "" : "; ") + result.detail;
  }
  return result;
}

void Run::fill(TableResult& result, Side& source, Side& target, const catalog::Table& table) const {
  const TableSql sql(table);
  const auto problems =
      on_both_sides(source, target, [&](Side& side) { return side.begin_table(table, sql); });
  if (problems.first || problems.second) {
    result.detail = problems.first.value_or("") + (problems.first && problems.second ? "; " : "") +
                    problems.second.value_or("");
    return;
  }
  const auto [here, there] = on_both_sides(source, target, [&](Side& side) { return side.digest(sql); });
  result.source_rows = here.rows;
  result.target_rows = there.rows;
  if (here == there) {
    result.verdict = Verdict::equal;
    return;
  }
  result.verdict = Verdict::different;
  DifferenceLimits limits;
  limits.keys_max = options_.keys_max;
  try {
    MadeBy made_by;
    if (options_.made_by) {
      made_by = [&](const std::string& column, const std::string& value) {
        return options_.made_by(table, column, value);
      };
    }
    result.detail =
        describe_differences(source, target, sql, std::max(here.rows, there.rows), limits, made_by);
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    if (!error.connection_usable()) {
      throw;
    }
    result.detail = "the differing rows can't be listed: " + error.describe();  // different all the same
  }
}

}  // namespace

bool Comparison::equal() const {
  return !tables.empty() && std::ranges::all_of(tables, [](const TableResult& table) {
    return table.verdict == Verdict::equal;
  });
}

Comparison compare(const CompareOptions& options, const std::vector<catalog::Table>& tables,
                   const base::Stop& stop) {
  stop.check();
  std::vector<const catalog::Table*> stored;
  for (const auto& table : tables) {
    if (table.stores_rows()) {
      stored.push_back(&table);
    }
  }
  if (stored.empty()) {
    return {};
  }
  Run run(options, stored);
  {
    StopRelay relay(stop);
    std::vector<std::jthread> jobs;
    const auto wanted =
        std::min<std::size_t>(static_cast<std::size_t>(std::max(options.jobs, 1)), stored.size());
    for (std::size_t i = 0; i < wanted; ++i) {
      jobs.emplace_back([&] { run.job(relay.stop()); });
    }
  }
  stop.check();  // the caller's own request, whatever the jobs made of it
  return {run.take()};
}

}  // namespace replication::verify
