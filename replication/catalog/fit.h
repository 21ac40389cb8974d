// Whether tables that are on the target already (an application's own migrations made them) can take the
// source's rows, and give them back on the way back.
//
// They must be there, be empty, have the same columns, keys and partitions, and hold nothing that could
// refuse a row of the source: a constraint, a unique index or row security of their own. What they lack
// (indexes, foreign keys, triggers) is nobody's business but their owner's. Reads both catalogs in a few set
// queries; looks into a table for rows only where it has storage. Takes no locks that a reader doesn't.
#pragma once

#include <string>
#include <vector>

#include "replication/catalog/catalog.h"

namespace replication::catalog {

struct Misfit {
  enum class Kind { differs, holds_rows, privilege };
  Kind kind = Kind::differs;
  std::string object;   // "public.orders"
  std::string message;  // "column price is integer, on the source numeric(10,2)"
  std::string remedy;   // a statement where there is one
};

// Of the tables `wanted` (the source's) and of the sequences that feed them. By object.
std::vector<Misfit> misfits(postgres::Connection& source, postgres::Connection& target, const Catalog& wanted,
                            const Catalog& there);

// Indexes that keep no rule (not unique, of no constraint) of these tables, and of materialized views, that
// the target lacks though it has the table: "public.orders_at". By name.
std::vector<std::string> missing_indexes(postgres::Connection& source, postgres::Connection& target,
                                         const Catalog& wanted);

// Those of `tables` (as they are on the target) that hold a row or more.
std::vector<const Table*> tables_with_rows(postgres::Connection& target,
                                           const std::vector<const Table*>& tables);

}  // namespace replication::catalog
