// A source, a target, an applier between them. The stream is read with pg_logical_slot_get_binary_changes(),
// which gives the same messages as a walsender, so that each test says exactly which chunks apply gets.
#pragma once

#include <doctest/doctest.h>
#include <memory>
#include <string>
#include <vector>

#include "replication/apply/applier.h"
#include "replication/apply/progress.h"
#include "replication/base/error.h"
#include "replication/postgres/connection.h"
#include "tests/harness/cluster.h"

namespace apply_stage {

namespace apply = replication::apply;
namespace base = replication::base;
namespace stream = replication::stream;

inline base::Deadline soon(int milliseconds = 180'000) {
  return base::Deadline::in(base::milliseconds{milliseconds});
}

// The servers are started once for all tests of the executable; each test has databases of its own.
inline harness::Cluster& source_server() {
  static harness::Cluster cluster({.name = "source", .conf = {"max_prepared_transactions = 5"}});
  return cluster;
}
inline harness::Cluster& target_server() {
  static harness::Cluster cluster({.name = "target"});
  return cluster;
}

// Of text as encode(..., 'hex') gives it.
inline std::vector<char> bytes(std::string_view hex) {
  std::vector<char> out;
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return out;
}

class Stage {
 public:
  explicit Stage(const std::string& name, bool binary = false) : name_(name), binary_(binary) {
    for (auto* server : {&source_server(), &target_server()}) {
      server->sql("postgres", "DROP DATABASE IF EXISTS " + name_);
      server->sql("postgres", "CREATE DATABASE " + name_);
    }
    source("CREATE SCHEMA pgcutover");
    source("CREATE TABLE pgcutover.marker (id int PRIMARY KEY, token text, written_us bigint)");
    source("INSERT INTO pgcutover.marker VALUES (1, '', 0), (2, '', 0)");
    target(apply::progress_schema_sql());
  }
  ~Stage() {
    applier.reset();
    try {
      source("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '" +
             name_ + "'");
    } catch (const base::Error&) {
      // it was never made
    }
  }

  void source(const std::string& sql) { source_server().sql(name_, sql); }
  // In one session.
  void source_statements(const std::vector<std::string>& statements) {
    auto connection = source_server().connect(name_);
    for (const auto& sql : statements) {
      connection.exec(sql);
    }
  }
  void target(const std::string& sql) { target_server().sql(name_, sql); }
  void both(const std::string& sql) {
    source(sql);
    target(sql);
  }
  std::string source_value(const std::string& sql) {
    return source_server().value(name_, sql).value_or("(null)");
  }
  std::string target_value(const std::string& sql) {
    return target_server().value(name_, sql).value_or("(null)");
  }
  std::string conninfo() { return target_server().conninfo(name_); }

  // Publication, slot, progress row. After the tables exist.
  void publish() {
    source("CREATE PUBLICATION p FOR ALL TABLES");
    source("SELECT pg_create_logical_replication_slot('" + name_ + "', 'pgoutput')");
    const auto start = base::Lsn::parse(source_value(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '" + name_ + "'"));
    auto connection = target_server().connect(name_);
    apply::init_progress(connection, "forward", start, 1, true);
  }

  apply::ApplierOptions options() {
    apply::ApplierOptions options;
    options.server = replication::postgres::ConnInfo::parse(conninfo(), "target");
    options.token = replication::postgres::FencingToken(1);
    options.retry_budget = base::milliseconds{120'000};
    return options;
  }
  void start() { start(options()); }
  void start(apply::ApplierOptions options) {
    applier = std::make_unique<apply::Applier>(std::move(options), queue);
    applier->start();
  }

  // Hands everything committed on the source since the last call to apply. Returns the number of messages.
  std::size_t pump(bool consume = true) {
    auto connection = source_server().connect(name_);
    const auto changes = connection.exec(
        std::string("SELECT encode(data, 'hex') FROM ") +
        (consume ? "pg_logical_slot_get_binary_changes" : "pg_logical_slot_peek_binary_changes") + "('" +
        name_ + "', NULL, NULL, 'proto_version', '1', 'publication_names', 'p'" +
        (binary_ ? ", 'binary', 'true'" : "") + ")");
    auto chunk = std::make_shared<stream::Chunk>();
    for (int row = 0; row < changes.rows(); ++row) {
      chunk->append(bytes(changes.view(row, 0)));
    }
    chunk->drained = true;
    REQUIRE(queue.push(std::move(chunk), 1, soon()));
    return static_cast<std::size_t>(changes.rows());
  }
  // Hands over the first messages only, and leaves all of them in the slot.
  void pump_part(int messages) {
    auto connection = source_server().connect(name_);
    const auto changes = connection.exec(
        "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('" + name_ +
        "', NULL, NULL, 'proto_version', '1', 'publication_names', 'p') LIMIT " + std::to_string(messages));
    REQUIRE(changes.rows() == messages);
    auto chunk = std::make_shared<stream::Chunk>();
    for (int row = 0; row < changes.rows(); ++row) {
      chunk->append(bytes(changes.view(row, 0)));
    }
    REQUIRE(queue.push(std::move(chunk), 1, soon()));
  }
  // Writes a marker, hands everything over, waits until it was applied.
  apply::WaitResult sync() {
    const std::string token = "m" + std::to_string(++markers_);
    source("UPDATE pgcutover.marker SET token = '" + token + "', written_us = 0 WHERE id = 1");
    pump();
    return applier->wait_marker(token, soon());
  }
  // The failure's text; waits for it.
  std::string failure() {
    CHECK(applier->wait_marker("never", soon()) == apply::WaitResult::failed);
    try {
      std::rethrow_exception(applier->failure());
    } catch (const base::Error& error) {
      return error.describe();
    }
  }
  // Both sides have the same rows, and some.
  void check_same(const std::string& table) {
    const std::string sql =
        "SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, E'\\n' ORDER BY r::text "
        "COLLATE \"C\")), '') FROM " +
        table + " r";
    const auto expected = source_value(sql);
    CHECK_MESSAGE(!expected.starts_with("0 "), table << " is empty");
    CHECK_MESSAGE(target_value(sql) == expected, table);
  }

  stream::ChunkQueue queue{10'000, std::size_t{1} << 30};
  std::unique_ptr<apply::Applier> applier;

 private:
  const std::string name_;
  const bool binary_;
  int markers_ = 0;
};

}  // namespace apply_stage
