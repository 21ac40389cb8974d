#include "replication/catalog/fingerprint.h"

#include <cstdint>
#include <set>

namespace replication::catalog {
namespace {

// A type counts with everything it is made of: a new enum label or a wider domain never shows in
// pg_attribute.
void add_type(base::Oid oid, const Types& types, std::set<base::Oid>& seen, Hasher& hasher) {
  if (oid == 0 || !seen.insert(oid).second)
    return;
  const auto found = types.all().find(oid);
  if (found == types.all().end())
    return;
  const Type& type = found->second;
  hasher.add(type.oid);
  hasher.add(type.name);
  hasher.add(static_cast<std::uint64_t>(type.kind));
  hasher.add(type.base_type);
  hasher.add(type.element);
  hasher.add(type.detail);
  add_type(type.base_type, types, seen, hasher);
  add_type(type.element, types, seen, hasher);
  for (const base::Oid attribute : type.attributes)
    add_type(attribute, types, seen, hasher);
}

void add_table(const Table& table, Hasher& hasher) {
  hasher.add(table.oid);
  hasher.add(table.schema);
  hasher.add(table.name);
  hasher.add(table.kind == TableKind::partitioned ? 1 : 0);
  hasher.add(table.partition ? 1 : 0);
  hasher.add(table.root);
  hasher.add(table.unlogged ? 1 : 0);
  hasher.add(static_cast<std::uint64_t>(table.replica_identity));
  hasher.add(table.columns.size());
  for (const Column& column : table.columns) {
    hasher.add(column.name);
    hasher.add(static_cast<std::uint64_t>(column.number));
    hasher.add(column.type);
    hasher.add(column.type_name);
    hasher.add(column.type_digest);
    hasher.add(column.not_null ? 1 : 0);
    hasher.add(static_cast<std::uint64_t>(column.identity));
    hasher.add(column.generated ? 1 : 0);
    if (!column.version.empty()) {
      hasher.add(column.version);
    }
  }
  hasher.add(table.key.size());
  for (const std::string& column : table.key)
    hasher.add(column);
}

}  // namespace

void Hasher::byte(unsigned char value) {
  state_ ^= value;
  state_ *= 0x100000001b3ULL;
}

void Hasher::add(std::uint64_t number) {
  for (int shift = 0; shift < 64; shift += 8)
    byte(static_cast<unsigned char>(number >> shift));
}

void Hasher::add(std::string_view text) {
  add(static_cast<std::uint64_t>(text.size()));
  for (const char c : text)
    byte(static_cast<unsigned char>(c));
}

std::string Hasher::hex() const {
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4)
    out += "0123456789abcdef"[(state_ >> shift) & 0xf];
  return out;
}

std::uint64_t type_digest(base::Oid type, const Types& types) {
  const auto found = types.all().find(type);
  if (found == types.all().end() || (found->second.kind == 'b' && found->second.element == 0))
    return 0;
  Hasher hasher;
  std::set<base::Oid> seen;
  add_type(type, types, seen, hasher);
  return hasher.value();
}

std::string fingerprint(const std::vector<Table>& tables) {
  Hasher hasher;
  hasher.add(tables.size());
  for (const Table& table : tables)
    add_table(table, hasher);
  return hasher.hex();
}

}  // namespace replication::catalog
