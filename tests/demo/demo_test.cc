#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "tests/demo/acts.h"
#include "tests/demo/options.h"
#include "tests/demo/pgbench.h"
#include "tests/demo/proofs.h"
#include "tests/demo/stage.h"
#include "tests/harness/wait.h"

using demo::Side;
using harness::Deadline;
using harness::milliseconds;
using replication::base::Stop;

namespace {

demo::Options parse(std::vector<std::string> words) {
  words.insert(words.begin(), "demo");
  std::vector<char*> argv;
  for (auto& word : words) {
    argv.push_back(word.data());
  }
  bool help = false;
  return demo::parse_options(static_cast<int>(argv.size()), argv.data(), help);
}

}  // namespace

TEST_CASE("the pause is read from the tool's last line in milliseconds") {
  CHECK(demo::pause_of("target takes writes; write pause 312 ms") == doctest::Approx(312));
  CHECK(demo::pause_of("source takes writes; write pause 1.25 s") == doctest::Approx(1250));
  CHECK(demo::pause_of("target takes writes") == doctest::Approx(-1));
  CHECK(demo::pause_of("write pause 3 fortnights") == doctest::Approx(-1));
}

TEST_CASE("a text field is found in JSON with and without spaces") {
  CHECK(demo::json_text("{\"name\":\"x\",\"state\":\"ready\"}", "state") == "ready");
  CHECK(demo::json_text("{\n \"state\": \"copying\",\n}", "state") == "copying");
  CHECK(demo::json_text("{\"state\": 3}", "state").empty());
  CHECK(demo::json_text("{}", "state").empty());
}

TEST_CASE("wrong options are refused by name") {
  CHECK(parse({"--scale", "3", "--seconds", "4", "--fsync"}).scale == 3);
  CHECK_THROWS_WITH_AS(parse({"--speed", "9"}), doctest::Contains("--speed"), replication::base::UsageError);
  CHECK_THROWS_WITH_AS(parse({"--seconds", "1"}), doctest::Contains("--seconds 1"),
                       replication::base::UsageError);
  CHECK_THROWS_WITH_AS(parse({"--scale"}), doctest::Contains("needs a value"), replication::base::UsageError);
  CHECK_THROWS_WITH_AS(parse({"--source-admin", "host=x"}), doctest::Contains("go together"),
                       replication::base::UsageError);
}

TEST_CASE("pgbench's load ends politely, and its proofs can hold and can fail") {
  demo::Options options;
  const Stop stop;
  demo::Stage stage(options, stop);
  stage.set_up(1);
  demo::Pgbench bench(stage.pooler(), 2, 200);
  harness::wait_until(Deadline::in(milliseconds(180'000)), "pgbench wrote history",
                      [&] { return demo::prove_pgbench_sums(stage, Side::source).holds; });
  const auto result = bench.stop(Deadline::in(milliseconds(180'000)));
  CHECK(result.exit_code == 0);
  CHECK(result.failed == 0);
  CHECK(demo::prove_pgbench_count(stage, Side::source, result).holds);

  auto connection = stage.connect(Side::source);
  connection.exec("UPDATE public.pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1");
  CHECK_FALSE(demo::prove_pgbench_sums(stage, Side::source).holds);
  connection.exec("INSERT INTO public.pgbench_history SELECT * FROM public.pgbench_history LIMIT 1");
  CHECK_FALSE(demo::prove_pgbench_count(stage, Side::source, result).holds);
  CHECK_FALSE(demo::prove_copied_once(stage).holds);  // the target is empty
  CHECK(demo::prove_clean(stage).holds);
  connection.exec("CREATE PUBLICATION left_behind");
  CHECK_FALSE(demo::prove_clean(stage).holds);

  load::LoadReport bank;
  bank.acknowledged = 10;
  CHECK(demo::prove_no_failures(result, bank).holds);
  bank.in_doubt = 1;
  CHECK_FALSE(demo::prove_no_failures(result, bank).holds);
  bank.in_doubt = 0;
  auto aborted = result;
  aborted.exit_code = 2;
  CHECK_FALSE(demo::prove_no_failures(aborted, bank).holds);
}
