// `pgcutover sequences` on real servers, without any migration: the story the tool was founded on, what the
// verbs show, and what is refused. The hard cases of `bump` are in bump_test.cc.
#include <algorithm>
#include <doctest/doctest.h>
#include <sstream>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/sequences/verb_pair.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using verb::cluster;
using verb::Pair;
using verb::value;

// Two apps wrote: the old one after the snapshot, the new one on the restored copy. Then the gap is filled.
void backfill(const Pair& pair) {
  auto from = cluster().connect(pair.source());
  const auto rows = from.exec("SELECT id, name FROM profile_0 WHERE id > 3 ORDER BY id");
  REQUIRE(rows.rows() == 3);
  for (int row = 0; row < rows.rows(); ++row) {
    cluster().sql(pair.target(),
                  "INSERT INTO profile_0 VALUES (" + rows.text(row, 0) + ", '" + rows.text(row, 1) + "')");
  }
}

TEST_CASE("the story this was made for: without the bump the backfill collides, with it all rows arrive") {
  const Pair pair;
  pair.both(
      "CREATE TABLE profile_0 (id serial PRIMARY KEY, name text); INSERT INTO profile_0 (name) VALUES ('a'), "
      "('b'), "
      "('c')");
  const bool bumped = [&] {
    bool yes = false;
    SUBCASE("without the bump") {
      yes = false;
    }
    SUBCASE("with it") {
      yes = true;
    }
    return yes;
  }();
  cluster().sql(pair.source(),
                "INSERT INTO profile_0 (name) VALUES ('d'), ('e'), ('f')");  // after the snapshot
  if (bumped) {
    const auto result = pair.tool({"bump", "--yes"});
    REQUIRE_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(has(result.errors, "making the schema pgcutover on the source"));
  }
  cluster().sql(pair.target(), "INSERT INTO profile_0 (name) VALUES ('new'), ('newer')");
  if (!bumped) {
    CHECK_THROWS_WITH_AS(
        backfill(pair),
        doctest::Contains("duplicate key value violates unique constraint \"profile_0_pkey\""),
        replication::base::Error);
    return;
  }
  backfill(pair);
  CHECK(value(pair.target(), "SELECT count(*) FROM profile_0") == "8");
  // The way back: what the new side made fits into the old one, which goes on even further ahead.
  const auto made = value(pair.target(), "SELECT max(id) FROM profile_0");
  cluster().sql(pair.source(), "INSERT INTO profile_0 (name) VALUES ('after')");
  CHECK(std::stol(value(pair.source(), "SELECT max(id) FROM profile_0")) > std::stol(made));
}

TEST_CASE("bumping twice is bumping once, and list, plan and watch change nothing") {
  const Pair pair;
  pair.both(
      "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, small smallserial); CREATE SEQUENCE idle");
  cluster().sql(pair.source(), "INSERT INTO t DEFAULT VALUES");
  const std::string state =
      "SELECT (SELECT last_value FROM t_id_seq) || ' ' || (SELECT last_value FROM t_small_seq) || ' ' || "
      "(SELECT "
      "last_value FROM idle) || ' ' || (SELECT count(*) FROM pg_namespace WHERE nspname = 'pgcutover')";
  const auto before = value(pair.source(), state) + value(pair.target(), state);
  for (const char* action : {"list", "plan"}) {
    const auto result = pair.tool({action, "--json"});
    CHECK_MESSAGE(result.exit_code == 0, result.errors);
    CHECK(has(result.output, "public.t_id_seq"));
  }
  CHECK(pair.tool({"bump"}).exit_code == 2);
  CHECK(value(pair.source(), state) + value(pair.target(), state) == before);
  const auto first = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(first.exit_code == 0, first.errors);
  CHECK(has(first.output, "public.idle: from 1"));
  const auto after = value(pair.source(), state) + value(pair.target(), state);
  CHECK(after != before);
  const auto second = pair.tool({"bump", "--yes"});
  CHECK_MESSAGE(second.exit_code == 0, second.errors);
  CHECK(has(second.output, "nothing to set"));
  CHECK(value(pair.source(), state) + value(pair.target(), state) == after);
  // Each server has the whole ledger.
  for (const auto& database : {pair.source(), pair.target()}) {
    CHECK(value(database,
                "SELECT count(DISTINCT server) || ' ' || count(*) FROM pgcutover.sequence_ledger") == "2 6");
  }
}

