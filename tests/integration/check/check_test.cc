// One scenario for each finding: a good pair, spoilt in one way.
#include "cutover/check/check.h"

#include <doctest/doctest.h>
#include <functional>

#include "tests/integration/check/pair.h"

using checks::Pair;
using checks::to_text;
using cutover::check::CheckInput;
using cutover::check::run_checks;
using replication::base::Findings;
using replication::base::Severity;

namespace {

struct Scenario {
  const char* id;
  const char* server;
  const char* object;
  Severity severity;
  const char* on_source = "";  // as superuser
  const char* on_target = "";
  const char* says = "";  // in the message
  std::function<void(CheckInput&)> tweak = {};
  const char* clean_up = "";  // roles and slots outlive databases; on both clusters
};

constexpr Severity kBlocks = Severity::blocks, kWarns = Severity::warns;

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> all = {
      {"keyless-table", "source", "public.log", kBlocks,
       "CREATE TABLE log(m text); INSERT INTO log VALUES ('a'); UPDATE log SET m = 'b'; ALTER TABLE log "
       "OWNER TO mover",
       "", "saw 1 UPDATE"},
      {"keyless-table", "source", "public.log", kWarns,
       "CREATE TABLE log(m text); ALTER TABLE log OWNER TO mover", "", "would fail"},
      {"keyless-table", "source", "public.log", kWarns,
       "CREATE TABLE log(m text); INSERT INTO log VALUES ('a'); UPDATE log SET m = 'b'; ALTER TABLE log "
       "OWNER TO mover",
       "", "REPLICA IDENTITY FULL will be set", [](CheckInput& i) { i.keyless_full = true; }},
      {"keyless-table", "source", "public.late", kBlocks,
       "CREATE TABLE late(id int PRIMARY KEY DEFERRABLE); INSERT INTO late VALUES (1); DELETE FROM late; "
       "ALTER TABLE late OWNER TO mover",
       "", "DEFERRABLE"},
      {"keyless-table", "source", "public.whole", kWarns,
       "CREATE TABLE whole(m text); ALTER TABLE whole REPLICA IDENTITY FULL, OWNER TO mover", "",
       "whole table"},
      {"identity-nothing", "source", "public.none", kBlocks,
       "CREATE TABLE none(id int PRIMARY KEY); ALTER TABLE none REPLICA IDENTITY NOTHING, OWNER TO mover; "
       "INSERT INTO none VALUES (1); UPDATE none SET id = 2",
       "", "NOTHING"},
      {"generated-key", "source", "public.g", kBlocks,
       "CREATE TABLE g(a int, b int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY); ALTER TABLE g OWNER TO "
       "mover",
       "", "column b"},
      {"enum-hash-partition", "source", "public.by_mood", kBlocks,
       "CREATE TYPE public.mood AS ENUM ('good', 'bad'); CREATE TABLE public.by_mood (m public.mood NOT "
       "NULL, n int, "
       "PRIMARY KEY (m, n)) PARTITION BY HASH (m)"},
      {"enum-hash-partition", "source", "public.by_moods", kBlocks,
       "CREATE TYPE public.mood AS ENUM ('good', 'bad'); CREATE DOMAIN public.humour AS public.mood; CREATE "
       "TYPE "
       "public.humours AS (n int, h public.humour[]); CREATE TABLE public.by_moods (m public.humours) "
       "PARTITION "
       "BY HASH (m)"},
      {"tablespace-missing",
       "target",
       "fast",
       kBlocks,
       "CREATE INDEX in_fast ON good(x); INSERT INTO pg_tablespace(oid, spcname, spcowner) VALUES (999997, "
       "'fast', "
       "10); UPDATE pg_class SET reltablespace = 999997 WHERE relname = 'in_fast'",
       "",
       "public.in_fast",
       {},
       "DELETE FROM pg_tablespace WHERE spcname = 'fast'"},
      {"collation-missing", "target", "xx_YY.utf8", kBlocks,
       "CREATE COLLATION pg_catalog.\"xx_YY.utf8\" (LOCALE = 'C'); CREATE TABLE sorted(v text COLLATE "
       "\"xx_YY.utf8\"); ALTER TABLE sorted OWNER TO mover",
       "", "column v of table public.sorted"},
      {"collation-missing", "target", "public.not_there", kBlocks,
       "CREATE COLLATION not_there (LOCALE = 'C'); UPDATE pg_collation SET collcollate = 'xx_YY', collctype "
       "= "
       "'xx_YY' WHERE collname = 'not_there'",
       "", "could not create locale"},
      {"settings-differ", "target", "TimeZone", kWarns, "", "", "'UTC' here, with 'Asia/Tokyo' on the source",
       [](CheckInput& i) {
         i.source_settings = {{"TimeZone", "Asia/Tokyo", false}, {"DateStyle", "German", true}};
         i.target_settings = {{"DateStyle", "ISO, MDY", false}, {"TimeZone", "UTC", false}};
       }},
      {"user-mapping", "source", "far app", kWarns,
       "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR app "
       "SERVER "
       "far OPTIONS (password 'x')"},
      {"missing-privilege", "target", "EXTENSION postgres_fdw", kBlocks, "CREATE EXTENSION postgres_fdw"},
      {"unlogged-tables", "source", "public.scratch", kWarns,
       "CREATE UNLOGGED TABLE scratch(id int PRIMARY KEY); ALTER TABLE scratch OWNER TO mover", "",
       "copied again before the pause"},
      {"unlogged-tables", "source", "public.scratch", kWarns,
       "CREATE UNLOGGED TABLE scratch(id int PRIMARY KEY); ALTER TABLE scratch OWNER TO mover", "",
       "empty on the target", [](CheckInput& i) { i.unlogged_data = false; }},
      {"trigger-fires-always", "source", "public.good.t", kWarns,
       "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; ALTER FUNCTION f() "
       "OWNER TO mover; "
       "CREATE TRIGGER t AFTER INSERT ON good FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE good ENABLE "
       "ALWAYS TRIGGER t"},
      {"large-objects", "source", "", kWarns, "SELECT lo_create(0)", "", "1 large objects"},
      {"matviews", "source", "", kWarns, "CREATE MATERIALIZED VIEW mv AS SELECT 1", "", "\"public\".\"mv\""},
      {"foreign-tables", "source", "public.ft", kWarns,
       "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE ft(id "
       "int) SERVER s"},
      {"missing-privilege", "source", "app", kBlocks,
       "CREATE TABLE theirs(id int PRIMARY KEY); ALTER TABLE theirs OWNER TO app", "", "public.theirs"},
      {"missing-privilege", "source", "app", kBlocks,
       "CREATE SEQUENCE theirs; ALTER SEQUENCE theirs OWNER TO app", "", "1 sequence(s)"},
      {"missing-privilege", "source", "app", kBlocks,
       "SELECT lo_create(7001), lo_create(7002), lo_create(7003); ALTER LARGE OBJECT 7001 OWNER TO app; "
       "ALTER LARGE "
       "OBJECT 7002 OWNER TO app; GRANT SELECT ON LARGE OBJECT 7002 TO mover; ALTER LARGE OBJECT 7003 OWNER "
       "TO mover",
       "", "1 large object(s) (7001)"},
      {"missing-privilege", "source", "USAGE ON SCHEMA closed", kBlocks,
       "CREATE SCHEMA closed; CREATE TABLE closed.t(id int PRIMARY KEY); ALTER TABLE closed.t OWNER TO "
       "mover"},
      {"member-of-tool-role",
       "source",
       "insider",
       kBlocks,
       "CREATE ROLE insider LOGIN; GRANT mover TO insider",
       "",
       "behind the fence",
       {},
       "DROP ROLE IF EXISTS insider"},
      {"extensions-missing", "target", "postgis", kBlocks,
       "INSERT INTO pg_extension(oid, extname, extowner, extnamespace, "
       "extrelocatable, "
       "extversion) VALUES (999999, 'postgis', 10, 2200, false, '3.4')",
       "", "3.4"},
      {"extension-version", "target", "citext", kWarns, "CREATE EXTENSION citext VERSION '1.4'", "", "1.4"},
      {"scheduled-jobs", "source", "pg_cron", kWarns,
       "INSERT INTO pg_extension(oid, extname, extowner, extnamespace, "
       "extrelocatable, "
       "extversion) VALUES (999998, 'pg_cron', 10, 2200, false, '1.6')"},
      {"leftover", "source", "pgcutover", kBlocks,
       "CREATE SCHEMA pgcutover; CREATE TABLE pgcutover.other(id int)", "", "aren't this tool's"},
      {"leftover", "target", "pgcutover", kBlocks, "",
       "CREATE SCHEMA pgcutover; CREATE TABLE pgcutover.run(name text, source_system text, target_system "
       "text, "
       "source_database text, target_database text, created_at timestamptz DEFAULT now()); "
       "INSERT INTO pgcutover.run VALUES ('shop', '1', '2', 'old', 'new'); "
       "GRANT USAGE ON SCHEMA pgcutover TO mover; GRANT SELECT ON pgcutover.run TO mover",
       "migration shop"},
      {"leftover", "target", "pgcutover", kBlocks, "",
       "CREATE SCHEMA pgcutover; CREATE TABLE pgcutover.run(name text)", "another role"},
      {"needs-left-out", "source", "view public.v", kBlocks,
       "CREATE TABLE big(id int PRIMARY KEY); ALTER TABLE big OWNER TO mover; CREATE VIEW v AS SELECT * FROM "
       "big",
       "", "needs public.big", [](CheckInput& i) { i.filter.exclude = {"public.big"}; }},
      {"needs-left-out", "source", "function public.f(public.big)", kBlocks,
       "CREATE TABLE big(id int PRIMARY KEY); ALTER TABLE big OWNER TO mover; CREATE FUNCTION f(big) RETURNS "
       "int "
       "LANGUAGE sql AS 'SELECT 1'",
       "", "needs public.big", [](CheckInput& i) { i.filter.include = {"public.good"}; }},
      {"needs-left-out", "source", "table constraint to_big on public.small", kWarns,
       "CREATE TABLE big(id int PRIMARY KEY); ALTER TABLE big OWNER TO mover; CREATE TABLE small(id int "
       "PRIMARY KEY "
       "CONSTRAINT to_big REFERENCES big); ALTER TABLE small OWNER TO mover",
       "", "isn't made", [](CheckInput& i) { i.filter.exclude = {"public.big"}; }},
      {"event-triggers", "source", "watch", kWarns,
       "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER "
       "watch ON "
       "ddl_command_end EXECUTE FUNCTION e()"},
      {"event-triggers", "target", "watch", kWarns, "",
       "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER "
       "watch ON "
       "ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION e()",
       "CREATE TABLE"},
      {"inherited-column-order", "source", "public.c", kWarns,
       "CREATE TABLE p(id int); CREATE TABLE c(own int, id int, PRIMARY KEY (id)); ALTER TABLE c INHERIT p; "
       "ALTER TABLE "
       "p OWNER TO mover; ALTER TABLE c OWNER TO mover"},
      {"extension-tables", "source", "public.settings", kWarns,
       "CREATE EXTENSION citext; CREATE TABLE settings(k text); ALTER EXTENSION citext ADD TABLE settings; "
       "UPDATE "
       "pg_extension SET extconfig = ARRAY['public.settings'::regclass::oid], extcondition = ARRAY[''] WHERE "
       "extname = "
       "'citext'"},
      {"slot-runway", "source", "", kBlocks, "CHECKPOINT", "", "lasts",
       [](CheckInput& i) { i.source_free_bytes = 0; }},
      {"slot-runway", "source", "", kWarns, "", "", "isn't known"},
      {"pg-dump", "source", "/no/such/place/pg_dump", kBlocks, "", "", "",
       [](CheckInput& i) { i.pg_bindir = "/no/such/place"; }},
      {"max-connections", "source", "max_connections", kBlocks, "", "", "with 5000 copy jobs",
       [](CheckInput& i) { i.jobs = 5000; }},
      {"max-connections", "target", "max_connections", kBlocks, "", "", "with 5000 copy jobs",
       [](CheckInput& i) { i.jobs = 5000; }},
  };
  return all;
}

