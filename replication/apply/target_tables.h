// The target's tables as apply needs them, looked up by schema and name when a relation is first seen.
//
// What can't work is refused here, before a row is sent: a table or column that is missing on the target, a
// type that could not hold the source's values unchanged, a key without a unique index. The Error names the
// table, the column and the statement to run.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "replication/apply/target_table.h"
#include "replication/pgoutput/relation_cache.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

// Reads the table that `relation` is applied to. Throws Error as said above.
TargetTable load_target_table(postgres::Connection& connection, const pgoutput::CachedRelation& relation);

// Keeps one TargetTable for each relation and shape. Pointers live as long as this object.
class TargetTables {
 public:
  // The table for the relation as it was announced last; `load` is called for a shape that wasn't seen
  // before.
  template <typename Load>
  const TargetTable& get(const pgoutput::CachedRelation& relation, Load load) {
    auto& entry = current_[relation.oid];
    if (entry.table == nullptr || !entry.relation.same_content(relation)) {
      tables_.push_back(std::make_unique<TargetTable>(load(relation)));
      tables_.back()->id = tables_.size();
      entry.relation = relation;
      entry.table = tables_.back().get();
    }
    return *entry.table;
  }

 private:
  struct Entry {
    pgoutput::CachedRelation relation;
    const TargetTable* table = nullptr;
  };
  std::unordered_map<base::Oid, Entry> current_;
  std::vector<std::unique_ptr<TargetTable>> tables_;  // grows by one for each DDL on the source
};

}  // namespace replication::apply
