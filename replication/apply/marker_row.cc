#include "replication/apply/marker_row.h"

#include <charconv>
#include <chrono>

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
  throw base::Error("the marker table in the stream has no column " + std::string(name),
                    "DROP TABLE pgcutover.marker there; it is made again at the next start");
}

int number(std::string_view digits, std::string_view whole) {
  int value = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || code != std::errc() || end != digits.data() + digits.size() || value < 0) {
    throw base::Error("\"" + std::string(whole) + "\" is not a timestamp in UTC");
  }
  return value;
}

std::int64_t row_id(const ColumnValue& value) {
  if (value.kind == ColumnKind::binary) {
    base::ByteReader reader({value.bytes.data(), value.bytes.size()});
    return value.bytes.size() == 8 ? reader.i64() : reader.i32();
  }
  return number(value.bytes, value.bytes);
}

}  // namespace

std::int64_t parse_timestamp(std::string_view text) {
  using namespace std::chrono;
  const bool shaped = text.size() >= 22 && text[4] == '-' && text[7] == '-' && text[10] == ' ' &&
                      text[13] == ':' && text[16] == ':' && text.ends_with("+00");
  if (!shaped) {
    throw base::Error("\"" + std::string(text) + "\" is not a timestamp in UTC");
  }
  const year_month_day day{year(number(text.substr(0, 4), text)),
                           month(static_cast<unsigned>(number(text.substr(5, 2), text))),
                           std::chrono::day(static_cast<unsigned>(number(text.substr(8, 2), text)))};
  std::int64_t micros = 0;
  if (auto fraction = text.substr(19, text.size() - 22); !fraction.empty()) {
    std::string digits(fraction.substr(1));
    digits.resize(6, '0');
    micros = number(digits, text);
  }
  const auto since = sys_days(day) - sys_days(year_month_day{year(2000), month(1), std::chrono::day(1)});
  return duration_cast<microseconds>(since + hours(number(text.substr(11, 2), text)) +
                                     minutes(number(text.substr(14, 2), text)) +
                                     seconds(number(text.substr(17, 2), text)))
             .count() +
         micros;
}

MarkerRow read_marker_row(const pgoutput::CachedRelation& relation, Row row) {
  MarkerRow out;
  const auto id = row_id(column(relation, row, "id"));
  if (id == 1) {
    const auto& token = column(relation, row, "token");
    out.token = std::string(token.bytes);
  } else if (id == 2) {
    const auto& at = column(relation, row, "at");
    if (at.kind == ColumnKind::binary) {
      out.heartbeat_us = base::ByteReader({at.bytes.data(), at.bytes.size()}).i64();
    } else if (at.kind == ColumnKind::text) {
      out.heartbeat_us = parse_timestamp(at.bytes);
    }
  }
  return out;
}

}  // namespace replication::apply
