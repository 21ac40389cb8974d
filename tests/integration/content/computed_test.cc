// What the target computes by itself: as the source's applications would have, not as our sessions do.
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "tests/harness/cluster.h"
#include "tests/harness/tool.h"

namespace {

using harness::Cluster;
using harness::Tool;
using replication::base::Deadline;
using replication::base::milliseconds;

// How applications see it: the source's configuration.
constexpr const char* kAsApplication =
    "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'ISO, DMY'; SET default_text_search_config = "
    "'pg_catalog.german';";

void as_application(const Cluster& server, const std::string& sql) {
  server.sql("shop", kAsApplication + sql);
}

std::string content(const Cluster& server, const std::string& relation) {
  return server
      .value("shop",
             "SELECT count(*) || ' ' || md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM " +
                 relation + " t")
      .value_or("");
}

constexpr const char* kRelations[] = {"event", "part_2", "part_rest", "scratch", "per_day", "words"};

void check_same(const Cluster& source, const Cluster& target) {
  for (const auto* relation : kRelations) {
    INFO(relation);
    const auto there = content(source, relation);
    CHECK_FALSE(there.starts_with("0"));
    CHECK(content(target, relation) == there);
  }
}

// Rows of a day that starts at 15:00 UTC, found by the index and without it.
std::string found(const Cluster& server, bool index) {
  auto session = server.connect("shop");
  session.exec(kAsApplication);
  session.exec(
      index ? "SET enable_seqscan = off"
            : "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off");
  return session.one_value("SELECT count(*) FROM event WHERE day_of(at) = '2026-01-02'");
}

}  // namespace

