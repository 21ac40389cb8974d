// A small shop with everything that a migration meets: identity columns, serials, a uuid key, jsonb, TOASTed
// text, a partitioned table, an enum, composite and domain types, foreign keys, triggers, a keyless table, a
// large object, a materialized view, generated columns; and the bank whose books the proof reads.
#pragma once

#include <string>

namespace load {

struct ShopSize {
  int accounts = 200;
  long start_balance = 1000;
  int customers = 200;
  int products = 100;
  // The keyless journal is in the schema either way; this one leaves out what a matrix of old versions can't
  // have.
  bool large_object = true;
};

// DDL and first rows, as one text for the simple protocol, to be run as the tables' owner in an empty
// database. Everything is in the schema `shop`.
std::string shop_schema_sql(const ShopSize& size);

}  // namespace load
