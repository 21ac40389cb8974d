// Which table of the receiving side each table of the publishing side is applied to, by OIDs, from the moment
// its rows were copied. The stream names tables, and names can change places: without this the rows of one
// would go on into another of the same shape. Kept on the receiving side, in pgcutover.twin; a table that is
// seen for the first time is the one of its name.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"

namespace replication::apply {

std::string twin_schema_sql();  // DDL, idempotent

struct Twin {
  std::string schema, name;  // as the table is called here now
};

// Nothing where `theirs` was not seen before, or its twin is gone.
std::optional<Twin> twin_of(postgres::Connection& here, const std::string& direction, base::Oid theirs);
void set_twin(postgres::Connection& here, const std::string& direction, base::Oid theirs, base::Oid ours);

// Each of `theirs` that has no twin here gets the table of its name.
void pair_tables(postgres::Connection& here, const std::string& direction,
                 std::span<const catalog::Table> theirs);
// They are copied again, by name.
void unpair_tables(postgres::Connection& here, const std::string& direction,
                   std::span<const catalog::Table> theirs);
// The pairs that `there` keeps for `forward` hold the other way round here, for `back`.
void pair_back(postgres::Connection& there, const std::string& forward, postgres::Connection& here,
               const std::string& back);

}  // namespace replication::apply
