#include "tests/integration/known_bugs/world.h"

#include <cstdlib>
#include <doctest/doctest.h>

#include "replication/postgres/connection.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"

namespace known_bugs {
namespace {

using harness::has;
using harness::Tool;
using replication::base::Deadline;
using replication::base::milliseconds;
using replication::postgres::Connection;

constexpr const char* kQuoted = "\"bu'gs \\ \"\"x\"\"\"";

// What a database may bring along; none of it may change a value on its way.
constexpr const char* kHostile[] = {"DateStyle = 'German'",
                                    "IntervalStyle = 'sql_standard'",
                                    "extra_float_digits = -15",
                                    "bytea_output = 'escape'",
                                    "xmloption = 'document'",
                                    "TimeZone = 'Asia/Kathmandu'",
                                    "standard_conforming_strings = off",
                                    "array_nulls = off",
                                    "quote_all_identifiers = on",
                                    "default_transaction_isolation = 'serializable'",
                                    "default_transaction_deferrable = on",
                                    "lock_timeout = '50ms'",
                                    "row_security = off",
                                    "search_path = ''"};

Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

std::string schema_of(std::size_t number) {
  return "c" + std::to_string(number);
}

std::string of_round(std::string text, int round) {
  for (auto at = text.find("$n"); at != std::string::npos; at = text.find("$n", at)) {
    text.replace(at, 2, std::to_string(round * 100));
  }
  return text;
}

}  // namespace

Connection World::session(const harness::Cluster& side, const std::string& schema) {
  auto connection = side.connect(kDatabase);
  connection.exec(
      "SET standard_conforming_strings = on; SET array_nulls = on; SET extra_float_digits = 3; SET "
      "xmloption = content; SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; SET "
      "bytea_output = hex; SET lock_timeout = 0; SET default_transaction_isolation = 'read committed'; SET "
      "default_transaction_deferrable = off; SET transform_null_equals = off; SET search_path = " +
      schema + ", public");
  return connection;
}

World::World(const std::vector<Case>& cases) {
  const char* wanted = std::getenv("PGCUTOVER_TEST_CASE");
  for (const auto& one : cases) {
    if (one.since <= source.major() && source.major() <= one.until &&
        (wanted == nullptr || has(one.name, wanted))) {
      cases_.push_back(one);
    }
  }
  for (auto* side : {&source, &target}) {
    side->sql("postgres", std::string("CREATE DATABASE ") + kQuoted + " TEMPLATE template0");
  }
  for (const auto* setting : kHostile) {
    source.sql("postgres", std::string("ALTER DATABASE ") + kQuoted + " SET " + setting);
  }
  {
    auto connection = session(source, "public");
    connection.exec(
        "CREATE TABLE gate (id int PRIMARY KEY); CREATE TABLE sync (token int PRIMARY KEY);"
        "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION btree_gist");
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      INFO(cases_[i].name);
      connection.exec("CREATE SCHEMA " + schema_of(i) + "; SET search_path = " + schema_of(i) + ", public");
      connection.exec(of_round(cases_[i].setup, 0));
    }
  }
  const auto conninfo = [](const harness::Cluster& side) { return side.conninfo(kDatabase); };
  const auto yaml = [](const std::string& text) {  // single-quoted
    std::string out = "'";
    for (const char c : text) {
      out += c == '\'' ? "''" : std::string(1, c);
    }
    return out + "'";
  };
  harness::write_file(
      directory_.path() / "plan.yaml",
      "name: bugs\nsource: " + yaml(conninfo(source)) + "\ntarget: " + yaml(conninfo(target)) +
          "\ntables: {keyless: full}\ngates: {lock-limit: 3s, max-pause: 60s, max-lag: 60s}\n");
  start_run();
  wait_state("ready");
}

World::~World() {
  if (run_ != nullptr && run_->running()) {
    run_->terminate();
    run_->wait(seconds(180));
  }
}

std::vector<std::string> World::arguments(const std::string& verb,
                                          const std::vector<std::string>& more) const {
  std::vector<std::string> list{verb, "--plan", directory_.file("plan.yaml")};
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

harness::ToolResult World::tool(const std::string& verb, const std::vector<std::string>& more) {
  return Tool::run(arguments(verb, more), seconds(180));
}

void World::start_run() {
  run_ = std::make_unique<Tool>(arguments("run", {}));
}

void World::wait_state(const std::string& state) {
  harness::wait_until(seconds(180), "the state " + state, [&] {
    REQUIRE_MESSAGE(run_->running(), run_->errors());
    return has(tool("status", {"--json"}).output, "\"" + state + "\"");
  });
}

void World::change(std::size_t number, int round) {
  INFO(cases_[number].name << ", round " << round);
  auto connection = session(writer(), schema_of(number));
  for (const auto& text : cases_[number].transactions) {
    INFO(text);
    const auto sql = of_round(text, round);
    if (!sql.starts_with("--")) {
      connection.exec(sql);
      continue;
    }
    for (auto at = sql.find('\n') + 1; at < sql.size();) {
      const auto end = std::min(sql.find('\n', at), sql.size());
      if (const auto line = sql.substr(at, end - at); line.find_first_not_of(' ') != std::string::npos) {
        connection.exec(line);
      }
      at = end + 1;
    }
  }
}

void World::sync() {
  const auto token = std::to_string(++tokens_);
  session(writer()).exec("INSERT INTO sync VALUES (" + token + ")");
  auto there = session(reader());
  try {
    harness::wait_until(seconds(180), "everything is on the other side", [&] {
      REQUIRE_MESSAGE(run_->running(), run_->errors());
      return there.one_value("SELECT count(*) FROM sync WHERE token = " + token) == "1";
    });
  } catch (const std::exception&) {
    FAIL("not applied: " << tool("status").output << run_->errors());
  }
}

std::string World::compare(std::size_t number) {
  const auto schema = schema_of(number);
  auto here = session(writer(), schema);
  auto there = session(reader(), schema);
  const auto tables = here.exec(
      "SELECT format('%I.%I', n.nspname, c.relname), (SELECT string_agg(format('a_.%I', attname), ', ' "
      "ORDER BY "
      "attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) "
      "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '" +
      schema + "' AND c.relkind = 'r' AND c.relpersistence = 'p' ORDER BY 1");
  REQUIRE(tables.rows() > 0);
  std::string all;
  for (int row = 0; row < tables.rows(); ++row) {
    const auto rows =
        "SELECT count(*) || coalesce(E'\\n' || string_agg(left(r_, 200) || md5(r_), E'\\n' ORDER "
        "BY r_ COLLATE \"C\"), '') FROM (SELECT ROW(" +
        tables.text_or(row, 1, "") + ")::text AS r_ FROM ONLY " + tables.text(row, 0) + " a_) s_";
    const auto wanted = here.one_value(rows);
    CHECK_MESSAGE(wanted == there.one_value(rows), cases_[number].name << ", " << tables.text(row, 0));
    all += tables.text(row, 0) + ":" + wanted + "\n";
  }
  return all;
}

Connection World::hold() {
  auto connection = session(reader());
  connection.exec("BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE");
  session(writer()).exec("TRUNCATE gate");
  return connection;
}

}  // namespace known_bugs