Findings check(const Pair& pair, const std::function<void(CheckInput&)>& tweak = {},
               const char* user = "mover") {
  pair.quiet();
  Pair::Sessions sessions = pair.sessions(user);
  CheckInput input{.source = sessions.source, .target = sessions.target};
  input.wal_sample = replication::base::milliseconds(50);
  if (tweak)
    tweak(input);
  return run_checks(input);
}

void expect(const Findings& findings, const char* server, const char* id, const char* object,
            Severity severity, const char* says = "") {
  INFO(to_text(findings));
  CHECK(checks::well_formed(findings));
  const auto* found = checks::find(findings, server, id, object);
  REQUIRE(found != nullptr);
  CHECK(found->severity == severity);
  CHECK(found->message.find(says) != std::string::npos);
  CHECK_FALSE(found->remedy.empty());
}

}  // namespace

TEST_CASE("a good pair has nothing that blocks") {
  const Pair pair("good_pair");
  const Findings findings = check(pair);
  INFO(to_text(findings));
  CHECK_FALSE(cutover::check::blocks(findings));
  CHECK(checks::well_formed(findings));
  // Nothing to say but that the free space can't be seen; before 15, when the tool is a superuser, as much.
  CHECK(findings.size() == 1);
  CHECK(check(pair, [](CheckInput& i) { i.source_free_bytes = std::int64_t{1} << 60; }).empty());
}

