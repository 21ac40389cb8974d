#include "replication/stream/receiver.h"

#include <atomic>
#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"
#include "replication/stream/marker.h"
#include "replication/stream/publication.h"
#include "replication/stream/slot.h"
#include "tests/harness/wait.h"
#include "tests/integration/stream/stream_env.h"

using namespace replication;
using namespace stream_test;

namespace {

constexpr std::size_t kQueueBytes = std::size_t{8} << 20;

// A receiver on a slot of its own, a consumer in apply's place.
struct Streaming {
  explicit Streaming(const std::string& slot_name, std::size_t queue_items = 1000)
      : slot(slot_name),
        start(publish_with_slot(database, slot)),
        queue(queue_items, kQueueBytes),
        consumer(queue) {
    applied = start.value;
  }
  ~Streaming() {
    receiver.reset();
    auto connection = database.sql();
    stream::drop_slot(connection, slot, soon());
  }
  void run(const stream::ReceiverOptions& options) {
    receiver = std::make_unique<stream::Receiver>(options, queue, [this] { return Lsn{applied.load()}; });
    receiver->start();
  }
  void run() { run(receiver_options(database, slot)); }
  void insert(const std::string& id) {
    database.exec(std::string("INSERT INTO ") + kTable + " VALUES (" + postgres::quote_literal(id) +
                  ", NULL)");
  }
  void marker(const std::string& token) {
    auto connection = database.sql();
    stream::write_marker(connection, token);
  }
  stream::SlotState slot_state() {
    auto connection = database.sql();
    return stream::slot_state(connection, slot).value();
  }
  std::string wait_failure() {
    harness::wait_until(soon(), "the receiver ended", [&] { return receiver->failure() != nullptr; });
    CHECK_FALSE(receiver->connected());
    return failure_text(*receiver);
  }
  // What a stream that started at `at` says as it ends.
  std::string failure_at(Lsn at) {
    applied = at.value;
    run();
    return wait_failure();
  }

  Database database;
  std::string slot;
  Lsn start;
  stream::ChunkQueue queue;
  Consumer consumer;
  std::atomic<std::uint64_t> applied{0};
  std::unique_ptr<stream::Receiver> receiver;
};

}  // namespace

TEST_CASE("changes arrive in commit order, and nothing is confirmed before it is called durable") {
  Streaming s("order_1");
  s.run();
  for (int i = 0; i < 20; ++i) {
    s.insert("row " + std::to_string(i));
  }
  s.marker("m1");
  REQUIRE(s.consumer.take_until_marker("m1"));
  REQUIRE(s.consumer.inserted.size() == 20);
  CHECK(s.consumer.inserted.front() == "row 0");
  CHECK(s.consumer.inserted.back() == "row 19");
  CHECK(s.consumer.resets == 1);
  CHECK(s.receiver->connected());
  CHECK(s.receiver->bytes_received() > 0);
  CHECK(s.receiver->received_lsn() >= s.consumer.applied);
  // Several status intervals later the slot is still where it was.
  auto connection = s.database.sql();
  const auto reply = [&] {
    return connection.one_value(
        "SELECT COALESCE(max(reply_time)::text, '') FROM pg_stat_replication WHERE pid = "
        "(SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'order_1')");
  };
  const auto first = reply();
  harness::wait_until(soon(), "another status update arrived", [&] { return reply() != first; });
  CHECK(s.slot_state().confirmed_flush_lsn == s.start);
  CHECK(s.receiver->confirmed_lsn() < s.consumer.applied);

  s.receiver->set_durable_lsn(s.consumer.applied);
  s.receiver->set_durable_lsn(s.start);  // never back
  harness::wait_until(soon(), "the slot moved",
                      [&] { return s.slot_state().confirmed_flush_lsn == s.consumer.applied; });
  CHECK(s.receiver->confirmed_lsn() == s.consumer.applied);
}

