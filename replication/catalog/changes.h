// What became of the tables of one server between two looks at its catalog.
#pragma once

#include <string>
#include <vector>

#include "replication/catalog/catalog.h"

namespace replication::catalog {

// Tables by their display names. Dropped ones are in neither list.
struct Changes {
  std::vector<std::string> shapes;  // other columns, columns of types that changed, another identity or name
  std::vector<std::string> files;   // new, or truncated or rewritten
  bool none() const { return shapes.empty() && files.empty(); }
};
Changes changes(const Catalog& before, const Catalog& after);

}  // namespace replication::catalog
