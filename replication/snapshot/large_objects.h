// Large objects are not in any stream: they are compared and copied until the switch, with owner, rights and
// comment. Everything is read by SQL functions that need no right on pg_largeobject itself.
//
// Threads: a look uses a second thread for the target's session. Errors: those of the statements.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/catalog/role_map.h"
#include "replication/postgres/connection.h"

namespace replication::snapshot {

// Row versions of everything that a large object consists of, folded into kBuckets by its oid. A row version
// never changes and never comes back: where they are the same as before, so are the objects.
struct LargeObjectVersions {
  static constexpr base::Oid kBuckets = 16'384;
  static base::Oid bucket(base::Oid object) { return object % kBuckets; }
  std::string place;  // the server's start and its roles: where this differs nothing can be said
  std::vector<std::array<std::int64_t, 3>> buckets;
};

// Looks again and again at the same two databases. The first look compares all objects; a later one those
// whose row versions are others than at the look before, on either side: what is to be read under a fence
// is what was changed since the look in front of it. That takes the right to read pg_largeobject on both
// servers (superusers have it); without it each look compares all.
//
// What a look saw must be durable before the next one: after a crash that loses commits, transaction ids are
// given out again.
class LargeObjects {
 public:
  using Connection = postgres::Connection;
  // Owners and rights are those of roles that the target has, by these names.
  explicit LargeObjects(catalog::RoleMap roles = {}) : roles_(std::move(roles)) {}
  // Copies those that are missing or differ, removes those that are gone. Returns those that were touched.
  // `deadline` holds for each statement, which looks at up to 500 of them.
  std::vector<base::Oid> refresh(Connection& source, Connection& target,
                                 base::Deadline deadline = base::Deadline::never());
  // Those that refresh() would touch; nothing is written.
  std::vector<base::Oid> changed(Connection& source, Connection& target,
                                 base::Deadline deadline = base::Deadline::never());

 private:
  catalog::RoleMap roles_;
  std::vector<base::Oid> look(Connection& source, Connection& target, base::Deadline deadline, bool write);
  std::optional<std::vector<base::Oid>> buckets_to_compare(const LargeObjectVersions& source,
                                                           const LargeObjectVersions& target) const;
  // Objects in a bucket that is the same as here, on both sides, and not among these, are alike.
  std::optional<LargeObjectVersions> source_, target_;
  std::set<base::Oid> different_;  // buckets
};

}  // namespace replication::snapshot
