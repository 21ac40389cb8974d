// The last Relation message of each table, with strings of its own: a Relation's views die with their chunk,
// but the rows that follow it, in this chunk and in later ones, need it.
//
// The walsender sends a relation again after every relcache invalidation (DDL, TRUNCATE, ALTER PUBLICATION),
// mostly unchanged: `version` moves only when the content did, so that what was built for it can be kept.
// Threads: belongs to one thread. References stay valid until clear(); the next update of the same oid
// overwrites what they show. After a reconnect the walsender sends everything anew: clear() is right, keeping
// is harmless.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "replication/pgoutput/message.h"

namespace replication::pgoutput {

struct CachedColumn {
  bool key = false;
  std::string name;
  base::Oid type = 0;
  std::int32_t typmod = -1;

  bool operator==(const CachedColumn&) const = default;
};

struct CachedRelation {
  base::Oid oid = 0;
  std::string schema, name;
  ReplicaIdentity identity = ReplicaIdentity::default_;
  std::vector<CachedColumn> columns;
  std::uint64_t version = 0;  // unique in the cache, never 0 in it; another one = another content

  bool same_content(const CachedRelation& other) const;
};

class RelationCache {
 public:
  const CachedRelation& update(const Relation& relation);
  // Throws Error for a relation that was never announced: rows without it can't be understood.
  const CachedRelation& get(base::Oid oid) const;
  const CachedRelation* find(base::Oid oid) const;
  std::size_t size() const { return relations_.size(); }
  void clear() { relations_.clear(); }

 private:
  std::unordered_map<base::Oid, CachedRelation> relations_;
  std::uint64_t versions_ = 0;
};

}  // namespace replication::pgoutput
