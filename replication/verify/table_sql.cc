#include "replication/verify/table_sql.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "replication/postgres/quote.h"

namespace replication::verify {
namespace {

constexpr int kKeyTextMax = 120;  // characters of a key, or of a row without one, in a report

std::string row_text(std::span<const std::string> columns) {
  std::string text = "ROW(";
  for (const auto& column : columns) {
    text += (text.back() == '(' ? "t." : ", t.") + postgres::quote_identifier(column);
  }
  return text + ")::pg_catalog.text";
}

std::string hash(const std::string& text) {
  return "pg_catalog.hashtextextended(" + text + ", 0)";
}

}  // namespace

std::vector<std::string> compared_columns(const catalog::Table& table) {
  std::vector<std::string> names;
  for (const auto& column : table.columns) {
    if (!column.generated) {
      names.push_back(column.name);
    }
  }
  return names;
}

std::vector<std::string> computed_columns(const catalog::Table& table) {
  std::vector<std::string> names;
  for (const auto& column : table.columns) {
    if (column.generated && column.stored) {
      names.push_back(column.name);
    }
  }
  return names;
}

TableSql::TableSql(const catalog::Table& table) : table_(table.qualified()) {
  auto everything = compared_columns(table);
  std::ranges::move(computed_columns(table), std::back_inserter(everything));
  row_ = row_text(everything);
  key_columns_ = table.keyless() ? compared_columns(table) : table.key;
  key_ = row_text(key_columns_);
  for (const auto& column : table.key) {
    key_label_ += (key_label_.empty() ? "(" : ", ") + column;
  }
  key_label_ = table.keyless() ? "row" : key_label_ + ")";
}

std::string TableSql::lock() const {
  return "LOCK TABLE ONLY " + table_ + " IN ACCESS SHARE MODE";
}

// A sum, since swapped pairs would cancel each other out in an exclusive or; numeric, since it may pass 64
// bits.
std::string TableSql::digest() const {
  return "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(" + hash(row_) +
         "::pg_catalog.numeric), 0)::pg_catalog.text FROM ONLY " + table_ + " AS t";
}

std::string TableSql::hashed_rows() const {
  return "(SELECT " + hash(key_) + " AS h, " + hash(row_) + " AS r, pg_catalog.left(" + key_ + ", " +
         std::to_string(kKeyTextMax) + ") AS k FROM ONLY " + table_ + " AS t) AS hashed";
}

std::string TableSql::buckets(Bucket within, std::int64_t mask) const {
  return "SELECT h & " + std::to_string(mask) +
         " AS bucket, pg_catalog.count(*), pg_catalog.sum(r::pg_catalog.numeric)::pg_catalog.text FROM " +
         hashed_rows() + " WHERE h & " + std::to_string(within.mask) + " = " + std::to_string(within.value) +
         " GROUP BY 1 ORDER BY 1";
}

std::string TableSql::rows(std::int64_t mask, const std::vector<std::int64_t>& values) const {
  std::string list;
  for (const auto value : values) {
    list += (list.empty() ? "" : ",") + std::to_string(value);
  }
  return "SELECT h, r, pg_catalog.count(*), pg_catalog.min(k) FROM " + hashed_rows() + " WHERE h & " +
         std::to_string(mask) + " = ANY ('{" + list + "}'::pg_catalog.int8[]) GROUP BY h, r ORDER BY h, r";
}

std::vector<std::string> fields_of(std::string_view row_text) {
  std::vector<std::string> fields;
  if (!row_text.starts_with('(')) {
    return fields;
  }
  std::string field;
  bool quoted = false;
  for (std::size_t at = 1; at < row_text.size(); ++at) {
    const char c = row_text[at];
    const bool doubled = at + 1 < row_text.size() && row_text[at + 1] == c;
    if (!quoted && (c == ',' || c == ')')) {
      fields.push_back(std::move(field));
      field.clear();
      if (c == ')') {
        break;
      }
    } else if (quoted && doubled && (c == '"' || c == '\\')) {
      field += c;
      ++at;
    } else if (c == '"') {
      quoted = !quoted;
    } else {
      field += c;
    }
  }
  return fields;
}

}  // namespace replication::verify
