// The target's tables as apply needs them, looked up by schema and name when a relation is first seen.
//
// What can't work is refused here, before a row is sent: a table or column that is missing on the target, a
// type that could not hold the source's values unchanged, a key without a unique index, a trigger or rule
// that fires for applied changes too. The TargetMisfit names the table, the column and the statement to run;
// once it was run the same call succeeds.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "replication/apply/target_table.h"
#include "replication/base/error.h"
#include "replication/catalog/catalog.h"
#include "replication/pgoutput/relation_cache.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

// A relation of the stream can't be applied to the target as it is now. The hint is what to run there.
class TargetMisfit : public base::TypedError<TargetMisfit> {
 public:
  using TypedError::TypedError;
  bool renamed = false;  // the table itself, so that nothing can be told from the one of its name here
};

// Reads the table that `relation` is applied to. Columns that `filter` leaves out are never written, whether
// either side has them or not. With a `direction` its twin is kept (twins.h). Throws TargetMisfit as said
// above.
TargetTable load_target_table(postgres::Connection& connection, const pgoutput::CachedRelation& relation,
                              const catalog::ColumnFilter& filter = {}, const std::string& direction = {});

// Keeps one TargetTable for each relation and shape. Pointers live as long as this object.
class TargetTables {
 public:
  using Load = std::function<TargetTable(const pgoutput::CachedRelation&)>;

  // The table for the relation as it was announced last; `load` is called for a shape that wasn't seen
  // before.
  const TargetTable& get(const pgoutput::CachedRelation& relation, const Load& load);
  // Reads a table again. The same reference where it is still as it was, else another one, which get() gives
  // from now on.
  const TargetTable& refresh(const TargetTable& table, const Load& load);

 private:
  struct Entry {
    pgoutput::CachedRelation relation;
    TargetTable table;
  };
  const Entry& add(const pgoutput::CachedRelation& relation, const Load& load);

  std::unordered_map<base::Oid, const Entry*> current_;
  std::vector<std::unique_ptr<Entry>> entries_;  // grows by one for each DDL on either side
};

}  // namespace replication::apply
