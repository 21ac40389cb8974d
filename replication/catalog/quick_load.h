// The look at the catalog for who counts milliseconds: inside a pause.
#pragma once

#include "replication/catalog/catalog.h"

namespace replication::catalog {

// As load(), but every table's `bytes` is 0. The server asks the file system for the size of each table and
// index: with thousands of them that takes longer than all the rest.
Catalog load_without_sizes(postgres::Connection& connection, const TableFilter& filter);

}  // namespace replication::catalog