TEST_CASE("one server is enough, and watch shows ranges and an alarm until it is interrupted") {
  const Pair pair;
  cluster().sql(pair.source(), "CREATE SEQUENCE s; SELECT nextval('s')");
  const auto bump = Pair::run({"bump", "--yes", "--source", cluster().conninfo(pair.source()), "--interval",
                               "100ms", "--sequence-headroom", "1000"});
  CHECK_MESSAGE(bump.exit_code == 0, bump.errors);
  CHECK(has(bump.output, "public.s: from 1, source behind 2001"));
  CHECK(value(pair.source(), "SELECT last_value FROM s") == "2002");  // one was taken for the proof
  harness::Tool watch(
      {"sequences", "watch", "--source", cluster().conninfo(pair.source()), "--interval", "100ms"});
  const auto deadline = Deadline::in(milliseconds(180'000));
  watch.wait_output("behind 2001 to 3001", deadline);
  cluster().sql(pair.source(), "SELECT setval('s', 2600)");
  watch.wait_output("half-used", deadline);
  cluster().sql(pair.source(), "SELECT setval('s', 5)");
  watch.wait_output("OUTSIDE OF ITS RANGE", deadline);
  watch.terminate();
  CHECK(watch.wait(deadline) == 0);
}

TEST_CASE("list shows what a text names, the furthest id present and keys that need no sequence") {
  const Pair pair;
  cluster().sql(pair.source(), R"(
    CREATE SEQUENCE by_text; CREATE SEQUENCE "Odd Name"; CREATE SEQUENCE forgotten;
    CREATE TABLE a (id bigint DEFAULT nextval('by_text'::text), key uuid PRIMARY KEY, mail text UNIQUE);
    CREATE DOMAIN token AS uuid;
    CREATE TABLE c (id text PRIMARY KEY, made text UNIQUE DEFAULT md5(random()::text), t token UNIQUE DEFAULT NULL,
                    fixed text UNIQUE DEFAULT 'none'::varchar, a uuid UNIQUE REFERENCES a, during tstzrange, gone boolean,
                    EXCLUDE USING gist (during WITH &&));
    CREATE UNIQUE INDEX ON c (lower(id)) WHERE NOT gone;
    CREATE TABLE d (c text REFERENCES c, a uuid REFERENCES a, PRIMARY KEY (c, a));
    CREATE TABLE e (a uuid PRIMARY KEY REFERENCES a, id serial, other int, UNIQUE (other, id));
    CREATE FUNCTION next_odd() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('"Odd Name"'::text) $$;
    CREATE TABLE b (id serial PRIMARY KEY); INSERT INTO b VALUES (900);)");
  const auto result = Pair::run({"list", "--source", cluster().conninfo(pair.source())});
  CHECK_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(has(result.output, "named in default of public.a.id"));
  CHECK(has(result.output, "named in function public.next_odd"));
  CHECK(has(result.output,
            "public.forgotten not used, starts at 1, limit 9223372036854775807; used by nothing"));
  CHECK(has(result.output, "furthest id present 900"));
  CHECK(has(result.output, "sequence-behind-data"));
  const std::vector<std::pair<std::string, std::string>> needless{
      {"public.a.key (uuid)", "uuid"},
      {"public.c.id (text)", "made by the application"},
      {"public.c.made (text)", "made by its default"},
      {"public.c.t (public.token)", "uuid"}};
  for (const auto& key : needless) {
    const auto& column = key.first;
    const auto& kind = key.second;
    CHECK_MESSAGE(has(result.output, "source: " + column + ": " + kind + ", needs no headroom\n"), column);
  }
  for (const char* column :
       {"public.a.mail (text)", "public.c.fixed (text)", "public.c.a (uuid)", "public.c (during)",
        "public.c (lower(id))", "public.d (c, a)", "public.e.a (uuid)"}) {
    CHECK_MESSAGE(has(result.output, "source: " + std::string(column) + ": natural key, headroom can't help"),
                  column);
  }
  CHECK_FALSE(has(result.output, "public.e (other, id)"));
  CHECK_FALSE(has(result.output, "public.b.id ("));
  const auto json = Pair::run({"list", "--json", "--source", cluster().conninfo(pair.source())});
  CHECK(has(json.output, "\"kind\":\"made by the application\",\"primary\":true,\"needsNoHeadroom\":true"));
}

// What one look or call prints is one line and one JSON value, with these keys whatever is in them.
void check_json(const std::string& line, const std::string& list, const std::string& keys) {
  const std::string json = "$json$" + line + "$json$::jsonb";
  CHECK_MESSAGE(value("postgres", "SELECT jsonb_typeof(" + json + ")") == "object", line);
  CHECK_MESSAGE(value("postgres", "SELECT string_agg(k, ' ' ORDER BY k) FROM jsonb_object_keys(" + json +
                                      "->'" + list + "'->0) k") == keys,
                line);
}

TEST_CASE("bump and watch as JSON: one value each time, parseable, with stable keys") {
  const Pair pair;
  pair.both("CREATE SEQUENCE \"Q \"\"x\"; CREATE TABLE t (id serial)");
  const auto bump = pair.tool({"bump", "--yes", "--json", "--sequence-headroom", "1000"});
  REQUIRE_MESSAGE(bump.exit_code == 0, bump.errors);
  CHECK(std::count(bump.output.begin(), bump.output.end(), '\n') == 1);
  check_json(bump.output, "bumps",
             "clipped done from hasSourceValue hasTargetValue need sequence sourceValue targetValue");
  const auto again = pair.tool({"bump", "--yes", "--json"});
  CHECK(value("postgres", "SELECT coalesce(jsonb_array_length($json$" + again.output +
                              "$json$::jsonb->'bumps'), 0)") == "0");
  cluster().sql(pair.source(), "SELECT nextval('t_id_seq') FROM generate_series(1, 600)");
  harness::Tool watch({"sequences", "watch", "--json", "--source", cluster().conninfo(pair.source()),
                       "--target", cluster().conninfo(pair.target()), "--interval", "100ms"});
  const auto deadline = Deadline::in(milliseconds(180'000));
  harness::wait_until(deadline, "three looks", [&] {
    const auto text = watch.output();
    return std::count(text.begin(), text.end(), '\n') >= 3;
  });
  watch.terminate();
  CHECK(watch.wait(deadline) == 0);
  std::istringstream lines(watch.output());
  for (std::string line; std::getline(lines, line);) {
    check_json(line, "ranges", "at hasUntil secondsLeft sequence server start state until usedShare");
    check_json(line, "findings", "id message object remedy server severity");
  }
}

TEST_CASE("what can't get ranges is refused with its numbers before anything is changed") {
  const Pair pair;
  pair.both("CREATE SEQUENCE ok");
  SUBCASE("CYCLE") {
    pair.both("CREATE SEQUENCE ring MAXVALUE 9 CYCLE");
    const auto result = pair.tool({"bump", "--yes"});
    CHECK(result.exit_code == 3);
    CHECK_MESSAGE(has(result.output, "--accept sequence-cycles:public.ring"), result.output);
    CHECK(pair.tool({"bump", "--yes", "--accept", "sequence-cycles:public.ok"}).exit_code == 3);
  }
  SUBCASE("MAXVALUE nearly reached") {
    pair.both("CREATE TABLE t (id smallserial); SELECT setval('t_id_seq', 32766)");
    const auto result = pair.tool({"bump", "--yes"});
    CHECK(result.exit_code == 3);
    CHECK(has(result.output, "has 1 values left before its limit 32767, which feeds public.t.id"));
    const auto accepted = pair.tool({"bump", "--yes", "--accept", "sequence-exhausted"});
    CHECK_MESSAGE(accepted.exit_code == 0, accepted.output << accepted.errors);
    for (const auto& database : {pair.source(), pair.target()}) {  // the last one isn't given to both
      CHECK(value(database, "SELECT last_value FROM t_id_seq") == "32766");
      CHECK(value(database, "SELECT last_value > 1 FROM ok") == "t");
    }
    return;
  }
  SUBCASE("many sessions with a large cache in a smallint") {
    pair.both("CREATE TABLE t (id smallserial); ALTER SEQUENCE t_id_seq CACHE 1000");
    std::vector<replication::postgres::Connection> sessions;
    for (int i = 0; i < 12; ++i) {
      sessions.push_back(cluster().connect(pair.source()));
      sessions.back().exec("SELECT nextval('t_id_seq')");
    }
    harness::wait_until(Deadline::in(milliseconds(180'000)), "only these are connected", [&] {
      return value("postgres",
                   "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + pair.source() + "'") == "12";
    });
    const auto result = pair.tool({"bump", "--yes"});
    CHECK(result.exit_code == 3);
    CHECK(has(result.output, "sequence-overflow"));
    CHECK(has(result.output, "cache 1000 x 12 sessions"));
    const auto accepted = pair.tool({"bump", "--yes", "--accept", "sequence-overflow"});
    CHECK_MESSAGE(accepted.exit_code == 0, accepted.output << accepted.errors);
    CHECK(has(accepted.output, "CUT to what is left"));
    return;
  }
  CHECK(value(pair.source(), "SELECT last_value FROM ok") == "1");
  CHECK(value(pair.source(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgcutover'") == "0");
}

TEST_CASE(
    "a sequence that is renamed or dropped on one side is a finding, and the others keep their ranges") {
  const Pair pair;
  pair.both("CREATE SEQUENCE stays; CREATE SEQUENCE renamed; CREATE SEQUENCE dropped");
  CHECK(pair.tool({"bump", "--yes"}).exit_code == 0);
  cluster().sql(pair.source(), "ALTER SEQUENCE renamed RENAME TO another; DROP SEQUENCE dropped");
  const auto result = pair.tool({"bump", "--yes"});
  CHECK(result.exit_code == 3);
  CHECK(has(result.output, "sequence public.another is missing on the side that opens"));
  CHECK(has(result.output, "public.dropped exists only on the side that opens"));
  CHECK_FALSE(has(result.output, "public.stays"));
}

}  // namespace
