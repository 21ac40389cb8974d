#include "replication/catalog/catalog.h"

#include <algorithm>
#include <fnmatch.h>

#include "replication/postgres/quote.h"

namespace replication::catalog {

std::string Table::qualified() const {
  return postgres::quote_qualified(schema, name);
}

std::string Table::display() const {
  return schema + "." + name;
}

bool Table::binary_safe() const {
  return std::ranges::all_of(columns, [](const Column& c) { return c.generated || c.binary_safe; });
}

bool Table::streams_binary() const {
  return binary_safe() && std::ranges::all_of(left_out, [](const Column& c) { return c.binary_safe; });
}

bool TableFilter::matches(std::string_view display_name) const {
  const std::string name(display_name);
  const auto hit = [&name](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  };
  if (std::ranges::any_of(exclude, hit))
    return false;
  return include.empty() || std::ranges::any_of(include, hit);
}

bool ColumnFilter::leaves_out(std::string_view filter_name, std::string_view column) const {
  if (exclude.empty()) {
    return false;
  }
  const std::string name = std::string(filter_name) + "." + std::string(column);
  return std::ranges::any_of(
      exclude, [&](const std::string& pattern) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

std::string literal_pattern(std::string_view display_name) {
  std::string pattern;
  for (const char c : display_name) {
    if (c == '*' || c == '?' || c == '[' || c == '\\') {
      pattern += '\\';
    }
    pattern += c;
  }
  return pattern;
}

const Table* Catalog::find(std::string_view schema, std::string_view name) const {
  const auto found =
      std::ranges::find_if(tables, [&](const Table& t) { return t.name == name && t.schema == schema; });
  return found == tables.end() ? nullptr : &*found;
}

const Table* Catalog::find(base::Oid oid) const {
  const auto found = std::ranges::find(tables, oid, &Table::oid);
  return found == tables.end() ? nullptr : &*found;
}

std::vector<Table> Catalog::published(int server_major) const {
  std::vector<Table> out;
  for (const Table& table : tables) {
    // An unlogged table is refused by CREATE PUBLICATION: it never reaches the WAL.
    if (table.unlogged)
      continue;
    // A listed root carries every leaf, also those attached later (12 can't list roots). The leaves are
    // listed too: what is written to one while it is detached would be missed otherwise, or while it is
    // unlogged, which the server refuses of a listed table.
    const bool listed = table.kind == TableKind::ordinary || (server_major >= 13 && !table.partition);
    if (listed)
      out.push_back(table);
  }
  return out;
}

}  // namespace replication::catalog
