// Everything a database can hold, moved by the real program and compared from outside.
#include <algorithm>
#include <doctest/doctest.h>
#include <set>

#include "tests/harness/tool.h"
#include "tests/harness/wait.h"
#include "tests/integration/torture/dump_compare.h"
#include "tests/integration/torture/stage.h"

namespace {

using harness::Tool;
using replication::base::Deadline;
using replication::base::milliseconds;
using torture::kDatabase;
using torture::Stage;

// What is bound to differ: the fence took CONNECT away, a foreign key that the rows violate isn't valid, and
// pg_dump puts the inherited columns of a child first.
bool expected(const std::string& difference) {
  for (const auto* header : {"DATABASE torture; Type: ACL;", "liar liar_customer; Type: FK CONSTRAINT;",
                             "child_late; Type: TABLE;"}) {
    if (difference.starts_with(header)) {
      return true;
    }
  }
  return false;
}

// Every row of both sides; returns the source's.
torture::Dump check_contents(Stage& stage) {
  const auto rows = torture::contents(stage.source, kDatabase);
  const auto found = torture::differences(rows, torture::contents(stage.target, kDatabase));
  CHECK_MESSAGE(found.empty(), torture::joined(found));
  return rows;
}

void change(const harness::Cluster& side) {
  side.sql(kDatabase, R"(
    INSERT INTO app.nothing DEFAULT VALUES;
    INSERT INTO app.only_dropped DEFAULT VALUES;
    INSERT INTO app.only_generated DEFAULT VALUES;
    INSERT INTO app.keyless VALUES (1, 'x'), (2, NULL);
    UPDATE app.keyless SET b = 'y' WHERE a = 2;
    DELETE FROM app.keyless WHERE a IS NULL;
    UPDATE app.wide SET c0 = c0 + 1000, c1599 = NULL;
    UPDATE app.sale SET day = day + 40, region = 'moved' WHERE id BETWEEN 100 AND 120;
    DELETE FROM app.sale WHERE id BETWEEN 60 AND 80;
    UPDATE app.child SET id = id + 10, c = 'late';
    UPDATE app.parent_a SET a = 'all of them';
    INSERT INTO app.child_late (a, id, extra) SELECT 'new', max(id) + 1, 3 FROM app.child_late;
    UPDATE app.long_row SET id = id + 1000;
    UPDATE app.specials SET id = id + 1000;
    UPDATE "sch.ema; --"."ta""ble ;' .x" SET "%s" = 3, U&"tab\0009" = 4;
    UPDATE app.identity_by_index SET a = a + 1000;
    UPDATE app.by_expression SET a = a + 1;
    DELETE FROM app.typed;
    UPDATE public."user" SET "group" = NULL;
  )");
}

// Triggers that would fire for what the stream writes sleep on the side that receives.
bool sleeps(const std::string& difference) {
  return difference.starts_with("customer t_always; Type: TRIGGER;") ||
         difference.starts_with("customer t_replica; Type: TRIGGER;");
}

enum class Stream { writes, ended };

void check_schema(Stage& stage, Stream stream) {
  const bool other = stage.source.major() != stage.target.major();
  const auto source = torture::dump_schema(stage.source, kDatabase, other);
  CHECK(source.size() > 250);
  auto found = torture::differences(source, torture::dump_schema(stage.target, kDatabase, other));
  std::erase_if(found, expected);
  if (stream == Stream::writes) {
    CHECK(std::erase_if(found, sleeps) == 2);
  }
  CHECK_MESSAGE(found.empty(), torture::joined(found));
}

// No password and no verifier in what the tool says, keeps or reports, nor in the target's log, which logs
// everything.
void expect_no_secret(Stage& stage, const Tool& run) {
  const auto verifier =
      stage.source.value("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'torture_reader'")
          .value();
  REQUIRE(verifier.starts_with("SCRAM-SHA-256$"));
  std::string seen =
      run.output() + run.errors() + stage.target.log() + stage.tool({"report", "--format", "json"}).output;
  for (const auto* side : {&stage.source, &stage.target}) {
    auto session = side->connect(kDatabase);
    const auto tables = session.exec(
        "SELECT format('pgcutover.%I', tablename) FROM pg_tables WHERE schemaname = "
        "'pgcutover'");
    CHECK(tables.rows() > 3);
    for (int row = 0; row < tables.rows(); ++row) {
      seen += session.one_value("SELECT coalesce(string_agg(t::text, ' '), '') FROM " + tables.text(row, 0) +
                                " t");
    }
  }
  CHECK(seen.find("CREATE SCHEMA app") != std::string::npos);  // the log does log
  for (const std::string& secret :
       {verifier, verifier.substr(verifier.size() - 40), std::string("reader-plain-password")}) {
    CHECK(seen.find(secret) == std::string::npos);
  }
}

}  // namespace

