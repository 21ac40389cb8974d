// What other replication tools lost, doubled or changed: each case forward and back, live and in one batch.
#include <doctest/doctest.h>

#include "replication/postgres/connection.h"
#include "tests/harness/text.h"
#include "tests/integration/known_bugs/world.h"

using known_bugs::World;

namespace {

enum class Pace { live, one_batch };

// Every case once; what each side has must change, and be the same.
void round(World& world, int number, Pace pace) {
  std::vector<std::string> before;
  for (std::size_t i = 0; i < world.cases().size(); ++i) {
    before.push_back(world.compare(i));
  }
  if (pace == Pace::one_batch) {
    auto held = world.hold();
    for (std::size_t i = 0; i < world.cases().size(); ++i) {
      world.change(i, number);
    }
    held.exec("ROLLBACK");
  } else {
    for (std::size_t i = 0; i < world.cases().size(); ++i) {
      world.change(i, number);
      world.sync();
    }
  }
  world.sync();
  for (std::size_t i = 0; i < world.cases().size(); ++i) {
    CHECK_MESSAGE(world.compare(i) != before[i], world.cases()[i].name << " changed nothing");
  }
  CHECK(world.reader().value(known_bugs::kDatabase,
                             "SELECT string_agg(schema_name || '.' || table_name || ' ' || kind || ' ' || "
                             "coalesce(key, ''), "
                             "'; ') FROM pgcutover.conflict") == std::nullopt);
  const auto verified = world.tool("verify");
  CHECK_MESSAGE(verified.exit_code == 0, verified.output << verified.errors << world.run().errors());
}

}  // namespace

TEST_CASE("the known failures of other tools, one by one and in one batch, there and back") {
  auto cases = known_bugs::changed_rows();
  for (const auto& more : {known_bugs::values(), known_bugs::tables()}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  World world(cases);
  REQUIRE(!world.cases().empty());
  round(world, 1, Pace::live);
  round(world, 2, Pace::one_batch);

  const auto there = world.tool("switch");
  REQUIRE_MESSAGE(there.exit_code == 0, there.errors);
  world.turn();
  round(world, 3, Pace::one_batch);

  const auto back = world.tool("rollback");
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
}