TEST_CASE(
    "generated columns, indexes, partitions and materialized views are computed in the applications' time "
    "zone") {
  Cluster source({.name = "source",
                  .conf = {"timezone = 'Asia/Tokyo'", "datestyle = 'iso, dmy'",
                           "default_text_search_config = 'pg_catalog.german'"}});
  Cluster target({.name = "target", .conf = {"timezone = 'UTC'"}});
  const harness::TempDir directory("pgcut-computed");
  for (const auto* server : {&source, &target}) {
    server->sql("postgres", "CREATE ROLE mover LOGIN SUPERUSER");
    server->sql("postgres", "ALTER ROLE mover SET TimeZone = 'America/New_York'");  // says nothing
    server->sql("postgres", "CREATE DATABASE shop TEMPLATE template0");
  }
  as_application(source, R"(
    CREATE FUNCTION day_of(timestamptz) RETURNS date LANGUAGE sql IMMUTABLE AS 'SELECT $1::date';
    CREATE FUNCTION words_of(text) RETURNS tsvector LANGUAGE sql IMMUTABLE AS 'SELECT to_tsvector($1)';
    CREATE FUNCTION read_day(text) RETURNS date LANGUAGE sql IMMUTABLE AS 'SELECT $1::date';
    CREATE TABLE event (id int PRIMARY KEY, at timestamptz NOT NULL,
                        day date GENERATED ALWAYS AS (day_of(at)) STORED,
                        words tsvector GENERATED ALWAYS AS (words_of('die Häuser and the houses')) STORED,
                        read date GENERATED ALWAYS AS (read_day('03/02/2026')) STORED);
    INSERT INTO event SELECT i, '2026-01-01 00:00+00'::timestamptz + i * interval '1 hour' FROM generate_series(1, 60) i;
    CREATE INDEX event_day ON event (day_of(at));
    CREATE TABLE part (at timestamptz NOT NULL) PARTITION BY LIST (day_of(at));
    CREATE TABLE part_2 PARTITION OF part FOR VALUES IN ('2026-01-02');
    CREATE TABLE part_rest PARTITION OF part DEFAULT;
    INSERT INTO part SELECT at FROM event;
    CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY, at timestamptz, day date GENERATED ALWAYS AS (day_of(at)) STORED);
    INSERT INTO scratch SELECT id, at FROM event;
    CREATE MATERIALIZED VIEW per_day AS SELECT date_trunc('day', at)::text AS day, count(*) FROM event GROUP BY 1;
    CREATE MATERIALIZED VIEW words AS SELECT to_tsvector('die Häuser and the houses') AS v, '03/02/2026'::text::date AS d;
  )");
  harness::write_file(
      directory.path() / "plan.yaml",
      "name: computed\nsource: \"" + source.conninfo("shop", "mover") + "\"\ntarget: \"" +
          target.conninfo("shop", "mover") +
          "\"\ntables: {keyless: full}\ngates: {max-pause: 45s, max-lag: 45s, lock-limit: 45s}\n");
  const auto tool = [&](const char* verb) {
    return Tool::run({verb, "--plan", directory.file("plan.yaml")}, Deadline::in(milliseconds(180'000)));
  };
  const auto checked = tool("check");
  CHECK_MESSAGE(checked.output.find("TimeZone") != std::string::npos, checked.output);
  Tool run({"run", "--plan", directory.file("plan.yaml")});
  run.wait_output("streaming from the source", Deadline::in(milliseconds(180'000)));
  check_same(source, target);
  CHECK(found(source, true) == "24");
  CHECK(found(target, true) == "24");

  as_application(source, R"(
    INSERT INTO event SELECT id + 1000, at FROM event;
    UPDATE event SET at = at + interval '9 hours' WHERE id % 7 = 0;
    INSERT INTO part SELECT at + interval '1 minute' FROM part;
    UPDATE scratch SET at = at + interval '9 hours';
    REFRESH MATERIALIZED VIEW per_day;
  )");
  const auto verified = tool("verify");
  CHECK_MESSAGE(verified.exit_code == 0, verified.output << verified.errors << run.errors());
  const auto switched = tool("switch");
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors << run.errors());
  check_same(source, target);
  CHECK(found(target, true) == found(target, false));

  as_application(target,
                 "INSERT INTO event SELECT id + 5000, at FROM event; UPDATE event SET at = at - interval "
                 "'5 hours' WHERE id % 3 = 0; REFRESH MATERIALIZED VIEW per_day");
  const auto back = tool("rollback");
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors << run.errors());
  check_same(source, target);
  CHECK(found(source, true) == found(source, false));
}

TEST_CASE("a database without an encoding keeps its bytes, there and back") {
  Cluster source({.name = "source"}), target({.name = "target"});
  const harness::TempDir directory("pgcut-bytes");
  for (const auto* server : {&source, &target}) {
    server->sql("postgres", "CREATE ROLE mover LOGIN SUPERUSER");
    server->sql("postgres",
                "CREATE DATABASE shop TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
  }
  source.sql("shop", R"(
    CREATE TYPE kind AS ENUM (E'caf\xe9');
    CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT E'd\xe9faut', kinds kind[]);
    COMMENT ON TABLE t IS E'r\xe9sum\xe9';
    CREATE INDEX t_v ON t (v) WHERE v <> E'\xfe';
    INSERT INTO t VALUES (1, E'\xff\xfe', ARRAY[E'caf\xe9']::kind[]), (2, E'na\xc3\xafve', NULL);
    INSERT INTO t (id) VALUES (3);
  )");
  harness::write_file(directory.path() / "plan.yaml",
                      "name: bytes\nsource: \"" + source.conninfo("shop", "mover") + "\"\ntarget: \"" +
                          target.conninfo("shop", "mover") +
                          "\"\ngates: {max-pause: 45s, max-lag: 45s, lock-limit: 45s}\n");
  const auto tool = [&](const char* verb) {
    return Tool::run({verb, "--plan", directory.file("plan.yaml")}, Deadline::in(milliseconds(180'000)));
  };
  const auto bytes = [](const Cluster& server) {
    return server
        .value(
            "shop",
            "SELECT string_agg(encode(convert_to(t::text, 'SQL_ASCII'), 'hex'), ' ' ORDER BY id) || ' ' || "
            "encode(convert_to(obj_description('t'::regclass) || pg_get_indexdef('t_v'::regclass), "
            "'SQL_ASCII'), 'hex') FROM t")
        .value_or("");
  };
  Tool run({"run", "--plan", directory.file("plan.yaml")});
  run.wait_output("streaming from the source", Deadline::in(milliseconds(180'000)));
  const auto copied = bytes(source);
  CHECK(copied.find("fffe") != std::string::npos);
  CHECK(bytes(target) == copied);
  source.sql(
      "shop",
      R"(INSERT INTO t VALUES (4, E'\x80', ARRAY[E'caf\xe9']::kind[]); UPDATE t SET v = v || E'\xe9')");
  const auto verified = tool("verify");
  CHECK_MESSAGE(verified.exit_code == 0, verified.output << verified.errors << run.errors());
  const auto switched = tool("switch");
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors << run.errors());
  target.sql("shop", R"(INSERT INTO t VALUES (5, E'\x81', NULL); DELETE FROM t WHERE id = 1)");
  const auto back = tool("rollback");
  REQUIRE_MESSAGE(back.exit_code == 0, back.errors << run.errors());
  CHECK(bytes(source) == bytes(target));
  CHECK(bytes(source) != copied);
}
