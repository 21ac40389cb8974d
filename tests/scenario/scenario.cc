#include "tests/scenario/scenario.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "tests/harness/process.h"
#include "tests/harness/temp_dir.h"
#include "tests/harness/wait.h"

namespace scenario {
namespace {

using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;

constexpr int kPausedColumn = 11;  // of SHOW DATABASES, from pgbouncer 1.15 on
constexpr double kRate = 60;       // transactions a second: two cores have to carry everything

harness::PgbouncerOptions pooler_options(const harness::Cluster& source) {
  return {.databases = {{kDatabase, "host=" + source.host() + " port=" +
                                        std::to_string(harness::Cluster::kPort) + " dbname=" + kDatabase}}};
}

}  // namespace

Scenario::Scenario(const std::vector<std::string>& gates, const Wiring& wiring)
    : directory_("pgcut-scenario"),
      source_({.name = "source"}),
      target_({.name = "target", .wal_directory = wiring.target_wal}),
      bouncer_(pooler_options(source_)) {
  for (auto* server : {&source_, &target_}) {
    server->sql("postgres", "CREATE ROLE app LOGIN; CREATE ROLE mover LOGIN SUPERUSER");
    std::string place;
    if (server == &target_ && !wiring.target_tablespace.empty()) {
      server->sql("postgres", "CREATE TABLESPACE place LOCATION '" + wiring.target_tablespace + "'");
      place = " TABLESPACE place";
    }
    server->sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " OWNER app" + place);
  }
  if (wiring.proxied) {
    source_line_.emplace(source_.host(), harness::Cluster::kPort);
    target_line_.emplace(target_.host(), harness::Cluster::kPort);
  }
  source_.connect(kDatabase, "app").exec(load::shop_schema_sql(size_));
  write_plan(gates);
  bank_.emplace(load::BankLoadOptions{
      .conninfo = bouncer_.conninfo(kDatabase, "app"), .clients = 3, .rate = kRate, .size = size_});
  bank_->wait_acknowledged(20, Deadline::in(milliseconds(180'000)));
}

void Scenario::write_plan(const std::vector<std::string>& gates) {
  const auto source =
      source_line_ ? source_line_->conninfo(kDatabase, "mover") : source_.conninfo(kDatabase, "mover");
  const auto target =
      target_line_ ? target_line_->conninfo(kDatabase, "mover") : target_.conninfo(kDatabase, "mover");
  std::string text = "name: fault\nsource: \"" + source + "\"\ntarget: \"" + target +
                     "\"\ntables: {keyless: full}\ngates:\n  verify: none\n";
  // No hand-over fails for a machine that is slow: only a test that is about a time names one.
  std::vector<std::string> lines{"max-lag: 45s", "max-pause: 45s", "lock-limit: 45s"};
  for (const auto& gate : gates) {
    std::erase_if(lines,
                  [&](const std::string& line) { return line.starts_with(gate.substr(0, gate.find(':'))); });
    lines.push_back(gate);
  }
  for (const auto& line : lines) {
    text += "  " + line + "\n";
  }
  text += "apps:\n  - name: web\n    traffic:\n      pgbouncer:\n        - admin: \"" +
          bouncer_.console_conninfo() + "\"\n          database: " + kDatabase +
          "\n          ini: " + bouncer_.databases_ini() + "\n";
  harness::write_file(directory_.path() / "plan.yaml", text);
}

std::vector<std::string> Scenario::with_plan(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin() + 1, {"--plan", directory_.file("plan.yaml")});
  return arguments;
}

harness::ToolResult Scenario::tool(const std::vector<std::string>& arguments, milliseconds limit) {
  return harness::Tool::run(with_plan(arguments), Deadline::in(limit));
}

std::unique_ptr<harness::Tool> Scenario::start_tool(const std::vector<std::string>& arguments) {
  return std::make_unique<harness::Tool>(with_plan(arguments));
}

std::unique_ptr<harness::Tool> Scenario::start_run(const std::string& fault,
                                                   const std::vector<std::string>& more) {
  auto all = with_plan({"run"});
  all.insert(all.end(), more.begin(), more.end());
  harness::ToolOptions options;
  if (!fault.empty()) {
    options.env = harness::fault_environment(fault);
  }
  return std::make_unique<harness::Tool>(all, options);
}

void Scenario::wait_state(harness::Tool& run, const std::string& state) {
  wait_until(Deadline::in(milliseconds(180'000)), "the controller is " + state, [&] {
    if (!run.running()) {
      FAIL("run ended:\n" << run.errors());
    }
    return reported_state(run) == state;
  });
}

std::string Scenario::reported_state(const harness::Tool& run) {
  try {
    if (!target_.value(kDatabase, "SELECT to_regclass('pgcutover.status')")) {
      return "";
    }
    return target_
        .value(kDatabase,
               "SELECT json::jsonb ->> 'state' FROM pgcutover.status WHERE json::jsonb -> 'controller' ->> "
               "'pid' = '" +
                   std::to_string(run.pid()) + "'")
        .value_or("");
  } catch (const replication::base::Error&) {
    return "";  // the tool ends every other session when it closes the target, this one's included
  }
}

void Scenario::stop_run(harness::Tool& run) {
  run.terminate();
  const int code = run.wait(Deadline::in(milliseconds(180'000)));
  CHECK_MESSAGE(code == 0, run.errors());
}

std::string Scenario::fence_state(Side side) {
  return cluster(side).value(kDatabase, "SELECT state FROM pgcutover.fence").value_or("none");
}

bool Scenario::pooler_paused() {
  const auto rows = bouncer_.console("SHOW DATABASES");
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.text(row, 0) == kDatabase) {
      return rows.text(row, kPausedColumn) == "1";
    }
  }
  FAIL("the pooler doesn't know the database");
  return true;
}

Side Scenario::expect_sound(const std::string& after, Refusals refusals) {
  INFO("after " << after);
  wait_until(Deadline::in(milliseconds(180'000)), "traffic flows after " + after,
             [&] { return !pooler_paused(); });
  bank_->wait_acknowledged(10, Deadline::in(milliseconds(180'000)));
  const auto source = fence_state(Side::source);
  const auto target = fence_state(Side::target);
  CHECK_MESSAGE((source == "open") != (target == "open"), "source " << source << ", target " << target);
  const Side primary = source == "open" ? Side::source : Side::target;
  auto session = cluster(primary).connect(kDatabase);
  const auto proof = load::prove_bank(session, bank_->log(), size_);
  CHECK_MESSAGE(proof.holds(), proof.summary());
  const auto report = bank_->report();
  if (refusals == Refusals::before) {
    return primary;
  }
  CHECK_MESSAGE(report.failed == 0, (report.failures.empty() ? "" : report.failures.front().text));
  CHECK(report.in_doubt == 0);
  return primary;
}

void Scenario::expect_equal(const std::string& after) {
  INFO("after " << after);
  const auto result = tool({"verify"});
  CHECK_MESSAGE(result.exit_code == 0, result.output << result.errors);
  CHECK(result.output.find("rows compared at one LSN") != std::string::npos);
  for (auto* server : {&source_, &target_}) {
    CHECK(server->value(kDatabase, "SELECT count(*) FROM pgcutover.conflict") == "0");
  }
}

}  // namespace scenario
