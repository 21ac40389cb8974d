#include "replication/postgres/as_applications.h"

#include <algorithm>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"

namespace replication::postgres {
namespace {

// How text that arrives is read may depend on the others: '$1,000.00', '-1 mons +2 days'.
bool concerns(std::string_view name, Computes what) {
  constexpr std::string_view kRows[] = {"TimeZone", "DateStyle", "default_text_search_config", "lc_numeric",
                                        "lc_time"};
  return what == Computes::queries || std::ranges::find(kRows, name) != std::end(kRows);
}

std::string set_sql(const std::string& name, const std::string& value) {
  return "SET " + name + " = " + quote_literal(value) + ";";
}

}  // namespace

const std::vector<std::string>& application_setting_names() {
  static const std::vector<std::string> names = {
      "TimeZone",           "DateStyle", "IntervalStyle", "default_text_search_config",
      "extra_float_digits", "lc_time",   "lc_monetary",   "lc_numeric",
      "bytea_output"};
  return names;
}

void compute_as_applications(Connection& connection, Computes what) {
  std::string sql;
  for (const auto& [name, value] : connection.application_settings()) {
    sql += concerns(name, what) ? set_sql(name, value) : "";
  }
  if (sql.empty()) {
    return;
  }
  try {
    connection.exec(sql);
    return;
  } catch (const base::Error& error) {
    if (!error.connection_usable() || error.sqlstate().empty()) {
      throw;
    }
  }
  for (const auto& [name, value] : connection.application_settings()) {
    try {
      if (concerns(name, what)) {
        connection.exec(set_sql(name, value));
      }
    } catch (const base::Error& error) {
      if (!error.connection_usable() || error.sqlstate().empty()) {
        throw;
      }
      base::log::debug("not set on the " + connection.server() + ": " + name + ": " + error.message());
    }
  }
}

AsApplications::AsApplications(Connection& connection, Computes what) : connection_(connection), what_(what) {
  compute_as_applications(connection, what);
}

AsApplications::~AsApplications() {
  std::string sql;
  for (const auto& [name, value] : connection_.application_settings()) {
    sql += concerns(name, what_) ? "RESET " + name + ";" : "";
  }
  try {
    if (!sql.empty() && connection_.usable()) {
      connection_.exec(sql);
    }
  } catch (const base::Error& error) {  // text of times in our own messages, no more
    base::log::debug("settings weren't put back: " + error.message());
  }
}

}  // namespace replication::postgres
