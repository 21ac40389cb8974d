#include "replication/apply/target_table.h"

#include <algorithm>
#include <array>

#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;
using pgoutput::ColumnValue;

constexpr base::Oid kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kBpchar = 1042, kVarchar = 1043;
constexpr std::size_t kShownBytesMax = 100;

void append_length(std::string& out, std::size_t length) {
  for (const int shift : {24, 16, 8, 0}) {
    out.push_back(static_cast<char>((length >> shift) & 0xFF));
  }
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\\x";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out;
}

std::string describe_value(const ColumnValue& value, base::Oid type) {
  if (value.kind == ColumnKind::null) {
    return "null";
  }
  if (value.kind == ColumnKind::unchanged_toast) {
    return "(not sent)";
  }
  const auto bytes = value.bytes.substr(0, kShownBytesMax);
  const bool integer = type == kInt2 || type == kInt4 || type == kInt8;
  if (value.kind == ColumnKind::text) {
    return integer ? std::string(bytes) : postgres::quote_literal(bytes);
  }
  if (integer && (bytes.size() == 2 || bytes.size() == 4 || bytes.size() == 8)) {
    std::uint64_t number = (bytes[0] & 0x80) != 0 ? ~std::uint64_t{0} : 0;
    for (const char c : bytes) {
      number = (number << 8) | static_cast<unsigned char>(c);
    }
    return std::to_string(static_cast<std::int64_t>(number));
  }
  return type == kText || type == kVarchar || type == kBpchar ? postgres::quote_literal(bytes) : hex(bytes);
}

}  // namespace

bool TargetTable::is_key(std::size_t target) const {
  return std::any_of(key.begin(), key.end(),
                     [&](const KeyColumn& column) { return column.target == target; });
}

bool TargetTable::has_own_columns() const {
  return std::any_of(columns.begin(), columns.end(), [](const TargetColumn& column) { return column.own(); });
}

bool TargetTable::found_like(const TargetTable& other) const {
  return matching == other.matching &&
         std::equal(key.begin(), key.end(), other.key.begin(), other.key.end(),
                    [](const KeyColumn& a, const KeyColumn& b) { return a.source == b.source; });
}

bool TargetTable::same_shape(const TargetTable& other) const {
  return oid == other.oid && row_type == other.row_type && array_type == other.array_type &&
         qualified == other.qualified && row_type_name == other.row_type_name &&
         partitioned == other.partitioned && matching == other.matching && identity == other.identity &&
         columns == other.columns && key == other.key && identity_always == other.identity_always &&
         text_only == other.text_only;
}

std::string_view key_bytes(const TargetTable& table, Row row, std::string& scratch) {
  if (table.key.size() == 1) {  // a key column is never NULL
    return row[table.key[0].source].bytes;
  }
  scratch.clear();
  for (const auto& column : table.key) {
    append_length(scratch, row[column.source].bytes.size());
    scratch += row[column.source].bytes;
  }
  return scratch;
}

std::string describe_key(const TargetTable& table, Row row) {
  std::string out;
  const auto add = [&](const TargetColumn& column, const ColumnValue& value) {
    out += (out.empty() ? "" : ", ") + column.name + "=" + describe_value(value, column.type);
  };
  for (const auto& column : table.key) {
    add(table.columns[column.target], row[column.source]);
  }
  for (std::size_t i = 0; table.key.empty() && i < table.columns.size() && i < 5; ++i) {
    if (const auto& column = table.columns[i]; column.source >= 0) {
      add(column, row[static_cast<std::size_t>(column.source)]);
    }
  }
  return out;
}

}  // namespace replication::apply
