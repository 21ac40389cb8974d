#include "replication/apply/row_encoder.h"

#include <algorithm>
#include <cstring>

#include "replication/base/error.h"

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;
using pgoutput::ColumnValue;

void put_int32(char*& at, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                         static_cast<char>(value >> 8), static_cast<char>(value)};
  std::memcpy(at, bytes, sizeof bytes);
  at += sizeof bytes;
}

using Columns = std::vector<const TargetColumn*>;

// Which target columns are sent; the others are NULL.
Columns sent_columns(const TargetTable& table, RowPart part) {
  Columns columns;
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

// Every value of a table comes in one format; which one, the first value says.
class Format {
 public:
  explicit Format(const TargetTable& table) : table_(table) {}

  void see(const ColumnValue& value) {
    if (seen_ != ColumnKind::null && seen_ != value.kind) {
      throw base::Error("values of " + table_.display + " came partly as text and partly as binary",
                        "start the stream without binary values");
    }
    seen_ = value.kind;
  }

 private:
  const TargetTable& table_;
  ColumnKind seen_ = ColumnKind::null;
};

bool starts_binary(const Columns& columns, std::span<const Row> rows) {
  for (const Row row : rows) {
    for (const auto* column : columns) {
      if (const auto* value = value_of(column, row); value != nullptr) {
        return value->kind == ColumnKind::binary;
      }
    }
  }
  return true;
}

EncodedRows encode_binary(const TargetTable& table, const Columns& columns, std::span<const Row> rows,
                          std::size_t bytes_max) {
  constexpr std::size_t kHeaderBytes = 20, kRowHeaderBytes = 8, kFieldHeaderBytes = 8;
  EncodedRows encoded{std::string(kHeaderBytes, '\0'), true, 0};
  auto& out = encoded.bytes;
  Format format(table);
  for (const Row row : rows) {
    std::size_t size = kRowHeaderBytes + columns.size() * kFieldHeaderBytes;
    for (const auto* column : columns) {
      if (const auto* value = value_of(column, row); value != nullptr) {
        format.see(*value);
        size += value->bytes.size();
      }
    }
    const std::size_t start = out.size();
    if (encoded.rows > 0 && start + size > bytes_max) {
      break;
    }
    if (out.capacity() < start + size) {
      out.reserve(std::max(2 * out.capacity(), start + size));
    }
    out.resize(start + size);
    char* at = out.data() + start;
    put_int32(at, static_cast<std::uint32_t>(size - 4));
    put_int32(at, static_cast<std::uint32_t>(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
      put_int32(at, table.columns[i].sent_type());
      const auto* value = value_of(columns[i], row);
      put_int32(at, value == nullptr ? 0xFFFFFFFFU : static_cast<std::uint32_t>(value->bytes.size()));
      if (value != nullptr && !value->bytes.empty()) {
        std::memcpy(at, value->bytes.data(), value->bytes.size());
        at += value->bytes.size();
      }
    }
    ++encoded.rows;
  }
  char* at = out.data();
  put_int32(at, 1);  // dimensions
  put_int32(at, 0);  // no NULL elements
  put_int32(at, table.row_type);
  put_int32(at, static_cast<std::uint32_t>(encoded.rows));
  put_int32(at, 1);  // lower bound
  return encoded;
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

EncodedRows encode_text(const TargetTable& table, const Columns& columns, std::span<const Row> rows,
                        std::size_t bytes_max) {
  EncodedRows encoded{"{", false, 0};
  auto& out = encoded.bytes;
  Format format(table);
  for (const Row row : rows) {
    if (encoded.rows > 0 && out.size() > bytes_max) {
      break;
    }
    out += encoded.rows == 0 ? "\"(" : ",\"(";
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (i > 0) {
        out.push_back(',');
      }
      if (const auto* value = value_of(columns[i], row); value != nullptr) {
        format.see(*value);
        append_text_field(out, value->bytes);
      }
    }
    out += ")\"";
    ++encoded.rows;
  }
  out += "}";
  return encoded;
}

}  // namespace

EncodedRows encode_rows(const TargetTable& table, std::span<const Row> rows, RowPart part,
                        std::size_t bytes_max) {
  const auto columns = sent_columns(table, part);
  return starts_binary(columns, rows) ? encode_binary(table, columns, rows, bytes_max)
                                      : encode_text(table, columns, rows, bytes_max);
}

}  // namespace replication::apply
