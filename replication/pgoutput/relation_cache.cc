#include "replication/pgoutput/relation_cache.h"

#include <utility>

#include "replication/base/error.h"

namespace replication::pgoutput {

bool CachedRelation::same_content(const CachedRelation& other) const {
  return oid == other.oid && schema == other.schema && name == other.name && identity == other.identity &&
         columns == other.columns;
}

const CachedRelation& RelationCache::update(const Relation& relation) {
  CachedRelation fresh;
  fresh.oid = relation.relation;
  fresh.schema = relation.schema;
  fresh.name = relation.name;
  fresh.identity = relation.identity;
  fresh.columns.reserve(relation.columns.size());
  for (const auto& column : relation.columns) {
    fresh.columns.push_back({column.key, std::string(column.name), column.type, column.typmod});
  }
  auto& known = relations_[fresh.oid];
  if (known.version == 0 || !known.same_content(fresh)) {
    fresh.version = ++versions_;
    known = std::move(fresh);
  }
  return known;
}

const CachedRelation* RelationCache::find(base::Oid oid) const {
  const auto found = relations_.find(oid);
  return found == relations_.end() ? nullptr : &found->second;
}

const CachedRelation& RelationCache::get(base::Oid oid) const {
  const auto* found = find(oid);
  if (found == nullptr) {
    throw base::Error(
        "protocol error: a row of relation " + std::to_string(oid) + " came before its description",
        "the stream is not in order; report this together with the server's version");
  }
  return *found;
}

}  // namespace replication::pgoutput
