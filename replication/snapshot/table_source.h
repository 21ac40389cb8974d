// Where a copy worker reads: the source side of one table's copy, with the lock and the snapshot that make it
// exact.
//
// Under the slot's exported snapshot one transaction serves many tables of a worker; the lock can't come
// before that snapshot, so a table that was rewritten in between (VACUUM FULL, ALTER TYPE, TRUNCATE: the
// snapshot would see it empty or in part) is found by its filenode. Such a table, and every table where there
// is no exported snapshot, is read in a transaction of its own: lock first, then the snapshot, which must not
// reach behind the slot's beginning, then a synchronous marker from a second session, whose arrival in the
// stream ends the filter. One thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"
#include "replication/snapshot/copy.h"

namespace replication::snapshot {

class TableSource {
 public:
  // Both outlive it.
  TableSource(const CopyOptions& options, const base::Stop& stop) : options_(options), stop_(stop) {}

  struct Reading {
    postgres::Connection* connection = nullptr;  // locked, in the snapshot's transaction
    std::string snapshot, marker;                // empty under the exported snapshot
  };
  using Tables = std::vector<const catalog::Table*>;
  // Throws TimeoutError naming the blockers where no usable snapshot can be had.
  Reading begin(const catalog::Table& table);
  // The same for several tables in one snapshot. Those that were rewritten behind the exported snapshot are
  // taken out of `tables` and returned: each wants begin() of its own. connection is null where none is left.
  Reading begin(Tables& tables, Tables& rewritten);
  // After the copy: ends the table's own transaction.
  void end();
  // After a failure: gives everything back; the next begin() starts anew.
  void abandon() noexcept;

 private:
  bool import_snapshot();
  Tables take_rewritten(Tables& tables);
  void lock(postgres::Connection& connection, const Tables& tables);
  Reading begin_own(const Tables& tables);
  std::string take_snapshot(const Tables& tables);
  void write_marker(const std::string& token);
  postgres::Connection connect() const;

  const CopyOptions& options_;
  const base::Stop& stop_;
  bool exported_lost_ = false;
  std::size_t locked_ = 0;  // tables in the transaction of shared_
  std::optional<postgres::Connection> shared_, own_, marker_;
};

// Lower bound of the transactions that a snapshot "xmin:xmax:xip,..." may not see. Throws Error on anything
// else.
std::uint64_t snapshot_xmin(const std::string& snapshot);

}  // namespace replication::snapshot
