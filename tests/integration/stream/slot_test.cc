#include "replication/stream/slot.h"

#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "tests/harness/wait.h"
#include "tests/integration/stream/stream_env.h"

using namespace replication;
using namespace stream_test;

TEST_CASE("a slot's snapshot shows what was committed before it, and nothing later") {
  Database database;
  database.exec(std::string("INSERT INTO ") + kTable + " VALUES ('before', NULL)");
  auto walsender = database.walsender();
  auto observer = database.sql();
  const auto slot = stream::create_slot(walsender, observer, "snap_1", false, soon(), nullptr);
  CHECK(slot.consistent_point.valid());
  database.exec(std::string("INSERT INTO ") + kTable + " VALUES ('after', NULL)");

  auto reader = database.sql();
  reader.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  reader.exec("SET TRANSACTION SNAPSHOT " + postgres::quote_literal(slot.snapshot_name));
  CHECK(reader.one_value(std::string("SELECT string_agg(\"Id\", ',') FROM ") + kTable) == "before");
  reader.exec("COMMIT");

  const auto state = stream::slot_state(observer, "snap_1");
  REQUIRE(state);
  CHECK(state->plugin == "pgoutput");
  CHECK(state->database == database.name());
  CHECK_FALSE(state->active);
  CHECK_FALSE(state->temporary);
  CHECK_FALSE(state->invalidated());
  CHECK(state->confirmed_flush_lsn == slot.consistent_point);
  CHECK(state->restart_lsn.valid());
  CHECK(state->retained_bytes > 0);
  if (observer.server_major() >= 13) {
    CHECK(state->wal_status == "reserved");
  }
  CHECK_THROWS_WITH_AS(stream::create_slot(walsender, observer, "snap_1", false, soon(), nullptr),
                       doctest::Contains("exists already"), base::StateError);
  REQUIRE(stream::slot_state(observer, "snap_1"));
  stream::drop_slot(observer, "snap_1", soon());
  stream::drop_slot(observer, "snap_1", soon());
  CHECK_FALSE(stream::slot_state(observer, "snap_1"));
}

TEST_CASE("whoever holds up a slot's creation is named, and it goes on when they end") {
  Database database;
  auto blocker = database.sql(base::Stop::never(), "the blocker");
  const auto insert = std::string("INSERT INTO ") + kTable + " VALUES ('x', NULL)";
  blocker.exec("BEGIN");
  blocker.exec(insert);
  Database other;
  auto prepared = other.sql();
  prepared.exec("BEGIN");
  prepared.exec(insert);
  prepared.exec("PREPARE TRANSACTION 'it''s held'");

  auto walsender = database.walsender();
  auto observer = database.sql();
  std::vector<std::string> named;
  const auto slot =
      stream::create_slot(walsender, observer, "held_1", false, soon(), [&](const std::string& blockers) {
        named.push_back(blockers);
        if (blocker.in_transaction()) {
          blocker.exec("COMMIT");
        } else {
          prepared.exec("ROLLBACK PREPARED 'it''s held'");
        }
      });
  CHECK(slot.consistent_point.valid());
  REQUIRE(named.size() >= 2);
  CHECK(named[0].find("pid " + std::to_string(blocker.backend_pid()) + " app=the blocker") !=
        std::string::npos);
  CHECK(named[0].find("idle in transaction for") != std::string::npos);
  CHECK(named[1].find("prepared transaction 'it''s held' db=" + other.name()) != std::string::npos);
  stream::drop_slot(observer, "held_1", soon());
}

TEST_CASE("at the deadline a slot's creation ends, names the blocker and leaves no slot behind") {
  Database database;
  auto blocker = database.sql();
  blocker.exec("BEGIN");
  blocker.exec(std::string("INSERT INTO ") + kTable + " VALUES ('x', NULL)");
  auto walsender = database.walsender();
  auto observer = database.sql();
  const auto pid = "pid " + std::to_string(blocker.backend_pid());
  CHECK_THROWS_WITH_AS(
      stream::create_slot(walsender, observer, "late_1", false, Deadline::in(milliseconds{800}), nullptr),
      doctest::Contains(pid.c_str()), base::TimeoutError);
  CHECK_FALSE(stream::slot_state(observer, "late_1"));
  auto second = database.sql();
  CHECK_THROWS_AS(stream::ensure_slot(second, observer, "late_1", Deadline::in(milliseconds{800}), nullptr),
                  base::TimeoutError);
  CHECK_FALSE(stream::slot_state(observer, "late_1"));
}

