// Findings about sessions and roles: the sessions must live while the check runs.
#include <doctest/doctest.h>

#include "tests/integration/check/pair.h"

using checks::clusters;
using checks::Pair;
using checks::to_text;
using cutover::check::CheckInput;
using cutover::check::run_checks;
using replication::base::Finding;
using replication::base::Findings;
using replication::base::Severity;

namespace {

Findings check(const Pair& pair, const char* user = "mover") {
  Pair::Sessions sessions = pair.sessions(user);
  CheckInput input{.source = sessions.source, .target = sessions.target};
  input.wal_sample = replication::base::milliseconds(50);
  input.long_transaction = replication::base::milliseconds(0);
  return run_checks(input);
}

void expect(const Findings& findings, const char* server, const char* id, const std::string& object,
            Severity severity, const char* says) {
  INFO(to_text(findings));
  CHECK(checks::well_formed(findings));
  const Finding* found = checks::find(findings, server, id, object);
  REQUIRE(found != nullptr);
  CHECK(found->severity == severity);
  CHECK(found->message.find(says) != std::string::npos);
}

}  // namespace

TEST_CASE("an application that connects as our own role is named") {
  const Pair pair("shared_role");
  auto web = clusters().source.connect("shared_role", "mover");  // application_name "harness"
  pair.sessions();
  expect(check(pair), "source", "tool-role-shared", "harness", Severity::blocks, "mover");
}

TEST_CASE("superusers that are connected block on the source and warn on the target") {
  const Pair pair("superusers");
  auto source = clusters().source.connect("superusers");
  auto target = clusters().target.connect("superusers");
  const Findings findings = check(pair);
  expect(findings, "source", "superuser-sessions", "postgres", Severity::blocks, "harness");
  expect(findings, "target", "superuser-sessions", "postgres", Severity::warns, "harness");
}

TEST_CASE("ordinary applications are no finding") {
  const Pair pair("ordinary");
  pair.quiet();
  auto app = clusters().source.connect("ordinary", "app");
  const Findings findings = check(pair);
  INFO(to_text(findings));
  CHECK_FALSE(cutover::check::blocks(findings));
}

TEST_CASE("a role that may not take CONNECT away learns who would survive") {
  const Pair pair("survivors");
  clusters().source.sql("postgres", "ALTER DATABASE survivors OWNER TO postgres");
  clusters().source.sql("postgres", "CREATE ROLE guest_survivor LOGIN REPLICATION");
  clusters().target.sql("postgres", "CREATE ROLE guest_survivor LOGIN REPLICATION");
  pair.quiet();
  const Findings findings = check(pair, "guest_survivor");
  expect(findings, "source", "connect-survives-revoke", "survivors", Severity::blocks, "app");
  for (const char* right : {"OWNER", "CREATE", "pg_signal_backend", "session_replication_role", "mover"}) {
    CAPTURE(std::string(right));
    expect(findings, "source", "missing-privilege", right, Severity::blocks, "guest_survivor");
  }
  expect(findings, "source", "missing-privilege", "pg_read_all_stats", Severity::warns, "guest_survivor");
  expect(findings, "target", "missing-privilege", "session_replication_role", Severity::blocks,
         "guest_survivor");
  const Findings app = check(pair, "app");
  expect(app, "source", "missing-privilege", "REPLICATION", Severity::blocks, "may not replicate");
  expect(app, "target", "missing-privilege", "REPLICATION", Severity::blocks, "may not replicate");
}

TEST_CASE("row security that applies to us blocks") {
  const Pair pair("rows_hidden");
  pair.on_source(
      "CREATE TABLE secret(id int PRIMARY KEY); ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW "
      "LEVEL SECURITY; "
      "ALTER TABLE secret OWNER TO app");
  pair.quiet();
  expect(check(pair, "app"), "source", "row-security", "public.secret", Severity::blocks, "app");
}

TEST_CASE("prepared transactions of this database block, those of others don't") {
  const Pair pair("prepared"), other("prepared_other");
  for (const Pair* p : {&pair, &other}) {
    auto session = clusters().source.connect(p->name, "mover");
    session.exec("BEGIN");
    session.exec("INSERT INTO good(x) VALUES ('p')");
    session.exec("PREPARE TRANSACTION 'of " + p->name + "'");
  }
  const Findings findings = check(pair);
  clusters().source.sql("prepared", "ROLLBACK PREPARED 'of prepared'");
  clusters().source.sql("prepared_other", "ROLLBACK PREPARED 'of prepared_other'");
  expect(findings, "source", "prepared-transactions", "of prepared", Severity::blocks, "mover");
  CHECK(checks::find(findings, "source", "prepared-transactions", "of prepared_other") == nullptr);
}

TEST_CASE("a long transaction is named by pid, whatever its database") {
  const Pair pair("long_one");
  auto app = clusters().source.connect("postgres", "app");
  app.exec("BEGIN");
  app.exec("SELECT 1");
  expect(check(pair), "source", "long-transactions", "pid " + std::to_string(app.backend_pid()),
         Severity::warns, "database postgres, idle in transaction");
}

TEST_CASE("slots of others warn, subscriptions block") {
  const Pair pair("others");
  clusters().source.sql("others", "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')");
  clusters().source.sql("others", "SELECT pg_create_logical_replication_slot('pgcutover_x', 'pgoutput')");
  clusters().source.sql("others",
                        "CREATE SUBSCRIPTION feed CONNECTION 'dbname=nowhere' PUBLICATION p "
                        "WITH (connect = false, slot_name = NONE)");
  CHECK(checks::find(check(pair), "source", "subscription", "feed") ==
        nullptr);  // not enabled: writes nothing
  clusters().source.sql("others", "ALTER SUBSCRIPTION feed SET (slot_name = 'x')");
  clusters().source.sql("others", "ALTER SUBSCRIPTION feed ENABLE");
  const Findings findings = check(pair);
  clusters().source.sql("others", "ALTER SUBSCRIPTION feed DISABLE");
  clusters().source.sql("others", "ALTER SUBSCRIPTION feed SET (slot_name = NONE)");
  clusters().source.sql("others", "DROP SUBSCRIPTION feed");
  for (const char* slot : {"debezium", "pgcutover_x"}) {
    clusters().source.sql("others", std::string("SELECT pg_drop_replication_slot('") + slot + "')");
  }
  expect(findings, "source", "foreign-slots", "debezium", Severity::warns, "pgoutput");
  CHECK(checks::find(findings, "source", "foreign-slots", "pgcutover_x") == nullptr);
  expect(findings, "source", "subscription", "feed", Severity::blocks, "worker");
}
