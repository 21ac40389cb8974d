#include "replication/apply/marker_row.h"

#include <charconv>

#include "replication/base/byte_reader.h"
#include "replication/base/error.h"

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;
using pgoutput::ColumnValue;

const ColumnValue& column(const pgoutput::CachedRelation& relation, Row row, std::string_view name) {
  for (std::size_t i = 0; i < relation.columns.size() && i < row.size(); ++i) {
    if (relation.columns[i].name == name) {
      return row[i];
    }
  }
  throw base::Error("pgcutover." + relation.name + " in the stream has no column " + std::string(name),
                    "DROP TABLE pgcutover." + relation.name + " there; it is made again at the next start");
}

// int4 or int8, text or binary.
std::int64_t integer(const ColumnValue& value, std::string_view name) {
  if (value.kind == ColumnKind::binary) {
    base::ByteReader reader({value.bytes.data(), value.bytes.size()});
    return value.bytes.size() == 8 ? reader.i64() : reader.i32();
  }
  std::int64_t number = 0;
  const auto [end, code] =
      std::from_chars(value.bytes.data(), value.bytes.data() + value.bytes.size(), number);
  if (value.bytes.empty() || code != std::errc() || end != value.bytes.data() + value.bytes.size()) {
    throw base::Error("column " + std::string(name) + " of the marker table is no number: \"" +
                      std::string(value.bytes) + "\"");
  }
  return number;
}

}  // namespace

MarkerRow read_marker_row(const pgoutput::CachedRelation& relation, Row row) {
  MarkerRow out;
  const auto id = integer(column(relation, row, "id"), "id");
  if (id == 1) {
    out.token = std::string(column(relation, row, "token").bytes);
  } else if (id == 2) {
    out.heartbeat_us = integer(column(relation, row, "written_us"), "written_us");
  }
  return out;
}

base::Lsn read_progress_row(const pgoutput::CachedRelation& relation, Row row) {
  const auto& value = column(relation, row, "applied_lsn");
  if (value.kind == ColumnKind::binary) {
    base::ByteReader reader({value.bytes.data(), value.bytes.size()});
    return base::Lsn{reader.u64()};
  }
  return base::Lsn::parse(std::string(value.bytes));
}

}  // namespace replication::apply
