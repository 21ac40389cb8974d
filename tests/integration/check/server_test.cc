// Findings about a server as a whole: each needs a cluster of its own.
#include <algorithm>
#include <doctest/doctest.h>
#include <fstream>

#include "cutover/check/context.h"
#include "replication/base/error.h"
#include "tests/integration/check/pair.h"

using checks::Pair;
using checks::to_text;
using checks::tool_session;
using cutover::check::CheckInput;
using cutover::check::run_checks;
using replication::base::Findings;
using replication::base::Severity;

namespace {

void expect(const Findings& findings, const char* server, const char* id, const char* object,
            Severity severity = Severity::blocks, const char* says = "") {
  INFO(to_text(findings));
  CHECK(checks::well_formed(findings));
  const auto* found = checks::find(findings, server, id, object);
  REQUIRE(found != nullptr);
  CHECK(found->severity == severity);
  CHECK(found->message.find(says) != std::string::npos);
}

}  // namespace

TEST_CASE("a server with the defaults of an ordinary installation lacks what streaming needs") {
  harness::Cluster poor({.name = "poor",
                         .conf = {"max_wal_senders = 0", "max_replication_slots = 1", "max_connections = 10",
                                  "max_locks_per_transaction = 10", "autovacuum = off"},
                         .wal_level = "replica"});
  checks::make_mover(poor);
  poor.sql("postgres", "CREATE DATABASE shop OWNER mover");
  poor.sql("postgres", "SELECT pg_create_physical_replication_slot('standby')");
  for (int i = 0; i < 4; ++i) {
    poor.sql("shop", "DO $$ BEGIN FOR i IN 1..30 LOOP EXECUTE 'CREATE TABLE t_" + std::to_string(i) +
                         "_' || i || ' (id int)'; END LOOP; END $$");
  }
  const Pair pair("poor_pair");
  pair.quiet();
  Pair::Sessions good = pair.sessions();
  auto session = tool_session(poor, "source", "shop", "mover");
  const Findings as_source = run_checks({.source = session, .target = good.target});
  expect(as_source, "source", "wal-level", "wal_level", Severity::blocks, "replica");
  expect(as_source, "source", "no-free-slot", "max_replication_slots");
  expect(as_source, "source", "no-free-walsender", "max_wal_senders");
  expect(as_source, "source", "max-connections", "max_connections");
  expect(as_source, "source", "max-locks", "max_locks_per_transaction", Severity::blocks, "120 tables");
  const Findings as_target = run_checks({.source = good.source, .target = session});
  expect(as_target, "target", "wal-level", "wal_level", Severity::blocks, "way back");
  expect(as_target, "target", "no-free-slot", "max_replication_slots");
  expect(as_target, "target", "no-free-walsender", "max_wal_senders");
}

TEST_CASE("limits of the role and of the database count as well") {
  const Pair pair("limited");
  if (checks::clusters().source.major() < 15)
    return;  // there the tool is a superuser, for whom no limit holds
  checks::clusters().source.sql("postgres", "ALTER DATABASE limited CONNECTION LIMIT 3");
  checks::clusters().target.sql("postgres", "ALTER ROLE mover CONNECTION LIMIT 4");
  pair.quiet();
  Pair::Sessions sessions = pair.sessions();
  const Findings findings = run_checks({.source = sessions.source, .target = sessions.target});
  checks::clusters().target.sql("postgres", "ALTER ROLE mover CONNECTION LIMIT -1");
  expect(findings, "source", "max-connections", "limited", Severity::blocks, "LIMIT 3");
  expect(findings, "target", "max-connections", "mover", Severity::blocks, "LIMIT 4");
}

