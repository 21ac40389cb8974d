// What a statement that builds an index says, as far as its order and its parallelism need to know. Pure
// functions of pg_dump's text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/snapshot/sql_script.h"

namespace replication::snapshot {

struct IndexStatement {
  std::string schema, table;
  bool unique = false;
  // A primary key or unique constraint in two steps: the index, whose lock lets others of the same table be
  // built beside it, and then the constraint on it, which takes no time. Empty where the statement has to be
  // run as it is (EXCLUDE, NULLS NOT DISTINCT, INCLUDE and whatever isn't known here).
  std::string build, attach;
};

// CREATE [UNIQUE] INDEX ... ON schema.table, or ALTER TABLE ONLY schema.table ADD CONSTRAINT ... . Nothing
// for anything else, also for an index ON ONLY: a partitioned table's, which builds nothing.
std::optional<IndexStatement> read_index_statement(std::string_view sql);

// Whether each of these statements may wait: an index that keeps no rule (not unique, of no constraint), and
// what speaks of such an index: attaching it to a partitioned one, its comment, CLUSTER ON.
std::vector<bool> secondary_indexes(const std::vector<ScriptItem>& items);

// "schema"."name" of the index that CREATE [UNIQUE] INDEX makes, as written; empty for anything else.
std::string created_index(std::string_view sql);

}  // namespace replication::snapshot