TEST_CASE("a stop ends the wait for a slot, without leaving one") {
  Database database;
  auto blocker = database.sql();
  blocker.exec("BEGIN");
  blocker.exec(std::string("INSERT INTO ") + kTable + " VALUES ('x', NULL)");
  base::Stop stop;
  auto walsender = database.walsender(stop);
  auto observer = database.sql(stop);
  CHECK_THROWS_AS(stream::create_slot(walsender, observer, "stop_1", false, soon(),
                                      [&](const std::string&) { stop.request(); }),
                  base::Stopped);
  auto after = database.sql();
  CHECK_FALSE(stream::slot_state(after, "stop_1"));
}

TEST_CASE("a slot over SQL is made once, and another one under its name is refused") {
  Database database;
  auto connection = database.sql();
  auto observer = database.sql();
  stream::ensure_slot(connection, observer, "ahead_1", soon(), nullptr);
  const auto first = stream::slot_state(observer, "ahead_1");
  REQUIRE(first);
  stream::ensure_slot(connection, observer, "ahead_1", soon(), nullptr);
  CHECK(stream::slot_state(observer, "ahead_1")->confirmed_flush_lsn == first->confirmed_flush_lsn);

  Database other;
  auto elsewhere = other.sql();
  CHECK_THROWS_WITH_AS(stream::ensure_slot(elsewhere, observer, "ahead_1", soon(), nullptr),
                       doctest::Contains(database.name().c_str()), base::StateError);
  connection.exec("SELECT pg_create_physical_replication_slot('physical_1')");
  CHECK_THROWS_WITH_AS(stream::ensure_slot(connection, observer, "physical_1", soon(), nullptr),
                       doctest::Contains("plugin none"), base::StateError);
  stream::drop_slot(observer, "physical_1", soon());

  SUBCASE("it is advanced, never back") {
    database.exec(std::string("INSERT INTO ") + kTable + " VALUES ('x', NULL)");
    const auto lsn = Lsn::parse(observer.one_value("SELECT pg_current_wal_flush_lsn()"));
    stream::advance_slot(connection, "ahead_1", lsn);
    CHECK(stream::slot_state(observer, "ahead_1")->confirmed_flush_lsn == lsn);
    stream::advance_slot(connection, "ahead_1", lsn);
    stream::advance_slot(connection, "ahead_1", first->confirmed_flush_lsn);
    CHECK(stream::slot_state(observer, "ahead_1")->confirmed_flush_lsn == lsn);
  }
  stream::drop_slot(observer, "ahead_1", soon());
}

TEST_CASE("a slot in use is dropped by ending its walsender first") {
  Database database;
  const auto start = publish_with_slot(database, "used_1");
  stream::ChunkQueue queue(100, 1 << 20);
  auto options = receiver_options(database, "used_1");
  stream::Receiver receiver(options, queue, [&] { return start; });
  receiver.start();
  auto observer = database.sql();
  harness::wait_until(soon(), "the slot is active",
                      [&] { return stream::slot_state(observer, "used_1")->active; });
  stream::advance_slot(observer, "used_1", Lsn{start.value + 1'000'000});  // in use: left to its walsender
  stream::drop_slot(observer, "used_1", soon());
  CHECK_FALSE(stream::slot_state(observer, "used_1"));
  harness::wait_until(soon(), "the receiver gave up", [&] { return receiver.failure() != nullptr; });
  CHECK(failure_text(receiver).find("slot \"used_1\" doesn't exist") != std::string::npos);
  CHECK(failure_text(receiver).find("copy is needed again") != std::string::npos);
}
