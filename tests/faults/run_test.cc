// `run` dies while it prepares, copies and streams; called again it goes on, and nothing is lost or doubled,
// also in a table without a key. Each life ends with `cancel`, so that the next one begins from nothing: that
// is tested as well.
#include <csignal>
#include <doctest/doctest.h>
#include <string_view>
#include <vector>

#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

namespace {

constexpr const char* kPoints[] = {
    "run.after-prepare-source",
    "run.after-prepare-target",
    "run.after-slot",
    "run.after-pre-data",
    "copy.generation-begun",
    "copy.part-begin@2",
    "copy.part-before-commit@2",
    "copy.part-done@2",
    "copy.generation-before-commit",
    "copy.table-begin@3",
    "copy.table-before-commit",
    "copy.batch-before-commit",
    "copy.table-done@5",
    "indexes.table-built",
    "indexes.table-done",
    "run.after-copy",
    "run.after-indexes",
    "run.after-catch-up",
    "run.after-foreign-keys",
    "run.after-reverse-ready",
    "apply.before-commit@20",
    "apply.after-commit@20",
    "stream.before-confirm@3",
};

std::string with_kill(std::string_view point) {
  const auto at = point.find('@');
  return std::string(point.substr(0, at)) + ":kill" +
         (at == std::string_view::npos ? "" : std::string(point.substr(at)));
}

}  // namespace

TEST_CASE("a run that is killed anywhere goes on when it is called again") {
  Scenario scenario;
  const auto privileges = [&] {
    // An ACL that was never set and the default one written out mean the same.
    return scenario.target().value(
        "postgres",
        "SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM pg_database d, "
        "aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = 'shop'");
  };
  const auto privileges_before = privileges();
  // Large enough to be split, and for indexes of its own.
  scenario.source().sql(
      kDatabase,
      "CREATE TABLE shop.large (id int PRIMARY KEY, v text, UNIQUE (v));"
      "INSERT INTO shop.large SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 25000) i");
  for (const char* point : kPoints) {
    INFO("killed at " << std::string(point));
    std::vector<std::string> more;
    if (std::string_view(point).starts_with("copy.part") || std::string_view(point).starts_with("copy.gen")) {
      more = {"--split-above", "1"};
    }
    auto doomed = scenario.start_run(with_kill(point), more);
    CHECK_MESSAGE(doomed->wait(Deadline::in(milliseconds(180'000))) == 128 + SIGKILL, doomed->errors());
    auto again = scenario.start_run({}, more);
    scenario.wait_state(*again, "ready");
    CHECK((scenario.expect_sound(point) == Side::source));
    scenario.expect_equal(point);
    const auto result = scenario.tool({"cancel", "--yes"});
    CHECK_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(again->wait(Deadline::in(milliseconds(180'000))) == 0);
    // As they were found.
    for (auto* server : {&scenario.source(), &scenario.target()}) {
      CHECK(server->value(kDatabase, "SELECT count(*) FROM pg_replication_slots") == "0");
      CHECK(server->value(kDatabase, "SELECT count(*) FROM pg_publication") == "0");
      CHECK(server->value(kDatabase, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgcutover'") == "0");
    }
    CHECK(scenario.target().value(kDatabase,
                                  "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = "
                                  "relnamespace WHERE nspname NOT LIKE 'pg%' AND nspname <> "
                                  "'information_schema'") == "0");
    CHECK(privileges() == privileges_before);
    CHECK(scenario.source().value(kDatabase,
                                  "SELECT relreplident FROM pg_class WHERE relname = 'bank_journal'") == "d");
  }
}

TEST_CASE("a run that meets a server's restart in any step goes on by itself") {
  struct Moment {
    const char* point;  // the restart comes between it and what follows
    Side side;
  };
  constexpr Moment kMoments[] = {
      {"run.after-prepare-target:stop@1", Side::source}, {"run.after-slot:stop@1", Side::source},
      {"run.after-pre-data:stop@1", Side::target},       {"copy.table-begin:stop@3", Side::source},
      {"indexes.table-built:stop@1", Side::target},      {"run.after-indexes:stop@1", Side::target},
      {"run.after-catch-up:stop@1", Side::target},       {"run.after-foreign-keys:stop@1", Side::source},
  };
  Scenario scenario;
  scenario.source().sql(
      kDatabase,
      "CREATE TABLE shop.large (id int PRIMARY KEY, v text, UNIQUE (v));"
      "INSERT INTO shop.large SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 25000) i");
  for (const auto& moment : kMoments) {
    INFO("restarted at " << moment.point);
    auto run = scenario.start_run(moment.point);
    run->wait_frozen(Deadline::in(milliseconds(180'000)));
    (moment.side == Side::source ? scenario.source() : scenario.target())
        .restart(harness::Cluster::Stop::immediate);
    run->thaw();
    scenario.wait_state(*run, "ready");
    CHECK((scenario.expect_sound(moment.point, scenario::Refusals::before) == Side::source));
    scenario.expect_equal(moment.point);
    const auto result = scenario.tool({"cancel", "--yes"});
    CHECK_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(run->wait(Deadline::in(milliseconds(180'000))) == 0);
  }
}
