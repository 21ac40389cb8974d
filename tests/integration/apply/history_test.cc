// Any history gives the same rows, however it is cut into batches: compacted, change by change, and on the
// source.
#include "tests/integration/apply/history.h"

#include <cstdlib>
#include <doctest/doctest.h>

#include "tests/integration/apply/stage.h"

using namespace apply_stage;
using apply::WaitResult;

namespace {

std::uint32_t from_environment(const char* name, std::uint32_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : static_cast<std::uint32_t>(std::stoul(value));
}

void check_history(Stage& stage) {
  for (const auto& table : History::tables()) {
    CAPTURE(table);
    const auto rows =
        "SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text COLLATE \"C\"), '') FROM " + table +
        " r";
    REQUIRE(stage.target_value(rows) == stage.source_value(rows));
  }
}

// Several rounds of transactions; each round is one chunk, so that it may be one batch.
void play(Stage& stage, std::uint32_t seed, int rounds, int transactions) {
  History history(seed, seed % 3 == 0);
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::string> statements;
    for (int i = 0; i < transactions; ++i) {
      statements.push_back(history.transaction());
    }
    stage.source_statements(statements);
    REQUIRE_MESSAGE(stage.sync() == WaitResult::reached, stage.failure());
    CAPTURE(round);
    check_history(stage);
  }
}

// The same, while the target's session is ended again and again; everything is delivered again from the
// slot's beginning each time. Returns how often the stream had to be started anew.
int play_with_losses(Stage& stage, std::uint32_t seed, const apply::ApplierOptions& options) {
  History history(seed, false);
  int restarts = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::string> statements;
    for (int i = 0; i < 30; ++i) {
      statements.push_back(history.transaction());
    }
    const auto token = "round" + std::to_string(round);
    statements.push_back("UPDATE pgcutover.marker SET token = '" + token + "' WHERE id = 1");
    stage.source_statements(statements);
    for (auto result = WaitResult::timed_out; result != WaitResult::reached;) {
      stage.pump(false);
      stage.target(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover "
          "apply%' "
          "AND datname = current_database()");
      result = stage.applier->wait_marker(token, soon());
      REQUIRE(result != WaitResult::timed_out);
      if (result == WaitResult::failed) {
        REQUIRE_MESSAGE(stage.failure().find("must be started again") != std::string::npos, stage.failure());
        stage.start(options);
        REQUIRE(++restarts < 100);
      }
    }
    check_history(stage);
  }
  return restarts;
}

}  // namespace

TEST_CASE("random histories arrive once while the session on the target is lost again and again") {
  const auto first = from_environment("PGCUTOVER_TEST_SEED", 1);
  const auto seeds = from_environment("PGCUTOVER_TEST_SEEDS", 2);
  for (std::uint32_t seed = first; seed < first + seeds; ++seed) {
    for (const std::size_t batch : {std::size_t{100'000}, std::size_t{3}}) {
      CAPTURE(seed);
      CAPTURE(batch);
      Stage stage("losses");
      stage.both(History::create_tables());
      stage.publish();
      auto options = stage.options();
      options.batch_changes_max = batch;
      stage.start(options);
      const int restarts = play_with_losses(stage, seed, options);
      MESSAGE("started anew " << restarts << " times");
    }
  }
}

TEST_CASE("random histories end in the same rows, compacted or change by change") {
  const auto first = from_environment("PGCUTOVER_TEST_SEED", 1);
  const auto seeds = from_environment("PGCUTOVER_TEST_SEEDS", 3);
  std::int64_t changes = 0, compacted = 0, row_mode = 0;
  for (std::uint32_t seed = first; seed < first + seeds; ++seed) {
    // 1: every change is a part of its own, within a savepoint.
    for (const std::size_t batch : {std::size_t{100'000}, std::size_t{1}, std::size_t{7}}) {
      CAPTURE(seed);
      CAPTURE(batch);
      Stage stage("history", seed % 2 == 0 && source_server().major() >= 14);
      stage.both(History::create_tables());
      stage.publish();
      auto options = stage.options();
      options.batch_changes_max = batch;
      stage.start(options);
      play(stage, seed, 6, 40);
      const auto stats = stage.applier->stats();
      CHECK(stats.applied + stats.compacted + stats.filtered + stats.conflicts == stats.changes);
      CHECK(stats.conflicts == 0);
      changes += stats.changes;
      compacted += batch > 1 ? stats.compacted : 0;
      row_mode += stats.row_mode_batches;
    }
  }
  // Each way of writing was taken.
  CHECK(changes > 1'000);
  CHECK(compacted > changes / 20);
  CHECK((row_mode > 0 || seeds < 3));  // every third seed needs it
}
