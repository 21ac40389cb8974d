// What a filter leaves out, and what of the rest can't be made without it.
#pragma once

#include <string>
#include <vector>

#include "replication/catalog/catalog.h"

namespace replication::catalog {

struct Relation {
  base::Oid oid = 0;
  std::string schema, name;
  std::string qualified() const;  // quoted
  std::string display() const;    // schema.name
};

// Tables, views, materialized views and foreign tables that the filter doesn't let through; partitions go
// with their root, members of extensions and our own schema are never among them. Empty where the filter is.
std::vector<Relation> left_out(postgres::Connection& connection, const TableFilter& filter);

struct Need {
  std::string object;        // "view app.totals", "function app.f(integer)"
  std::string needs;         // display name of what is left out
  bool foreign_key = false;  // one to a table that is left out: it isn't made, and nothing else fails
};
// What is moved and refers to one of `gone`: the target couldn't make it.
std::vector<Need> needs_of(postgres::Connection& connection, const std::vector<Relation>& gone);

// "app.orders.note": columns of tables that are moved which the filter leaves out. Those of partitions under
// their root's name, each once; by name.
std::vector<std::string> columns_left_out(const Catalog& catalog);

struct ColumnNeed {
  std::string table, column;  // display name, name
  std::string why;            // "is NOT NULL without a default"
};
// Those of them that a row can't be without on this server, or that its rows are found, placed or checked by.
std::vector<ColumnNeed> column_needs(postgres::Connection& connection, const Catalog& catalog);

}  // namespace replication::catalog
