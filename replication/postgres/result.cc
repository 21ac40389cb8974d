#include "replication/postgres/result.h"

#include <charconv>
#include <cstdlib>
#include <libpq-fe.h>

#include "replication/base/check.h"

namespace replication::postgres {

void Result::Clear::operator()(pg_result* result) const {
  PQclear(result);
}

Result::Result(pg_result* owned) : result_(owned) {}

int Result::rows() const {
  return result_ ? PQntuples(result_.get()) : 0;
}
int Result::columns() const {
  return result_ ? PQnfields(result_.get()) : 0;
}
bool Result::is_null(int row, int column) const {
  PGCUTOVER_CHECK(row < rows() && column < columns(), "no such place in a result");
  return PQgetisnull(result_.get(), row, column) != 0;
}
std::string_view Result::view(int row, int column) const {
  PGCUTOVER_CHECK(!is_null(row, column), "NULL in column " + std::string(PQfname(result_.get(), column)));
  return {PQgetvalue(result_.get(), row, column),
          static_cast<std::size_t>(PQgetlength(result_.get(), row, column))};
}
std::optional<std::string> Result::optional_text(int row, int column) const {
  return is_null(row, column) ? std::nullopt : std::optional(text(row, column));
}
std::string Result::text_or(int row, int column, std::string_view fallback) const {
  return is_null(row, column) ? std::string(fallback) : text(row, column);
}

std::int64_t Result::integer(int row, int column) const {
  const auto digits = view(row, column);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  PGCUTOVER_CHECK(error == std::errc{} && end == digits.data() + digits.size(),
                  "not an integer: " + std::string(digits));
  return value;
}
double Result::number(int row, int column) const {
  return std::strtod(text(row, column).c_str(), nullptr);
}
bool Result::boolean(int row, int column) const {
  const auto value = view(row, column);
  PGCUTOVER_CHECK(value == "t" || value == "f", "not a boolean: " + std::string(value));
  return value == "t";
}
base::Lsn Result::lsn(int row, int column) const {
  return base::Lsn::parse(view(row, column));
}
base::Oid Result::oid(int row, int column) const {
  return static_cast<base::Oid>(integer(row, column));
}

std::int64_t Result::affected_rows() const {
  const std::string_view digits = result_ ? PQcmdTuples(result_.get()) : "";
  std::int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

std::string_view Result::command_tag() const {
  return result_ ? PQcmdStatus(result_.get()) : "";
}

}  // namespace replication::postgres
