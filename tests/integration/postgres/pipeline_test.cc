#include "replication/postgres/pipeline.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"
#include "tests/integration/postgres/server.h"

namespace replication::postgres {
namespace {

using Kind = Pipeline::Outcome::Kind;

TEST_CASE("answers come in the order of sending") {
  auto connection = open("postgres");
  {
    Pipeline pipeline(connection);
    pipeline.prepare("add", "SELECT $1::int + $2::int");
    for (int i = 0; i < 100; ++i) {
      pipeline.execute_prepared("add", Params{std::to_string(i), "1000"});
    }
    pipeline.sync();
    CHECK(pipeline.pending() == 102);
    CHECK(pipeline.next(soon()).kind == Kind::ok);
    for (int i = 0; i < 100; ++i) {
      const auto outcome = pipeline.next(soon());
      REQUIRE(outcome.kind == Kind::ok);
      REQUIRE(outcome.result.integer(0, 0) == 1000 + i);
    }
    CHECK(pipeline.next(soon()).kind == Kind::synced);
    CHECK(pipeline.pending() == 0);
  }
  CHECK(connection.one_value("SELECT 1") == "1");
}

TEST_CASE("after a failed statement the rest is skipped up to the sync, and nothing of it was done") {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int PRIMARY KEY)");
  auto connection = open(database);
  {
    Pipeline pipeline(connection);
    pipeline.execute("BEGIN");
    pipeline.execute("INSERT INTO public.t VALUES ($1)", Params{"1"});
    pipeline.execute("INSERT INTO public.t VALUES ($1)", Params{"1"});
    pipeline.execute("INSERT INTO public.t VALUES ($1)", Params{"2"});
    pipeline.execute("COMMIT");
    pipeline.sync();
    pipeline.execute("ROLLBACK");
    pipeline.sync();
    CHECK(pipeline.next(soon()).kind == Kind::ok);
    CHECK(pipeline.next(soon()).result.affected_rows() == 1);
    const auto failed = pipeline.next(soon());
    CHECK(failed.kind == Kind::failed);
    CHECK(failed.sqlstate == "23505");
    CHECK(failed.message.find("Key (id)=(1) already exists") != std::string::npos);
    CHECK(pipeline.next(soon()).kind == Kind::skipped);
    CHECK(pipeline.next(soon()).kind == Kind::skipped);
    CHECK(pipeline.next(soon()).kind == Kind::synced);
    CHECK(pipeline.next(soon()).kind == Kind::ok);
    CHECK(pipeline.next(soon()).kind == Kind::synced);
  }
  CHECK_FALSE(connection.in_transaction());
  CHECK(connection.one_value("SELECT count(*) FROM public.t") == "0");
}

TEST_CASE("a pipeline that is left early drains what was sent, and the session stays usable") {
  const auto database = new_database();
  server().sql(database, "CREATE TABLE t (id int)");
  auto connection = open(database);
  {
    Pipeline pipeline(connection);
    pipeline.execute("INSERT INTO public.t VALUES (1)");
    pipeline.sync();
    pipeline.execute("SELECT 1/0");
    pipeline.execute("INSERT INTO public.t VALUES (2)");
  }
  CHECK(connection.usable());
  CHECK(connection.one_value("SELECT count(*) FROM public.t") == "1");
}

TEST_CASE("megabytes go both ways without either side waiting for the other") {
  auto connection = open("postgres");
  const std::string big(1'000'000, 'x');
  {
    Pipeline pipeline(connection);
    for (int i = 0; i < 30; ++i) {
      pipeline.execute("SELECT $1::text", Params{big});
    }
    pipeline.sync();
    for (int i = 0; i < 30; ++i) {
      const auto outcome = pipeline.next(soon());
      REQUIRE(outcome.kind == Kind::ok);
      REQUIRE(outcome.result.view(0, 0).size() == big.size());
    }
    CHECK(pipeline.next(soon()).kind == Kind::synced);
  }
  CHECK(connection.usable());
}

TEST_CASE("a session lost in mid-pipeline throws, and the outcome of the rest is unknown") {
  auto connection = open("postgres");
  {
    Pipeline pipeline(connection);
    pipeline.execute("SELECT 1");
    pipeline.execute("SELECT pg_terminate_backend(pg_backend_pid())");
    pipeline.execute("SELECT 2");
    pipeline.sync();
    CHECK(pipeline.next(soon()).kind == Kind::ok);
    const auto rest = [&] {
      for (int i = 0; i < 3; ++i) {
        const auto outcome = pipeline.next(soon());
        CHECK(outcome.kind != Kind::synced);
      }
    };
    CHECK_THROWS_AS(rest(), base::Error);
  }
  CHECK_FALSE(connection.usable());
}

TEST_CASE("the deadline of an answer leaves a session that says it can't be used") {
  auto connection = open("postgres");
  {
    Pipeline pipeline(connection);
    pipeline.execute("SELECT pg_sleep(60)");
    pipeline.sync();
    CHECK_THROWS_AS(pipeline.next(base::Deadline::in(base::milliseconds(50))), base::TimeoutError);
  }
  CHECK_FALSE(connection.usable());
}

}  // namespace
}  // namespace replication::postgres