TEST_CASE("each way to spoil the pair is found, with its remedy") {
  int number = 0;
  for (const Scenario& s : scenarios()) {
    ++number;
    CAPTURE(number);
    CAPTURE(std::string(s.id));
    CAPTURE(std::string(s.says));
    const bool superuser_tool = checks::clusters().source.major() < 15;
    if (superuser_tool &&
        (std::string_view(s.id) == "missing-privilege" || std::string_view(s.id) == "user-mapping" ||
         std::string_view(s.says) == "another role")) {
      continue;  // nothing is missing for a superuser
    }
    if (checks::clusters().source.major() < 14 && std::string_view(s.object) == "public.by_moods") {
      continue;  // composite types have no hash yet
    }
    const Pair pair("spoilt_" + std::to_string(number));
    if (*s.on_source != '\0')
      pair.on_source(s.on_source);
    if (*s.on_target != '\0')
      pair.on_target(s.on_target);
    Findings findings;
    // Statistics of the spoiling session arrive a moment after it ended (before 15).
    harness::wait_until(replication::base::Deadline::in(replication::base::milliseconds(180'000)),
                        "it is found", [&] {
                          findings = check(pair, s.tweak);
                          const auto* found = checks::find(findings, s.server, s.id, s.object);
                          return found != nullptr && found->severity == s.severity;
                        });
    expect(findings, s.server, s.id, s.object, s.severity, s.says);
    if (s.severity == kBlocks)
      CHECK(cutover::check::blocks(findings));
    if (*s.clean_up != '\0') {
      checks::clusters().source.sql("postgres", s.clean_up);
      checks::clusters().target.sql("postgres", s.clean_up);
    }
  }
}

TEST_CASE("a target that isn't empty is refused, with the first of what it holds") {
  const Pair pair("not_empty");
  const char* spoilers[] = {"CREATE TABLE t(id int)",
                            "CREATE SEQUENCE s",
                            "CREATE VIEW v AS SELECT 1",
                            "CREATE TYPE mood AS ENUM ('x')",
                            "CREATE DOMAIN d AS int",
                            "CREATE TYPE pair AS (a int)",
                            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                            "CREATE SCHEMA shop",
                            "SELECT lo_create(0)"};
  for (const char* sql : spoilers) {
    CAPTURE(std::string(sql));
    const std::string database = "not_empty";
    checks::clusters().target.sql("postgres", "DROP DATABASE " + database);
    checks::clusters().target.sql("postgres",
                                  "CREATE DATABASE " + database + " OWNER mover TEMPLATE template0");
    pair.on_target(sql);
    expect(check(pair), "target", "target-not-empty", "not_empty", kBlocks, "1 object(s)");
  }
  pair.on_target("CREATE EXTENSION citext");
  expect(check(pair), "target", "target-not-empty", "not_empty", kBlocks, "1 object(s)");
}

TEST_CASE("a migration under way finds its own tables on the target and goes on") {
  const Pair pair("under_way");
  const auto system = [](const harness::Cluster& c) {
    return *c.value("postgres", "SELECT system_identifier FROM pg_control_system()");
  };
  const std::string record =
      "CREATE SCHEMA pgcutover AUTHORIZATION mover; CREATE TABLE pgcutover.run(name text, source_system "
      "text, "
      "target_system text, source_database text, target_database text); ALTER TABLE pgcutover.run OWNER TO "
      "mover; "
      "INSERT INTO pgcutover.run VALUES ('x', '" +
      system(checks::clusters().source) + "', '" + system(checks::clusters().target) +
      "', 'under_way', 'under_way')";
  pair.on_source(record);
  pair.on_target(record +
                 "; CREATE TABLE pgcutover.fact(key text, value text); ALTER TABLE pgcutover.fact OWNER TO "
                 "mover; CREATE TABLE good(id int)");
  const Findings findings = check(pair);
  INFO(to_text(findings));
  CHECK_FALSE(cutover::check::blocks(findings));
}

TEST_CASE("encoding and collation are compared") {
  const Pair pair("texts");
  checks::clusters().target.sql("postgres", "DROP DATABASE texts");
  checks::clusters().target.sql(
      "postgres",
      "CREATE DATABASE texts OWNER mover TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
  const Findings findings = check(pair);
  expect(findings, "target", "encoding-differs", "texts", kBlocks, "LATIN1");
  expect(findings, "target", "collation-differs", "texts", kWarns, "C/C");
}

TEST_CASE("the same database twice is refused, two databases of one server are remarked on") {
  const Pair pair("once"), other("twice");
  pair.quiet();
  auto a = checks::tool_session(checks::clusters().source, "source", "once", "mover");
  auto b = checks::tool_session(checks::clusters().source, "target", "once", "mover");
  expect(run_checks({.source = a, .target = b}), "target", "same-database", "once", kBlocks);
  auto c = checks::tool_session(checks::clusters().source, "target", "twice", "mover");
  expect(run_checks({.source = a, .target = c}), "target", "same-cluster", "twice", kWarns);
}

TEST_CASE("an accepted finding warns, by id or by id and object, and no other does") {
  const Pair pair("accepting");
  pair.on_source(
      "CREATE TABLE a(id int PRIMARY KEY DEFERRABLE); CREATE TABLE b(id int PRIMARY KEY DEFERRABLE); "
      "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); DELETE FROM a; DELETE FROM b; "
      "ALTER TABLE a OWNER TO mover; ALTER TABLE b OWNER TO mover");
  harness::wait_until(replication::base::Deadline::in(replication::base::milliseconds(180'000)),
                      "the deletions are in the statistics", [&] {
                        return checks::clusters().source.value(
                                   pair.name,
                                   "SELECT count(*) FROM pg_stat_user_tables WHERE n_tup_del > 0") == "2";
                      });
  const Findings one = check(pair, [](CheckInput& i) { i.accepted = {"keyless-table:public.a"}; });
  expect(one, "source", "keyless-table", "public.a", kWarns, "(accepted)");
  expect(one, "source", "keyless-table", "public.b", kBlocks);
  const Findings both = check(pair, [](CheckInput& i) { i.accepted = {"keyless-table"}; });
  CHECK_FALSE(cutover::check::blocks(both));
  const Findings filtered = check(pair, [](CheckInput& i) { i.filter.exclude = {"public.?"}; });
  CHECK_FALSE(cutover::check::blocks(filtered));
}

TEST_CASE("checking changes nothing on either server") {
  const Pair pair("untouched");
  pair.on_source("GRANT CONNECT ON DATABASE untouched TO app");
  const std::string print = R"(
    SELECT md5(string_agg(part, '' ORDER BY part)) FROM (
      SELECT 'd' || xmin || d::text AS part FROM pg_database d UNION ALL
      SELECT 'r' || xmin || r::text FROM pg_authid r UNION ALL SELECT 'm' || xmin || m::text FROM pg_auth_members m UNION ALL
      SELECT 's' || xmin || s::text FROM pg_db_role_setting s UNION ALL
      SELECT 'c' || xmin || c::text FROM pg_class c UNION ALL SELECT 'a' || xmin || a::text FROM pg_attribute a UNION ALL
      SELECT 'n' || xmin || n::text FROM pg_namespace n UNION ALL SELECT 'p' || xmin || oid::text FROM pg_proc UNION ALL
      SELECT 'u' || xmin || u::text FROM pg_publication u UNION ALL SELECT 'l' || slot_name FROM pg_replication_slots
    ) parts)";
  const auto both = [&] {
    return *checks::clusters().source.value("untouched", print) +
           *checks::clusters().target.value("untouched", print);
  };
  const std::string before = both();
  CHECK_FALSE(check(pair).empty());
  CHECK_FALSE(check(pair, {}, "app").empty());
  CHECK(both() == before);
  pair.on_source("CREATE TABLE canary(id int)");
  CHECK(both() != before);
}

TEST_CASE(
    "roles that the target lacks are named: what will be made, what can't be, what would not be the same") {
  const Pair pair("roles");
  auto& source = checks::clusters().source;
  auto& target = checks::clusters().target;
  source.sql(
      "postgres",
      "CREATE ROLE lone_owner; CREATE ROLE lone_login LOGIN PASSWORD 'one' IN ROLE lone_owner; CREATE ROLE "
      "lone_admin SUPERUSER; CREATE ROLE both_sides LOGIN PASSWORD 'x'; CREATE ROLE not_here LOGIN");
  target.sql("postgres", "CREATE ROLE both_sides LOGIN PASSWORD 'y'");
  pair.on_source(
      "CREATE SCHEMA theirs AUTHORIZATION lone_owner; CREATE SCHEMA admins AUTHORIZATION lone_admin; GRANT "
      "USAGE ON SCHEMA public TO both_sides");
  const bool superuser = target.major() < 15;  // our role, where nothing less will do
  const auto refused = check(pair);
  expect(refused, "target", "roles-missing", "lone_owner", superuser ? kWarns : kBlocks,
         superuser ? "will be made" : "mover may not make roles");
  expect(check(pair, [](CheckInput& i) { i.create_roles = false; }), "target", "roles-missing", "lone_login",
         kBlocks, "doesn't exist here");
  target.sql("postgres", "ALTER ROLE mover CREATEROLE");
  auto findings = check(pair);
  expect(findings, "target", "roles-missing", "lone_owner", kWarns, "will be made");
  expect(findings, "target", "roles-missing", "lone_admin", kWarns, "not as a superuser");
  if (!superuser && source.major() >= 15) {
    expect(findings, "target", "roles-missing", "lone_login", kWarns, "without a password");
    CHECK(checks::find(findings, "target", "role-password", "both_sides") == nullptr);
  }
  CHECK(checks::find(findings, "target", "roles-missing", "both_sides") == nullptr);
  CHECK(checks::find(findings, "target", "roles-missing", "not_here") == nullptr);
  findings = check(pair, {}, "postgres");
  expect(findings, "target", "roles-missing", "lone_login", kWarns, "with its password's verifier");
  expect(findings, "target", "role-password", "both_sides", kWarns, "isn't the source's");
  CHECK(to_text(findings).find("SCRAM-SHA-256") == std::string::npos);
  pair.on_source("DROP SCHEMA theirs, admins; REVOKE ALL ON SCHEMA public FROM both_sides");
  source.sql("postgres", "DROP ROLE lone_login, lone_owner, lone_admin, both_sides, not_here");
  target.sql("postgres", "DROP ROLE both_sides; ALTER ROLE mover NOCREATEROLE");
}

TEST_CASE("FORCE ROW LEVEL SECURITY would hide rows from our role on the target") {
  const Pair pair("forced");
  if (checks::clusters().target.major() < 15) {
    return;  // our role is a superuser, whom nothing is hidden from
  }
  pair.on_source_as_mover("ALTER TABLE good ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY");
  const auto findings = check(pair);
  if (checks::clusters().source.major() >= 15) {
    expect(findings, "source", "row-security", "public.good", kBlocks);
  }
  expect(findings, "target", "row-security", "public.good", kBlocks, "FORCE");
}

TEST_CASE(
    "a virtual column under REPLICA IDENTITY FULL blocks: the server would refuse the application's UPDATE") {
  if (checks::clusters().source.major() < 18) {
    return;
  }
  const Pair pair("virtual");
  pair.on_source_as_mover("CREATE TABLE v(a int, b int GENERATED ALWAYS AS (a + 1) VIRTUAL)");
  CHECK(checks::find(check(pair), "source", "generated-key", "public.v") == nullptr);
  const auto findings = check(pair, [](CheckInput& i) { i.keyless_full = true; });
  expect(findings, "source", "generated-key", "public.v", kBlocks, "virtual");
  pair.on_source(
      "INSERT INTO v VALUES (1); ALTER TABLE v REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE v WITH "
      "(publish_generated_columns = stored)");
  CHECK_THROWS(pair.on_source("UPDATE v SET a = 2"));
}

TEST_CASE("a table with a very large value is named from a sample") {
  const Pair pair("large");
  pair.on_source_as_mover(
      "CREATE TABLE wide(id int PRIMARY KEY, v text); ALTER TABLE wide ALTER v SET STORAGE EXTERNAL");
  pair.on_source_as_mover(
      "INSERT INTO wide VALUES (1, repeat('x', 3000000)); CREATE TABLE narrow(id int PRIMARY KEY, v "
      "text); INSERT INTO narrow SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 300) i");
  const auto findings = check(
      pair, [](CheckInput& i) { i.large_row_bytes = 1 << 20; }, "postgres");
  expect(findings, "source", "large-rows", "public.wide", kWarns, "at least 2.");
  CHECK(checks::find(findings, "source", "large-rows", "public.narrow") == nullptr);
}

TEST_CASE("what can't be left out is named with its reason, before anything begins") {
  const Pair pair("left_out");
  pair.on_source(
      "CREATE SCHEMA app; CREATE DOMAIN app.full_text AS text NOT NULL;"
      "CREATE TABLE app.o (id int PRIMARY KEY, free text, def text NOT NULL DEFAULT 'x', bare text NOT NULL, "
      "dom "
      "app.full_text, ser serial, uni text UNIQUE, part text, expr text, base int, gen int GENERATED ALWAYS "
      "AS (base + "
      "1) STORED, chk int CHECK (chk > 0), ref int REFERENCES app.o, span int4range, EXCLUDE USING gist "
      "(span WITH &&));"
      "CREATE UNIQUE INDEX o_part ON app.o (id) WHERE part IS NULL; CREATE UNIQUE INDEX o_expr ON app.o "
      "(lower(expr));"
      "CREATE TABLE app.i (id int PRIMARY KEY, ide int GENERATED BY DEFAULT AS IDENTITY, alt int NOT NULL);"
      "CREATE UNIQUE INDEX i_alt ON app.i (alt); ALTER TABLE app.i REPLICA IDENTITY USING INDEX i_alt;"
      "CREATE TABLE app.p (id int, k int, e int, n text) PARTITION BY RANGE (k, (e + 1));"
      "CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES FROM (0, 0) TO (9, 9);"
      "CREATE TABLE app.every (a int, b int); CREATE UNLOGGED TABLE app.un (id int PRIMARY KEY, x int)");
  const auto findings = check(pair, [](CheckInput& input) {
    input.filter.columns.exclude = {"app.o.*",     "app.i.ide", "app.i.alt",   "app.p.[ken]",
                                    "app.every.*", "app.un.x",  "app.nobody.*"};
    input.keyless_full = true;
  });
  INFO(to_text(findings));
  CHECK(checks::well_formed(findings));
  const auto blocks = [&](const char* object, const char* says) {
    expect(findings, "source", "left-out-column", object, kBlocks, says);
  };
  blocks("app.o.id", "is in the ");  // of the key, and more
  blocks("app.o.bare", "it is NOT NULL without a default");
  blocks("app.o.dom", "it is NOT NULL without a default");
  blocks("app.o.ser", "sequence o_ser_seq");
  blocks("app.o.uni", "unique index o_uni_key");
  blocks("app.o.part", "unique index o_part");
  blocks("app.o.expr", "unique index o_expr");
  blocks("app.o.base", "generated column gen");
  blocks("app.o.chk", "CHECK constraint o_chk_check");
  blocks("app.o.ref", "foreign key o_ref_fkey");
  blocks("app.o.span", "exclusion constraint");
  blocks("app.i.ide", "identity column");
  blocks("app.i.alt", "replica identity");
  blocks("app.p.k", "partition key");
  blocks("app.p.e", "partition key");
  blocks("app.every", "every column is left out");
  blocks("app.un.x", "unlogged");
  for (const auto* fine : {"app.o.free", "app.o.def", "app.o.gen", "app.p.n", "app.p1.n", "app.p1.k"}) {
    CHECK(checks::find(findings, "source", "left-out-column", fine) == nullptr);
  }
  expect(findings, "source", "columns-left-out", "", kWarns, "app.p.n");
  expect(findings, "source", "left-out-way-back", "app.p", kWarns, "another partition");
  expect(findings, "source", "left-out-way-back", "app.p1", kWarns, "has no key");
  expect(findings, "source", "exclude-columns-unused", "app.nobody.*", kWarns, "matches no column");
  CHECK(checks::find(findings, "source", "exclude-columns-unused", "app.o.*") == nullptr);
}
