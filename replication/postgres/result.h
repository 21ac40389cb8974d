// The rows a statement returned. Cheap to move; views live as long as the Result.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "replication/base/lsn.h"

struct pg_result;  // libpq's PGresult, opaque here

namespace replication::postgres {

class Result {
 public:
  Result() = default;
  explicit Result(pg_result* owned);

  int rows() const;
  int columns() const;
  bool is_null(int row, int column) const;
  // Throws Bug where the place doesn't exist or holds NULL: ask is_null or use optional_text.
  std::string_view view(int row, int column) const;
  std::string text(int row, int column) const { return std::string(view(row, column)); }
  std::optional<std::string> optional_text(int row, int column) const;
  std::string text_or(int row, int column, std::string_view fallback) const;
  std::int64_t integer(int row, int column) const;
  double number(int row, int column) const;
  bool boolean(int row, int column) const;
  base::Lsn lsn(int row, int column) const;
  base::Oid oid(int row, int column) const;

  // Rows that INSERT, UPDATE, DELETE, COPY... touched; 0 for others.
  std::int64_t affected_rows() const;
  // "COMMIT", "ROLLBACK", "UPDATE 3"...
  std::string_view command_tag() const;

 private:
  struct Clear {
    void operator()(pg_result* result) const;
  };
  std::unique_ptr<pg_result, Clear> result_;
};

}  // namespace replication::postgres