TEST_CASE("stop confirms what is durable and frees the slot at once, and a successor goes on from there") {
  Streaming s("stop_2");
  auto options = receiver_options(s.database, s.slot);
  options.status_interval = milliseconds{60'000};
  s.run(options);
  s.insert("one");
  s.marker("m1");
  REQUIRE(s.consumer.take_until_marker("m1"));
  s.receiver->set_durable_lsn(s.consumer.applied);
  s.receiver->stop();
  s.receiver->stop();
  CHECK(s.receiver->failure() == nullptr);
  CHECK_FALSE(s.slot_state().active);
  CHECK(s.slot_state().confirmed_flush_lsn == s.consumer.applied);

  s.applied = s.consumer.applied.value;
  s.insert("two");
  s.run();
  s.marker("m2");
  REQUIRE(s.consumer.take_until_marker("m2"));
  CHECK(s.consumer.inserted == std::vector<std::string>{"one", "two"});
  CHECK(s.consumer.duplicates == 0);
  CHECK(s.consumer.resets == 2);
}

TEST_CASE("a lost walsender is replaced, and every row arrives exactly once") {
  Streaming s("lost_1");
  s.run();
  auto connection = s.database.sql();
  for (int round = 0; round < 5; ++round) {
    s.insert("row " + std::to_string(round));
    s.marker("before " + std::to_string(round));
    REQUIRE(s.consumer.take_until_marker("before " + std::to_string(round)));
    if (round % 2 == 0) {
      s.applied = s.consumer.applied.value;  // else: sent again, and dropped
    }
    // A transaction that is under way in the stream when the session dies.
    s.database.exec(std::string("INSERT INTO ") + kTable + " SELECT 'bulk " + std::to_string(round) +
                    " ' || i, repeat('x', 500) FROM generate_series(1, 20000) i");
    connection.exec(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'lost_1'");
    const auto resets = s.consumer.resets;
    s.marker("after " + std::to_string(round));
    REQUIRE(
        s.consumer.take_until_marker("after " + std::to_string(round), Deadline::in(milliseconds{180'000})));
    CHECK(s.consumer.resets > resets);
  }
  CHECK(s.consumer.inserted.size() == 5 * 20'001);
  const std::set<std::string> distinct(s.consumer.inserted.begin(), s.consumer.inserted.end());
  CHECK(distinct.size() == s.consumer.inserted.size());
  CHECK(s.consumer.duplicates > 0);
  CHECK(s.receiver->failure() == nullptr);
}

TEST_CASE("a full queue doesn't cost the connection, however short the server's patience") {
  Streaming s("full_1", 2);
  auto options = receiver_options(s.database, s.slot);
  options.silence_limit = milliseconds{4'000};  // becomes our session's wal_sender_timeout
  s.run(options);
  s.database.exec(std::string("INSERT INTO ") + kTable +
                  " SELECT 'bulk ' || i, repeat('x', 500) FROM generate_series(1, 60000) i");
  s.marker("m1");
  harness::wait_until(soon(), "the queue is full", [&] { return s.queue.size() == 2; });
  const auto pid = s.slot_state().active_pid;
  CHECK(pid != 0);
  // Nobody takes anything for twice as long as the server waits for us.
  const auto until = Deadline::in(milliseconds{8'000});
  const auto received = s.receiver->bytes_received();
  harness::wait_until(soon(), "the time has passed", [&] { return until.expired(); });
  CHECK(s.receiver->bytes_received() < received + kQueueBytes);
  CHECK(s.slot_state().active_pid == pid);
  REQUIRE(s.consumer.take_until_marker("m1"));
  CHECK(s.consumer.inserted.size() == 60'000);
  CHECK(s.consumer.resets == 1);
  CHECK(s.slot_state().active_pid == pid);
}

TEST_CASE("an idle database on a busy server lets its slot move on") {
  Streaming s("idle_1");
  s.run();
  s.marker("m1");
  REQUIRE(s.consumer.take_until_marker("m1"));
  Database busy;
  for (int i = 0; i < 10; ++i) {
    busy.exec(std::string("INSERT INTO ") + kTable + " VALUES ('" + std::to_string(i) + "', NULL)");
  }
  const auto target = Lsn::parse(server().value(busy.name(), "SELECT pg_current_wal_lsn()").value());
  REQUIRE(target > s.consumer.applied);
  REQUIRE(s.consumer.take_until_idle(target));
  CHECK(s.slot_state().confirmed_flush_lsn < target);
  s.receiver->set_durable_lsn(s.consumer.idle);
  harness::wait_until(soon(), "the slot moved", [&] { return s.slot_state().confirmed_flush_lsn >= target; });

  // A reconnect from a progress row that lags behind what this receiver itself has confirmed is no gap.
  auto connection = s.database.sql();
  connection.exec(
      "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'idle_1'");
  s.insert("later");
  s.marker("m2");
  REQUIRE(s.consumer.take_until_marker("m2"));
  CHECK(s.consumer.inserted == std::vector<std::string>{"later"});
  CHECK(s.receiver->failure() == nullptr);
}

TEST_CASE("a row larger than a chunk and larger than the queue passes") {
  Streaming s("large_1");
  s.run();
  s.database.exec(std::string("ALTER TABLE ") + kTable + " ALTER note SET STORAGE EXTERNAL");
  s.database.exec(std::string("INSERT INTO ") + kTable + " SELECT 'large', repeat('x', 20000000)");
  s.marker("m1");
  REQUIRE(s.consumer.take_until_marker("m1"));
  CHECK(s.consumer.inserted == std::vector<std::string>{"large"});
  CHECK(s.receiver->bytes_received() > 20'000'000);
}

TEST_CASE("a stream that would have a gap is refused, with the reason and what to do") {
  Streaming s("gap_1");
  SUBCASE("the slot doesn't exist") {
    auto connection = s.database.sql();
    stream::drop_slot(connection, s.slot, soon());
    const auto text = s.failure_at(s.start);
    CHECK(text.find("slot \"gap_1\" doesn't exist") != std::string::npos);
    CHECK(text.find("copy is needed again") != std::string::npos);
  }
  SUBCASE("the slot is ahead of what was applied") {
    s.insert("passed over");
    auto connection = s.database.sql();
    stream::advance_slot(connection, s.slot,
                         Lsn::parse(connection.one_value("SELECT pg_current_wal_flush_lsn()")));
    const auto text = s.failure_at(s.start);
    CHECK(text.find("ahead of what was applied, " + s.start.to_string()) != std::string::npos);
    CHECK(text.find("copy is needed again") != std::string::npos);
  }
  SUBCASE("the server's WAL ends before what was applied") {
    const auto text = s.failure_at(Lsn{s.start.value + (std::uint64_t{1} << 40)});
    CHECK(text.find("it was set back to an earlier state") != std::string::npos);
    CHECK(text.find("copy is needed again") != std::string::npos);
  }
  SUBCASE("another plugin") {
    auto connection = s.database.sql();
    stream::drop_slot(connection, s.slot, soon());
    connection.exec("SELECT pg_create_logical_replication_slot('gap_1', 'test_decoding')");
    CHECK(s.failure_at(s.start).find("has plugin test_decoding instead of pgoutput") != std::string::npos);
  }
  SUBCASE("another database") {
    const Database other;
    auto options = receiver_options(other, s.slot);
    s.run(options);
    CHECK(s.wait_failure().find("belongs to database \"" + s.database.name() + "\"") != std::string::npos);
  }
  SUBCASE("another server") {
    auto options = receiver_options(s.database, s.slot);
    options.system_identifier = "4711";
    s.run(options);
    CHECK(s.wait_failure().find("another server answers") != std::string::npos);
  }
  SUBCASE("another timeline") {
    auto options = receiver_options(s.database, s.slot);
    options.lineage.timeline.number = 7;
    s.run(options);
    CHECK(s.wait_failure().find("on timeline 1 instead of 7") != std::string::npos);
  }
  SUBCASE("a publication that isn't there: an error up to 17, a warning and left-out changes from 18 on") {
    auto options = receiver_options(s.database, s.slot);
    options.publication = "no such publication";
    s.run(options);
    s.insert("never to be skipped");
    const auto text = s.wait_failure();
    CHECK(text.find("no such publication") != std::string::npos);
    CHECK(text.find("copy is needed again") != std::string::npos);
    CHECK(s.slot_state().confirmed_flush_lsn == s.start);
  }
}

TEST_CASE("where apply has failed, the receiver ends with that failure and leaves it as it is") {
  Streaming s("unasked_1");
  const auto why = std::make_exception_ptr(base::Error("apply failed").set_retryable(true));
  s.receiver = std::make_unique<stream::Receiver>(receiver_options(s.database, s.slot), s.queue,
                                                  [&]() -> Lsn { std::rethrow_exception(why); });
  s.receiver->start();
  CHECK(s.wait_failure() == "apply failed");
  try {
    std::rethrow_exception(why);
  } catch (const base::Error& error) {
    CHECK(error.retryable());  // whoever owns both begins anew
  }
}

TEST_CASE("a slot in use is waited for, and its holder is named when the patience ends") {
  Streaming s("busy_1");
  s.run();
  s.marker("m1");
  REQUIRE(s.consumer.take_until_marker("m1"));
  stream::ChunkQueue second_queue(1000, kQueueBytes);
  auto options = receiver_options(s.database, s.slot);
  options.retry_budget = milliseconds{2'000};
  stream::Receiver impatient(options, second_queue, [&] { return s.start; });
  impatient.start();
  harness::wait_until(soon(), "it gave up", [&] { return impatient.failure() != nullptr; });
  const auto text = failure_text(impatient);
  CHECK(text.find("held by pid " + std::to_string(s.slot_state().active_pid)) != std::string::npos);
  CHECK(s.receiver->connected());

  options.retry_budget = milliseconds{180'000};
  stream::Receiver patient(options, second_queue, [&] { return s.start; });
  patient.start();
  s.receiver->stop();
  harness::wait_until(soon(), "the successor streams", [&] { return patient.connected(); });
  Consumer successor(second_queue);
  CHECK(successor.take_until_marker("m1"));
}

TEST_CASE("binary values are asked for only where the server has them, and arrive as such") {
  Streaming s("binary_1");
  auto options = receiver_options(s.database, s.slot);
  options.binary = true;
  s.run(options);
  s.insert("text is the same in binary");
  s.marker("m1");
  REQUIRE(s.consumer.take_until_marker("m1"));
  CHECK(s.consumer.inserted == std::vector<std::string>{"text is the same in binary"});
}

TEST_CASE("a missing marker row is an error, not a marker that never arrives") {
  const Database database;
  database.exec("DELETE FROM pgcutover.marker");
  auto connection = database.sql();
  CHECK_THROWS_AS(stream::write_marker(connection, "m"), base::StateError);
  CHECK_THROWS_AS(stream::write_heartbeat(connection, 0), base::StateError);
  database.exec(stream::marker_schema_sql());
  stream::write_heartbeat(connection, 0);
  const auto age = connection.one_value(
      "SELECT abs(extract(epoch FROM clock_timestamp() - (timestamptz '2000-01-01 00:00:00+00' + written_us "
      "* "
      "interval '1 microsecond'))) < 120 FROM pgcutover.marker WHERE id = 2");
  CHECK(age == "t");
}
