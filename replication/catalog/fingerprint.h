// A hash over everything a stream depends on. Internal to this room.
//
// Equal for two looks at one server between which no DDL on the filtered tables was committed; sizes,
// statistics and rewrites (filenode) don't count. OIDs do: a table that was dropped and made again under its
// name left the publication. FNV-1a, 64 bits, with every field's length in front, so that no two lists of
// fields read the same.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "replication/catalog/catalog.h"
#include "replication/catalog/types.h"

namespace replication::catalog {

class Hasher {
 public:
  void add(std::string_view text);
  void add(std::uint64_t number);
  std::string hex() const;  // 16 digits
  std::uint64_t value() const { return state_; }

 private:
  void byte(unsigned char value);
  std::uint64_t state_ = 0xcbf29ce484222325ULL;
};

// For Column::type_digest.
std::uint64_t type_digest(base::Oid type, const Types& types);
std::string fingerprint(const std::vector<Table>& tables);

}  // namespace replication::catalog
