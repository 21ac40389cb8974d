// Builds each table's indexes and gathers its statistics as soon as its rows are in, while others are still
// copied.
//
// A table's unique indexes come first; primary keys and unique constraints are built as indexes and attached
// when the table's last one is there, so that several of one table are built at the same time. Small tables
// share transactions. Every statement of the archive is still noted exactly once (pgcutover.restored), in the
// transaction that completes it; the first half of a constraint has a note of its own. Memory:
// maintenance_work_mem is 256 MB a job or what the server has set, whichever is more (measured: a sort in
// larger memory is slower). A job that has nothing to do lends its core to a build that begins then
// (max_parallel_maintenance_workers).
//
// Threads: `jobs` of its own; table_in() from any. A build that fails is thrown by finish(); one that needs
// something that isn't there yet is left to SchemaArchive::restore_post_data, like everything that isn't a
// stored table's index.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/fencing_token.h"
#include "replication/snapshot/sql_script.h"

namespace replication::snapshot {

struct IndexProgress {
  std::int64_t done = 0, total = 0;  // indexes of tables; the total is known from the beginning
};

class IndexBuilder {
 public:
  // `post_data`: the archive's statements, in their order. Each transaction checks `token`.
  IndexBuilder(const postgres::ConnInfo& target, const postgres::FencingToken& token,
               const std::vector<ScriptItem>& post_data, int jobs, const base::Stop& stop);
  ~IndexBuilder();  // cancels what is under way and waits for it
  IndexBuilder(const IndexBuilder&) = delete;
  IndexBuilder& operator=(const IndexBuilder&) = delete;

  // The table's rows are committed. Must live until finish().
  void table_in(const catalog::Table& table);
  // No more tables come. Waits for what is left to do, telling how far it is twice a second; throws the first
  // failure.
  void finish(const std::function<void(const IndexProgress&)>& tell = {});
  IndexProgress progress() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace replication::snapshot
