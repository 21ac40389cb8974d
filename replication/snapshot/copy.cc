#include "replication/snapshot/copy.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/table_copier.h"
#include "replication/snapshot/workers.h"

namespace replication::snapshot {
namespace {

using catalog::Table;

constexpr std::int64_t kTellEveryBytes = std::int64_t{1} << 20;

postgres::Connection connect_target(const CopyOptions& options, const base::Stop& stop) {
  postgres::SessionOptions session;
  session.server = "target";
  session.application_name = "pgcutover copy";
  return postgres::Connection::open(options.target, session, stop);
}

// What all workers have done, told to one listener, one call at a time.
class Tally {
 public:
  Tally(const CopyOptions& options, const std::vector<Table>& tables) : tell_(options.progress) {
    for (const auto& table : tables) {
      if (table.stores_rows()) {
        ++progress_.tables_total;
        progress_.bytes_total += table.bytes;
      }
    }
  }
  void finished(const Table& table, std::int64_t rows) {
    const std::lock_guard lock(mutex_);
    running_.erase(&table);
    ++progress_.tables_done;
    progress_.rows_done += rows;
    finished_bytes_ += table.bytes;
    publish();
  }
  void moved(const Table& table, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    auto& so_far = running_[&table];
    const bool worth_telling = bytes < so_far || bytes - so_far >= kTellEveryBytes || so_far == 0;
    if (worth_telling) {
      so_far = bytes;
      progress_.current = table.display();
      publish();
    }
  }

 private:
  void publish() {
    progress_.bytes_done = finished_bytes_;
    for (const auto& [table, bytes] : running_) {
      progress_.bytes_done += std::min(bytes, table->bytes);
    }
    if (tell_) {
      tell_(progress_);
    }
  }

  std::mutex mutex_;
  const std::function<void(const CopyProgress&)>& tell_;
  CopyProgress progress_;
  std::int64_t finished_bytes_ = 0;
  std::map<const Table*, std::int64_t> running_;
};

// Tables that aren't done yet, the largest first: the last one to end should be a small one.
std::vector<const Table*> tables_to_copy(postgres::Connection& target, const std::vector<Table>& tables,
                                         Tally& tally) {
  std::map<std::pair<std::string, std::string>, std::int64_t> done;
  const auto rows = target.exec("SELECT schema, name, rows FROM pgcutover.table_copy");
  for (int row = 0; row < rows.rows(); ++row) {
    done[{rows.text(row, 0), rows.text(row, 1)}] = rows.integer(row, 2);
  }
  std::vector<const Table*> left;
  for (const auto& table : tables) {
    if (!table.stores_rows()) {
      continue;
    }
    if (const auto found = done.find({table.schema, table.name}); found != done.end()) {
      tally.finished(table, found->second);
    } else {
      left.push_back(&table);
    }
  }
  std::stable_sort(left.begin(), left.end(),
                   [](const Table* a, const Table* b) { return a->bytes > b->bytes; });
  return left;
}

// The workers commit asynchronously. A synchronous commit flushes everything before it; it has to write a row
// for that, since a transaction without WAL isn't flushed.
void make_durable(postgres::Connection& target) {
  target.exec("SET synchronous_commit = on");
  target.exec(
      "UPDATE pgcutover.table_copy SET done_at = done_at "
      "WHERE (schema, name) = (SELECT schema, name FROM pgcutover.table_copy LIMIT 1)");
}

}  // namespace

std::string copy_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.table_copy (
  schema text NOT NULL,
  name text NOT NULL,
  rows bigint NOT NULL,
  bytes bigint NOT NULL,
  snapshot text,
  marker text,
  filter_passed boolean NOT NULL,
  done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schema, name),
  CHECK ((snapshot IS NULL) = (marker IS NULL)),
  CHECK (filter_passed OR marker IS NOT NULL)
);
)" + restore_schema_sql();
}

void copy_tables(const CopyOptions& options, const std::vector<Table>& tables, const base::Stop& stop) {
  PGCUTOVER_CHECK(!options.slot_xid.empty(),
                  "a copy needs the transaction id taken after the slot's creation");
  Tally tally(options, tables);
  auto target = connect_target(options, stop);
  const auto left = tables_to_copy(target, tables, tally);
  run_workers(options.jobs, left.size(), stop, [&](WorkQueue& queue, const base::Stop& cancel) {
    const Table* current = nullptr;
    TableCopier copier(options, cancel, [&](std::int64_t bytes) { tally.moved(*current, bytes); });
    while (const auto at = queue.next()) {
      current = left[*at];
      tally.finished(*current, copier.copy(*current).rows);
    }
  });
  if (!target.usable()) {
    target = connect_target(options, stop);
  }
  make_durable(target);
}

std::vector<TableSnapshot> pending_snapshots(postgres::Connection& target) {
  const auto rows = target.exec(
      "SELECT schema, name, snapshot, marker FROM pgcutover.table_copy WHERE NOT filter_passed ORDER BY "
      "schema, name");
  std::vector<TableSnapshot> pending;
  for (int row = 0; row < rows.rows(); ++row) {
    pending.push_back({rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3)});
  }
  return pending;
}

void mark_filter_passed(postgres::Connection& target, const std::string& marker) {
  target.exec("UPDATE pgcutover.table_copy SET filter_passed = true WHERE marker = $1 AND NOT filter_passed",
              postgres::Params{marker});
}

CopyState copy_state(postgres::Connection& target) {
  const auto row = target.one_row(
      "SELECT count(*), coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM "
      "pgcutover.table_copy");
  return {row.integer(0, 0), row.integer(0, 1), row.integer(0, 2)};
}

}  // namespace replication::snapshot
