#include <atomic>
#include <doctest/doctest.h>
#include <thread>

#include "replication/base/error.h"
#include "replication/snapshot/table_copier.h"
#include "replication/snapshot/workers.h"

namespace {

using namespace replication;
using namespace replication::snapshot;

catalog::Table table_of(std::vector<catalog::Column> columns) {
  catalog::Table table;
  table.schema = "a b";
  table.name = "Order\"s";
  table.columns = std::move(columns);
  return table;
}
catalog::Column column(const char* name, bool binary_safe, bool generated = false) {
  catalog::Column result;
  result.name = name;
  result.binary_safe = binary_safe;
  result.generated = generated;
  return result;
}

TEST_CASE("COPY names every column but the generated ones") {
  const auto table = table_of({column("id", true), column("Select", true), column("sum", false, true)});
  CHECK(copy_out_sql(table) == R"(COPY "a b"."Order""s" ("id", "Select") TO STDOUT (FORMAT binary))");
  CHECK(copy_in_sql(table, true) ==
        R"(COPY "a b"."Order""s" ("id", "Select") FROM STDIN (FREEZE true, FORMAT binary))");
  CHECK(copy_in_sql(table, false) == R"(COPY "a b"."Order""s" ("id", "Select") FROM STDIN (FORMAT binary))");
}

TEST_CASE("one column whose binary form isn't safe makes the copy text") {
  const auto table = table_of({column("id", true), column("price", false)});
  CHECK(copy_out_sql(table) == R"(COPY "a b"."Order""s" ("id", "price") TO STDOUT)");
  CHECK(copy_in_sql(table, false) == R"(COPY "a b"."Order""s" ("id", "price") FROM STDIN)");
}

TEST_CASE("a table without columns of its own is copied as text without a list") {
  CHECK(copy_out_sql(table_of({})) == R"(COPY "a b"."Order""s" TO STDOUT)");
  CHECK(copy_in_sql(table_of({column("g", true, true)}), true) ==
        R"(COPY "a b"."Order""s" FROM STDIN (FREEZE true))");
}

TEST_CASE("a snapshot's lower bound is its first number") {
  CHECK(snapshot_xmin("4294967300:4294967310:4294967301") == 4294967300);
  CHECK(snapshot_xmin("7:7:") == 7);
  CHECK_THROWS_AS(snapshot_xmin(""), base::Error);
  CHECK_THROWS_AS(snapshot_xmin("12"), base::Error);
  CHECK_THROWS_AS(snapshot_xmin("x:1:"), base::Error);
}

TEST_CASE("workers share the work and each piece is done once") {
  std::vector<std::atomic<int>> done(200);
  base::Stop stop;
  run_workers(4, done.size(), stop, [&](WorkQueue& queue, const base::Stop&) {
    while (const auto at = queue.next()) {
      ++done[*at];
    }
  });
  for (const auto& count : done) {
    CHECK(count == 1);
  }
}

TEST_CASE("the first failure cancels the other workers and is the one thrown") {
  base::Stop stop;
  try {
    run_workers(3, 3, stop, [&](WorkQueue& queue, const base::Stop& cancel) {
      if (queue.next() == 1U) {
        throw base::Error("disk full");
      }
      cancel.wait(base::Deadline::in(base::milliseconds(20'000)));
      cancel.check();
    });
    FAIL("nothing was thrown");
  } catch (const base::Error& error) {
    CHECK(error.message() == "disk full");
  }
}

TEST_CASE("a stop from outside ends the workers") {
  base::Stop stop;
  std::atomic<int> cancelled = 0;
  std::jthread asker([&] { stop.request(); });
  CHECK_THROWS_AS(run_workers(2, 2, stop,
                              [&](WorkQueue& queue, const base::Stop& cancel) {
                                queue.next();
                                cancel.wait(base::Deadline::in(base::milliseconds(20'000)));
                                ++cancelled;
                                cancel.check();
                              }),
                  base::Stopped);
  CHECK(cancelled <= 2);
}

}  // namespace