TEST_CASE("a database with every kind of object arrives whole") {
  Stage stage;
  Tool run({"run", "--plan", stage.directory.file("plan.yaml")});
  run.wait_output("streaming from the source", Deadline::in(milliseconds(180'000)));

  const auto rows = check_contents(stage);
  CHECK(rows.size() > 55);
  check_schema(stage, Stream::writes);

  expect_no_secret(stage, run);

  // Changes of tables that have no key, no columns, other columns than their parents...
  change(stage.source);
  const auto verified = stage.tool({"verify"});
  CHECK_MESSAGE(verified.exit_code == 0, verified.output << verified.errors << run.errors());
  CHECK(check_contents(stage) != rows);

  const auto switched = stage.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  change(stage.target);
  const auto back = stage.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  stage.target.sql(kDatabase, "REFRESH MATERIALIZED VIEW app.postponed");  // the opened side's was
  check_contents(stage);
  const auto finished = stage.tool({"finish", "--yes"});
  CHECK_MESSAGE(finished.exit_code == 0, finished.errors);
  check_schema(stage, Stream::ended);
}

TEST_CASE("cancel leaves the target as it was found: no object, no role, no setting, no default right") {
  Stage stage;
  const auto before = torture::dump_schema(stage.target, kDatabase, false);
  const auto content = torture::contents(stage.target, kDatabase);
  const auto defaults = "SELECT count(*) FROM pg_default_acl";
  stage.target.sql(kDatabase, "ALTER DATABASE torture SET work_mem = '9MB'");  // put back, not reset
  stage.target.sql(kDatabase, "CREATE ROLE torture_policy");                   // was there before: stays
  // Schema public is there before and after, and another one meanwhile.
  const auto kPublic =
      "SELECT pg_get_userbyid(nspowner) || ' ' || (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM "
      "unnest(nspacl) x) || ' ' || obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = "
      "'public'";
  stage.target.sql(kDatabase, "GRANT CREATE ON SCHEMA public TO torture_policy WITH GRANT OPTION");
  stage.source.sql(
      kDatabase,
      "ALTER SCHEMA public OWNER TO torture_owner; GRANT USAGE ON SCHEMA public TO torture_reader; "
      "COMMENT ON SCHEMA public IS 'of the source'");
  const auto public_before = stage.target.value(kDatabase, kPublic);
  for (int round = 1; round <= 2; ++round) {
    INFO("round " << round);
    const auto run = stage.tool({"run", "--until", "indexes"});
    REQUIRE_MESSAGE(run.exit_code == 0, run.errors);
    CHECK(stage.target.value(kDatabase, defaults) == stage.source.value(kDatabase, defaults));
    CHECK(stage.target.value(kDatabase,
                             "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = "
                             "'public'") == "torture_owner");
    CHECK(stage.target.value("postgres", "SELECT count(*) FROM pg_roles WHERE rolname ILIKE 'torture%'") ==
          "7");
    const auto cancelled = stage.tool({"cancel", "--yes"});
    CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
    CHECK(cancelled.errors.find("not taken back") == std::string::npos);
    CHECK(stage.target.value(
              "postgres", "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolname ILIKE 'torture%'") ==
          "torture_policy");
    CHECK(stage.target.value("postgres",
                             "SELECT string_agg(c, ',') FROM pg_db_role_setting, unnest(setconfig) c "
                             "WHERE setdatabase <> 0") == "work_mem=9MB");
    CHECK(stage.target.value(kDatabase, defaults) == "0");
    CHECK(stage.target.value(kDatabase, kPublic) == public_before);
  }
  stage.target.sql(kDatabase, "REVOKE ALL ON SCHEMA public FROM torture_policy");
  stage.target.sql("postgres", "DROP ROLE torture_policy; ALTER DATABASE torture RESET ALL");
  const auto found = torture::differences(before, torture::dump_schema(stage.target, kDatabase, false));
  CHECK_MESSAGE(found.empty(), torture::joined(found));
  CHECK((torture::contents(stage.target, kDatabase) == content));
}
