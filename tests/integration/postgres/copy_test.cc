#include "replication/postgres/copy.h"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "tests/integration/postgres/server.h"

namespace replication::postgres {
namespace {

std::span<const char> bytes(const std::string& text) {
  return {text.data(), text.size()};
}

TEST_CASE("rows pass from one database to another untouched, in both formats") {
  for (const std::string format : {"text", "binary"}) {
    CAPTURE(format);
    const auto from = new_database();
    const auto to = new_database();
    for (const auto& database : {from, to}) {
      server().sql(database, "CREATE TABLE t (id int, v text)");
    }
    server().sql(
        from,
        "INSERT INTO t SELECT i, CASE WHEN i % 7 = 0 THEN NULL ELSE repeat(E'x\\t\\n\\\\', i % 300) END "
        "FROM generate_series(1, 20000) i");
    auto source = open(from);
    auto target = open(to);
    CopyOut out(source, "COPY public.t TO STDOUT (FORMAT " + format + ")");
    CopyIn in(target, "COPY public.t FROM STDIN (FORMAT " + format + ")");
    std::array<char, 777> block{};  // smaller than some rows, larger than others
    while (const auto length = out.read(block, soon())) {
      in.write(std::span(block).first(length), soon());
    }
    CHECK(in.finish(soon()) == 20000);
    CHECK(out.rows() == 20000);
    CHECK(source.one_value("SELECT 1") == "1");
    const std::string digest = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t";
    CHECK(server().value(to, digest) == server().value(from, digest));
  }
}

TEST_CASE("a row the target refuses is an error with its code and line, and nothing was copied") {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int PRIMARY KEY)");
  auto connection = open(database);
  CopyIn in(connection, "COPY public.t FROM STDIN");
  in.write(bytes("1\n2\n1\n"), soon());
  try {
    in.finish(soon());
    FAIL("a doubled key was copied");
  } catch (const base::Error& error) {
    CHECK(error.sqlstate() == "23505");
    CHECK(error.connection_usable());
  }
  CHECK(connection.one_value("SELECT count(*) FROM public.t") == "0");
}

TEST_CASE("a COPY that is left early ends, and the session stays usable") {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int)");
  auto connection = open(database);
  {
    CopyIn in(connection, "COPY public.t FROM STDIN");
    in.write(bytes("1\n"), soon());
  }
  CHECK(connection.usable());
  CHECK(connection.one_value("SELECT count(*) FROM public.t") == "0");
  {
    CopyOut out(connection, "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT");
    std::array<char, 100> part{};
    CHECK(out.read(part, soon()) == 100);  // of 1001
  }
  CHECK(connection.usable());
  CHECK(connection.one_value("SELECT 1") == "1");
}

TEST_CASE("a row of megabytes is told of while it comes, and comes in pieces") {
  auto connection = open("postgres");
  constexpr std::size_t kRow = 20'000'000, kBlock = 1 << 17;
  CopyOut out(connection,
              "COPY (SELECT repeat('x', " + std::to_string(kRow) + ") FROM generate_series(1, 2)) TO STDOUT");
  std::vector<std::size_t> told;
  out.before_more_of_row([&](std::size_t bytes) { told.push_back(bytes); });
  std::vector<char> block(kBlock);
  std::size_t first = 0, all = 0;
  while (const auto length = out.read(block, soon())) {
    first = first == 0 ? told.size() : first;
    all += length;
  }
  CHECK(all == 2 * (kRow + 1));
  CHECK(out.rows() == 2);
  REQUIRE(first > 1);          // before any of it could be read,
  CHECK(told[0] < kRow / 10);  // and from its beginning
  CHECK(*std::max_element(told.begin(), told.end()) > kRow - kBlock);
  CHECK(*std::max_element(told.begin(), told.end()) <= kRow + 1);
}

TEST_CASE("an error in mid-COPY comes to the reader") {
  auto connection = open("postgres");
  CopyOut out(connection, "COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 10000) i) TO STDOUT");
  std::array<char, 100> row{};
  int rows = 0;
  try {
    while (out.read(row, soon()) > 0) {
      ++rows;
    }
    FAIL("a division by zero went unnoticed");
  } catch (const base::Error& error) {
    CHECK(error.sqlstate() == "22012");
  }
  CHECK(rows == 4999);
  CHECK(connection.one_value("SELECT 1") == "1");
}

TEST_CASE("the deadline ends a COPY that gives nothing") {
  auto connection = open("postgres");
  {
    // The server sends by the buffer: a row arrives whole when some more has followed it.
    CopyOut out(connection,
                "COPY (SELECT CASE WHEN i < 4 THEN repeat('x', 100000) ELSE pg_sleep(60)::text END "
                "FROM generate_series(1, 4) i) TO STDOUT");
    std::vector<char> block(1'000'000);
    CHECK(out.read(block, soon()) == 100'001);
    const auto read_on = [&] {
      while (out.read(block, base::Deadline::in(base::milliseconds(200)))) {
      }
    };
    CHECK_THROWS_AS(read_on(), base::TimeoutError);
  }
  CHECK(connection.usable());
  CHECK(connection.one_value("SELECT 1") == "1");
}

TEST_CASE("a session lost in mid-COPY is an error on either side") {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int, v text)");
  auto connection = open(database);
  CopyIn in(connection, "COPY public.t FROM STDIN");
  server().sql(database, "SELECT pg_terminate_backend(" + std::to_string(connection.backend_pid()) + ")");
  const std::string chunk = "1\t" + std::string(100'000, 'x') + "\n";
  const auto write_on = [&] {
    for (int i = 0; i < 1000; ++i) {
      in.write(bytes(chunk), soon());
    }
    in.finish(soon());
  };
  CHECK_THROWS_AS(write_on(), base::Error);
  CHECK_FALSE(connection.usable());
  CHECK(server().value(database, "SELECT count(*) FROM t") == "0");
}

}  // namespace
}  // namespace replication::postgres