TEST_CASE("what a migration left behind whose other side is gone is named whole: slot, publication, schema") {
  const Pair pair("left_over");
  pair.on_source(
      "CREATE SCHEMA pgcutover; CREATE TABLE pgcutover.run(name text, source_system text, target_system "
      "text, "
      "source_database text, target_database text, created_at timestamptz DEFAULT now()); "
      "INSERT INTO pgcutover.run VALUES ('shop', '1', '2', 'left_over', 'gone'); "
      "GRANT USAGE ON SCHEMA pgcutover TO mover; GRANT SELECT ON pgcutover.run TO mover; "
      "CREATE PUBLICATION pgcutover_shop_forward; CREATE PUBLICATION of_others");
  pair.on_source("SELECT pg_create_logical_replication_slot('pgcutover_shop_forward', 'pgoutput')");
  pair.quiet();
  Pair::Sessions sessions = pair.sessions();
  const Findings findings = run_checks({.source = sessions.source, .target = sessions.target});
  const auto* leftover = checks::find(findings, "source", "leftover", "pgcutover");
  REQUIRE(leftover != nullptr);
  CHECK_MESSAGE(
      leftover->remedy.ends_with("SELECT pg_drop_replication_slot('pgcutover_shop_forward'); DROP "
                                 "PUBLICATION pgcutover_shop_forward; DROP SCHEMA pgcutover CASCADE"),
      leftover->remedy);
  // As it says, after which nothing of it is left.
  const auto removal = leftover->remedy.substr(leftover->remedy.find("SELECT"));
  for (std::size_t at = 0; at < removal.size();) {
    const auto end = std::min(removal.find(';', at), removal.size());
    pair.on_source(removal.substr(at, end - at));
    at = end + 1;
  }
  auto after = pair.sessions();
  CHECK(checks::find(run_checks({.source = after.source, .target = after.target}), "source", "leftover",
                     "pgcutover") == nullptr);
}

TEST_CASE("a slot that would be lost within hours is remarked on") {
  if (checks::clusters().source.major() < 14)
    return;  // before 14 no average is kept to measure by
  const Pair pair("small_keep");
  checks::clusters().source.configure({"max_slot_wal_keep_size = 1"});
  pair.quiet();
  Pair::Sessions sessions = pair.sessions();
  // Some WAL, so that there is a rate.
  pair.on_source_as_mover("INSERT INTO good(x) SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
  const Findings findings = run_checks({.source = sessions.source, .target = sessions.target});
  checks::clusters().source.configure({"max_slot_wal_keep_size = -1"});
  expect(findings, "source", "max-slot-wal-keep-size", "max_slot_wal_keep_size", Severity::warns, "1.0 MB");
  CHECK(checks::find(findings, "source", "slot-runway", "") == nullptr);
}

TEST_CASE("standbys are refused on either side, and nothing is tried on them") {
  harness::Cluster standby({.name = "standby"});
  checks::make_mover(standby);
  standby.sql("postgres", "CREATE DATABASE shop OWNER mover");
  standby.stop();
  std::ofstream(standby.data_path() + "/standby.signal").close();
  standby.start();
  const Pair pair("with_standby");
  pair.quiet();
  Pair::Sessions good = pair.sessions();
  auto session = tool_session(standby, "source", "shop", "mover");
  expect(run_checks({.source = session, .target = good.target}), "source", "source-in-recovery", "");
  expect(run_checks({.source = good.source, .target = session}), "target", "target-in-recovery", "");
}

TEST_CASE("versions are judged by the rules, whatever is installed here") {
  const Pair pair("versions");
  Pair::Sessions sessions = pair.sessions();
  const CheckInput input{.source = sessions.source, .target = sessions.target};
  namespace catalog = replication::catalog;
  cutover::check::Context context{
      .input = input,
      .source = {"source", sessions.source, catalog::server_facts(sessions.source)},
      .target = {"target", sessions.target, catalog::server_facts(sessions.target)},
      .catalog = {}};
  const auto judge = [&](int source, int target) {
    context.findings.clear();
    context.source.facts.version = source;
    context.target.facts.version = target;
    cutover::check::check_versions(context);
    return context.findings;
  };
  CHECK(judge(120022, 130004).empty());
  CHECK(judge(150018, 150001).empty());
  CHECK(judge(180004, 180004).empty());
  expect(judge(110022, 150018), "source", "source-version", "", Severity::blocks, "11.22");
  expect(judge(190000, 190000), "source", "source-version", "");
  expect(judge(120022, 120022), "target", "target-version", "");
  expect(judge(150018, 140023), "target", "target-older", "", Severity::blocks, "older than the source's 15");
}

TEST_CASE("a pg_dump older than the source is refused") {
  const Pair pair("old_dump");
  harness::TempDir directory("old-dump");
  harness::write_file(directory.path() / "pg_dump", "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n");
  std::filesystem::permissions(directory.path() / "pg_dump", std::filesystem::perms::owner_all);
  pair.quiet();
  Pair::Sessions sessions = pair.sessions();
  const std::string bin = directory.path().string();
  const Findings findings =
      run_checks({.source = sessions.source, .target = sessions.target, .pg_bindir = bin});
  expect(findings, "source", "pg-dump", (bin + "/pg_dump").c_str(), Severity::blocks, "version 9");
}
