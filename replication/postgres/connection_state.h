// What a Connection holds; shared by the files of this room only.
#pragma once

#include <libpq-fe.h>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "replication/postgres/connection.h"

namespace replication::postgres {

inline constexpr std::size_t kNoticesMax = 100;

struct Connection::State {
  PGconn* conn = nullptr;
  const base::Stop* stop = nullptr;
  std::string server;
  base::milliseconds statement_timeout{60'000};
  SessionKind kind = SessionKind::sql;
  bool broken = false;
  bool pipeline = false;
  std::vector<std::pair<std::string, std::string>> notices;
  std::map<std::string, std::string> application_settings;

  State() = default;
  ~State() { PQfinish(conn); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

// One line of what the server or libpq said, without the trailing newline.
std::string one_line(const char* text);
// The first words of a statement, for `where` of errors.
std::string statement_words(std::string_view sql);

}  // namespace replication::postgres
