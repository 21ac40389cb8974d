#include "replication/apply/row_encoder.h"

#include <optional>

#include "replication/base/error.h"

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;
using pgoutput::ColumnValue;

void append_int32(std::string& out, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                         static_cast<char>(value >> 8), static_cast<char>(value)};
  out.append(bytes, sizeof bytes);
}

void overwrite_int32(std::string& out, std::size_t at, std::uint32_t value) {
  std::string bytes;
  append_int32(bytes, value);
  out.replace(at, bytes.size(), bytes);
}

// Which target columns are sent; the others are NULL.
std::vector<const TargetColumn*> sent_columns(const TargetTable& table, RowPart part) {
  std::vector<const TargetColumn*> columns;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const auto& column = table.columns[i];
    const bool sent = column.written() && (part == RowPart::all || table.is_key(i));
    columns.push_back(sent ? &column : nullptr);
  }
  return columns;
}

const ColumnValue* value_of(const TargetColumn* column, Row row) {
  if (column == nullptr) {
    return nullptr;
  }
  const auto& value = row[static_cast<std::size_t>(column->source)];
  return value.kind == ColumnKind::text || value.kind == ColumnKind::binary ? &value : nullptr;
}

bool decide_binary(const TargetTable& table, const std::vector<const TargetColumn*>& columns,
                   std::span<const Row> rows) {
  std::optional<ColumnKind> seen;
  for (const Row row : rows) {
    for (const auto* column : columns) {
      const auto* value = value_of(column, row);
      if (value == nullptr) {
        continue;
      }
      if (seen && *seen != value->kind) {
        throw base::Error("values of " + table.display + " came partly as text and partly as binary",
                          "start the stream without binary values");
      }
      seen = value->kind;
    }
  }
  return !seen || *seen == ColumnKind::binary;
}

std::string encode_binary(const TargetTable& table, const std::vector<const TargetColumn*>& columns,
                          std::span<const Row> rows) {
  std::string out;
  out.reserve(rows.size() * (columns.size() * 16 + 8) + 20);
  append_int32(out, 1);  // dimensions
  append_int32(out, 0);  // no NULL elements
  append_int32(out, table.row_type);
  append_int32(out, static_cast<std::uint32_t>(rows.size()));
  append_int32(out, 1);  // lower bound
  for (const Row row : rows) {
    const std::size_t start = out.size();
    append_int32(out, 0);  // the row's length, once it is known
    append_int32(out, static_cast<std::uint32_t>(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
      append_int32(out, table.columns[i].type);
      const auto* value = value_of(columns[i], row);
      append_int32(out, value == nullptr ? 0xFFFFFFFFU : static_cast<std::uint32_t>(value->bytes.size()));
      if (value != nullptr) {
        out += value->bytes;
      }
    }
    overwrite_int32(out, start, static_cast<std::uint32_t>(out.size() - start - 4));
  }
  return out;
}

// A field within a row within an array: record_out doubles quotes and backslashes, array_out then escapes
// both.
void append_text_field(std::string& out, std::string_view value) {
  out += "\\\"";
  for (const char c : value) {
    if (c == '"') {
      out += "\\\"\\\"";
    } else if (c == '\\') {
      out += "\\\\\\\\";
    } else {
      out.push_back(c);
    }
  }
  out += "\\\"";
}

std::string encode_text(const std::vector<const TargetColumn*>& columns, std::span<const Row> rows) {
  std::string out = "{";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    out += r == 0 ? "\"(" : ",\"(";
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) {
        out.push_back(',');
      }
      if (const auto* value = value_of(columns[i], rows[r]); value != nullptr) {
        append_text_field(out, value->bytes);
      }
    }
    out += ")\"";
  }
  out += "}";
  return out;
}

}  // namespace

EncodedRows encode_rows(const TargetTable& table, std::span<const Row> rows, RowPart part) {
  const auto columns = sent_columns(table, part);
  const bool binary = decide_binary(table, columns, rows);
  return {binary ? encode_binary(table, columns, rows) : encode_text(columns, rows), binary};
}

}  // namespace replication::apply
