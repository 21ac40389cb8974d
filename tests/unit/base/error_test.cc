#include "replication/base/error.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/base/check.h"

namespace replication::base {
namespace {

TEST_CASE("an error that was decorated keeps its type when thrown") {
  CHECK_THROWS_AS(throw UsageError("x").at("y"), UsageError);
  CHECK_THROWS_AS(throw UnreachableError("x").on("source"), UnreachableError);
  CHECK_THROWS_AS(throw StateError("x").with_hint("y"), StateError);
  CHECK_THROWS_AS(throw Stopped().with_sqlstate("57014"), Stopped);
  CHECK_THROWS_AS(throw TimeoutError("x").on("source").at("y").set_connection_usable(false), TimeoutError);
  CHECK_THROWS_AS(throw NeedsOperator("x").with_exit(ExitCode::needs_operator), NeedsOperator);
  CHECK_THROWS_AS(throw DecodeError("x", 3).on("source"), DecodeError);
  CHECK_THROWS_AS(throw Bug("x").set_retryable(false), Bug);
}

TEST_CASE("every error has its exit code") {
  CHECK(Error("x").exit_code() == ExitCode::unforeseen);
  CHECK(UsageError("x").exit_code() == ExitCode::usage);
  CHECK(UnreachableError("x").exit_code() == ExitCode::unreachable);
  CHECK(StateError("x").exit_code() == ExitCode::wrong_state);
  CHECK(Stopped().exit_code() == ExitCode::interrupted);
  CHECK(NeedsOperator("x").exit_code() == ExitCode::needs_operator);
  CHECK(Bug("x").exit_code() == ExitCode::bug);
}

TEST_CASE("an unreachable server may be tried again on another connection") {
  CHECK(UnreachableError("x").retryable());
  CHECK_FALSE(UnreachableError("x").connection_usable());
  CHECK(TimeoutError("x").retryable());
  CHECK(TimeoutError("x").connection_usable());
  CHECK_FALSE(StateError("x").retryable());
}

TEST_CASE("the first server and place named are kept, since they are the nearest") {
  auto error = Error("deadlock detected").on("source").on("target").at("table public.t").at("apply");
  CHECK(error.server() == "source");
  CHECK(error.where() == "table public.t");
}

TEST_CASE("describe names the server, the place, the code and what to do") {
  CHECK(Error("it broke").describe() == "it broke");
  CHECK(Error("it broke").on("source").describe() == "it broke (source)");
  CHECK(Error("it broke").at("here").describe() == "it broke (here)");
  CHECK(Error("it broke", "mend it").on("source").at("here").with_sqlstate("40001").describe() ==
        "it broke (source, here) [SQLSTATE 40001]\nHINT: mend it");
}

TEST_CASE("a failed check is a bug that says where") {
  try {
    PGCUTOVER_CHECK(1 == 2, "numbers are what they are");
    FAIL("the check let it pass");
  } catch (const Bug& bug) {
    CHECK(bug.message().find("1 == 2: numbers are what they are at ") != std::string::npos);
    CHECK(bug.message().find("error_test.cc") != std::string::npos);
  }
}

}  // namespace
}  // namespace replication::base
