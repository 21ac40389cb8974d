#include "replication/catalog/changes.h"

namespace replication::catalog {

Changes changes(const Catalog& before, const Catalog& after) {
  Changes found;
  for (const auto& table : after.tables) {
    const auto* old = before.find(table.oid);
    if (old != nullptr && (old->schema != table.schema || old->name != table.name ||
                           old->replica_identity != table.replica_identity || old->key != table.key ||
                           old->columns != table.columns || old->left_out != table.left_out)) {
      found.shapes.push_back(table.display());
    } else if (old == nullptr || old->filenode != table.filenode) {
      found.files.push_back(table.display());
    }
  }
  return found;
}

}  // namespace replication::catalog
