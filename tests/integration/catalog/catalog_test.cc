// What load() sees in a database that has one of everything.
#include "replication/catalog/catalog.h"

#include <algorithm>
#include <chrono>
#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "replication/catalog/evolution.h"
#include "replication/catalog/quick_load.h"
#include "tests/harness/cluster.h"

using replication::catalog::Catalog;
using replication::catalog::Column;
using replication::catalog::load;
using replication::catalog::Table;
using replication::catalog::TableKind;

namespace {

harness::Cluster& cluster() {
  static harness::Cluster server({.name = "source"});
  return server;
}

// A fresh database with this schema.
replication::postgres::Connection database(const std::string& name, std::string_view schema) {
  cluster().sql("postgres", "CREATE DATABASE " + name + " TEMPLATE template0");
  replication::postgres::Connection connection = cluster().connect(name);
  connection.exec(schema);
  return connection;
}

std::vector<std::string> names(const Catalog& catalog) {
  std::vector<std::string> out;
  for (const Table& t : catalog.tables)
    out.push_back(t.display());
  return out;
}

const Table& table(const Catalog& catalog, std::string_view name) {
  const Table* found = catalog.find("public", name);
  REQUIRE_MESSAGE(found != nullptr, name);
  return *found;
}

const Column& column(const Table& t, std::string_view name) {
  const auto found = std::ranges::find(t.columns, name, &Column::name);
  REQUIRE_MESSAGE(found != t.columns.end(), name);
  return *found;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("tables of the user are seen, those of the system, of extensions and of ourselves aren't") {
  auto connection = database("seen", R"(
    CREATE TABLE plain(id int PRIMARY KEY);
    CREATE TABLE parent(id int PRIMARY KEY);
    CREATE TABLE child() INHERITS (parent);
    CREATE UNLOGGED TABLE scratch(id int PRIMARY KEY);
    CREATE SCHEMA "My ""Schema""";
    CREATE TABLE "My ""Schema"""."select from" ("Group" int, "a""b" text, PRIMARY KEY ("a""b", "Group"));
    CREATE SCHEMA pgcutover; CREATE TABLE pgcutover.marker(id int);
    CREATE TEMP TABLE passing(id int);
    CREATE TABLE of_extension(id int); ALTER EXTENSION plpgsql ADD TABLE of_extension;
    CREATE VIEW v AS SELECT * FROM plain;)");
  const Catalog catalog = load(connection);
  CHECK(names(catalog) == Strings{"My \"Schema\".select from", "public.child", "public.parent",
                                  "public.plain", "public.scratch"});
  CHECK(table(catalog, "scratch").unlogged);
  CHECK_FALSE(table(catalog, "plain").unlogged);
  CHECK_FALSE(table(catalog, "child").partition);
  CHECK(table(catalog, "child").kind == TableKind::ordinary);
  const Table& hostile = catalog.tables.front();
  CHECK(hostile.key == Strings{"a\"b", "Group"});
  CHECK(hostile.columns.at(1).name == "a\"b");
  CHECK(std::ranges::any_of(catalog.extensions, [](const auto& e) { return e.first == "plpgsql"; }));
}

TEST_CASE("partitions know their topmost root and are filtered with it") {
  auto connection = database("partitions", R"(
    CREATE TABLE m(id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE m_2026 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (id);
    CREATE TABLE m_2026_1 PARTITION OF m_2026 FOR VALUES IN (1);
    CREATE TABLE other(id int);)");
  const Catalog catalog = load(connection);
  const Table& root = table(catalog, "m");
  CHECK(root.kind == TableKind::partitioned);
  CHECK_FALSE(root.partition);
  CHECK(root.root == 0);
  CHECK(table(catalog, "m_2026").root == root.oid);
  CHECK(table(catalog, "m_2026").partition);
  const Table& leaf = table(catalog, "m_2026_1");
  CHECK(leaf.root == root.oid);
  CHECK(leaf.stores_rows());
  CHECK(leaf.key == Strings{"id", "at"});
  CHECK(names(load(connection, {.include = {"public.m"}, .exclude = {}})) ==
        Strings{"public.m", "public.m_2026", "public.m_2026_1"});
  CHECK(names(load(connection, {.include = {}, .exclude = {"public.m"}})) == Strings{"public.other"});
}

TEST_CASE("the key is what PostgreSQL takes for the replica identity") {
  auto connection = database("keys", R"(
    CREATE TABLE pk(b int, a int, c int, PRIMARY KEY (a, b) INCLUDE (c));
    CREATE TABLE late(id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE by_index(id int PRIMARY KEY, code text NOT NULL, x int);
    CREATE UNIQUE INDEX by_code ON by_index(code); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE nothing(id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE whole(id int PRIMARY KEY, u int UNIQUE); ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE whole_without(id int); ALTER TABLE whole_without REPLICA IDENTITY FULL;
    CREATE TABLE unique_only(id int NOT NULL UNIQUE);
    CREATE TABLE dropped(id int NOT NULL CONSTRAINT gone UNIQUE);
    ALTER TABLE dropped REPLICA IDENTITY USING INDEX gone; ALTER TABLE dropped DROP CONSTRAINT gone;
    CREATE TABLE excluded(id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&) DEFERRABLE);)");
  const Catalog catalog = load(connection);
  CHECK(table(catalog, "pk").key == Strings{"a", "b"});
  CHECK_FALSE(table(catalog, "pk").has_secondary_unique);
  CHECK(table(catalog, "late").keyless());
  CHECK(table(catalog, "late").has_deferrable_unique);
  CHECK(table(catalog, "late").has_secondary_unique);
  CHECK(table(catalog, "by_index").key == Strings{"code"});
  CHECK(table(catalog, "by_index").replica_identity == 'i');
  CHECK(table(catalog, "by_index").has_secondary_unique);
  CHECK(table(catalog, "nothing").keyless());
  CHECK(table(catalog, "nothing").replica_identity == 'n');
  CHECK(table(catalog, "whole").key == Strings{"id"});
  CHECK(table(catalog, "whole").has_secondary_unique);
  CHECK(table(catalog, "whole_without").keyless());
  CHECK(table(catalog, "unique_only").keyless());
  CHECK(table(catalog, "unique_only").has_secondary_unique);
  CHECK(table(catalog, "dropped").keyless());
  CHECK(table(catalog, "dropped").replica_identity == 'i');
  CHECK(table(catalog, "excluded").key == Strings{"id"});
  CHECK(table(catalog, "excluded").has_secondary_unique);
  CHECK(table(catalog, "excluded").has_deferrable_unique);
}

TEST_CASE("columns carry type, identity, generation and how they may be sent and compared") {
  auto connection = database("columns", R"(
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE TYPE pair AS (a int, b json);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN feeling AS mood; CREATE DOMAIN list AS int[];
    CREATE TABLE t(
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, d int GENERATED BY DEFAULT AS IDENTITY,
      gone int, name varchar(20) NOT NULL, twice int GENERATED ALWAYS AS (5 * 2) STORED,
      mood mood, moods mood[], positive positive, positives positive[], feeling feeling, list list,
      ints int[], js json, jsons json[], jsb jsonb, doc xml, pair pair, money money, o oid, r int4range, v tsvector,
      pt point, bx box, own_row oid[], vec int2vector, ip cidr, ts timestamptz(3));
    ALTER TABLE t DROP COLUMN gone;)");
  const Table t = table(load(connection), "t");
  CHECK(column(t, "id").identity == 'a');
  CHECK(column(t, "d").identity == 'd');
  CHECK(column(t, "name").identity == '\0');
  CHECK(column(t, "name").type_name == "character varying(20)");
  CHECK(column(t, "name").not_null);
  CHECK(column(t, "name").number == 4);
  CHECK(column(t, "twice").generated);
  CHECK(column(t, "ts").type_name == "timestamp(3) with time zone");
  for (const char* safe : {"id", "name", "mood", "positive", "feeling", "list", "ints", "js", "jsons", "jsb",
                           "pt", "bx", "ip", "ts"}) {
    CAPTURE(std::string(safe));
    CHECK(column(t, safe).binary_safe);
  }
  for (const char* unsafe : {"moods", "positives", "doc", "pair", "money", "o", "r", "own_row"}) {
    CAPTURE(std::string(unsafe));
    CHECK_FALSE(column(t, unsafe).binary_safe);
  }
  for (const char* comparable : {"id", "name", "mood", "moods", "positive", "positives", "list", "jsb", "r",
                                 "money", "ip", "v", "o"}) {
    CAPTURE(std::string(comparable));
    CHECK(column(t, comparable).has_equality);
  }
  for (const char* opaque : {"js", "jsons", "doc", "pair", "pt", "bx"}) {
    CAPTURE(std::string(opaque));
    CHECK_FALSE(column(t, opaque).has_equality);
  }
}

TEST_CASE("what is called comparable compares, and what isn't fails on the server") {
  auto connection = database("compares", R"(
    CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int, b json); CREATE DOMAIN d AS varchar(5);
    CREATE TABLE t(a int, b varchar(4), c json, d json[], e xml, f pair, g mood[], h d, i d[], j jsonb, k point,
                   l int4range[], m cidr, n bit(3), o "char", p name, q box, r polygon);
    INSERT INTO t DEFAULT VALUES; )");
  connection.exec(
      R"sql(UPDATE t SET a = 1, b = 'x', c = '{}', d = array['{}']::json[], e = '<a/>', f = row(1, '{}'),
    g = '{sad}', h = 'x', i = '{x}', j = '{}', k = '(1,2)', l = '{"[1,2)"}', m = '10/8', n = '101', o = 'x',
    p = 'x', q = '(1,2),(3,4)', r = '((1,2),(3,4))')sql");
  const Table t = table(load(connection), "t");
  CHECK(t.columns.size() == 18);
  for (const Column& c : t.columns) {
    CAPTURE(c.name);
    // GROUP BY needs the same default operator class that set-based matching by all columns needs.
    bool works = true;
    try {
      connection.exec("SELECT count(*) FROM t GROUP BY " + c.name);
      connection.exec("SELECT count(*) FROM t a JOIN t b ON a." + c.name + " IS NOT DISTINCT FROM b." +
                      c.name);
    } catch (const replication::base::Error&) {
      works = false;
    }
    CHECK(c.has_equality == works);
  }
}

TEST_CASE("updates and deletes are counted, sizes and estimates read") {
  auto connection = database("counts", R"(
    CREATE TABLE t(id int PRIMARY KEY, x text); INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i;
    CREATE TABLE inserted(id int);)");
  connection.exec("UPDATE t SET x = 'y' WHERE id <= 10");
  connection.exec("DELETE FROM t WHERE id > 995");
  connection.exec("ANALYZE t");
  connection.close();
  connection = cluster().connect("counts");
  const auto give_up = replication::base::Deadline::in(replication::base::milliseconds(180'000));
  Catalog catalog = load(connection);
  while (table(catalog, "t").updates < 15 && !give_up.expired())
    catalog = load(connection);
  CHECK(table(catalog, "t").updates == 15);
  CHECK(table(catalog, "t").bytes > 100'000);
  CHECK(table(catalog, "t").rows_estimate == doctest::Approx(995));
  CHECK(table(catalog, "t").filenode != 0);
  CHECK(table(catalog, "t").row_type != 0);
  CHECK(table(catalog, "inserted").updates == 0);
  CHECK(table(catalog, "inserted").rows_estimate == -1);
}

TEST_CASE("a look at the catalog doesn't wait for a table that is locked by DDL") {
  auto connection = database("locked", "CREATE TABLE t(id int PRIMARY KEY); CREATE TABLE u(id int)");
  auto other = cluster().connect("locked");
  other.exec("BEGIN");
  other.exec("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  CHECK(names(load(connection)) == Strings{"public.t", "public.u"});
  other.exec("ROLLBACK");
}

TEST_CASE("foreign keys are the top-level ones, without NOT VALID, between moved tables") {
  auto connection = database("fks", R"(
    CREATE TABLE parent(id int PRIMARY KEY); CREATE TABLE left_out(id int PRIMARY KEY);
    CREATE TABLE m(id int, p int CONSTRAINT m_fk REFERENCES parent) PARTITION BY LIST (id);
    CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1);
    CREATE TABLE c(p int CONSTRAINT "C fk" REFERENCES parent ON DELETE CASCADE, o int REFERENCES left_out);
    ALTER TABLE c ADD CONSTRAINT later FOREIGN KEY (o) REFERENCES parent NOT VALID;)");
  const Catalog catalog = load(connection, {.include = {}, .exclude = {"public.left_out"}});
  REQUIRE(catalog.foreign_keys.size() == 3);
  CHECK(catalog.foreign_keys[0].name == "C fk");
  CHECK(catalog.foreign_keys[0].table == "\"public\".\"c\"");
  CHECK(catalog.foreign_keys[0].definition.starts_with("FOREIGN KEY (p) REFERENCES "));
  CHECK(catalog.foreign_keys[0].definition.ends_with("ON DELETE CASCADE"));
  CHECK(catalog.foreign_keys[0].validated);
  CHECK(catalog.foreign_keys[1].name == "later");
  CHECK_FALSE(catalog.foreign_keys[1].validated);
  CHECK(catalog.foreign_keys[1].definition.find("NOT VALID") == std::string::npos);
  CHECK(catalog.foreign_keys[2].name == "m_fk");
  CHECK(catalog.foreign_keys[2].table_partitioned);
}

TEST_CASE("matviews come in the order in which they can be refreshed") {
  auto connection = database("matviews", R"(
    CREATE TABLE t(id int);
    CREATE MATERIALIZED VIEW z AS SELECT id FROM t;
    CREATE VIEW between AS SELECT id FROM z;
    CREATE MATERIALIZED VIEW a AS SELECT id FROM between;
    CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
    SELECT lo_create(0); SELECT lo_create(0);)");
  const Catalog catalog = load(connection);
  CHECK(catalog.matviews == Strings{"\"public\".\"z\"", "\"public\".\"a\"", "\"public\".\"m\""});
  CHECK(catalog.large_objects == 2);
}

TEST_CASE("a look without sizes sees the same otherwise") {
  auto connection = database("sizeless", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
  const auto all = load(connection);
  const auto quick = replication::catalog::load_without_sizes(connection, {});
  CHECK(table(all, "t").bytes > 0);
  CHECK(table(quick, "t").bytes == 0);
  CHECK(table(quick, "t").filenode == table(all, "t").filenode);
  CHECK(table(quick, "t").filenode != 0);
  CHECK(quick.fingerprint == all.fingerprint);
}

TEST_CASE("the fingerprint moves with DDL and stays with everything else") {
  auto connection = database("prints", R"(
    CREATE TYPE mood AS ENUM ('sad');
    CREATE TYPE pair AS (a int, b text);
    CREATE TABLE t(id int PRIMARY KEY, m mood, pairs pair[]);
    CREATE TABLE p(id int PRIMARY KEY) PARTITION BY LIST (id);
    CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);)");
  std::string print = load(connection).fingerprint;
  CHECK(print.size() == 16);
  for (const char* quiet : {"INSERT INTO t VALUES (1, 'sad')", "VACUUM FULL t", "ANALYZE",
                            "CREATE INDEX ON t(m)", "CREATE VIEW v AS SELECT 1", "CREATE SEQUENCE s",
                            "CREATE TABLE pg_temp.x(id int)", "ALTER TABLE t SET (fillfactor = 70)"}) {
    CAPTURE(std::string(quiet));
    connection.exec(quiet);
    CHECK(load(connection).fingerprint == print);
  }
  for (const char* loud :
       {"ALTER TABLE t ADD COLUMN x int", "ALTER TABLE t ALTER COLUMN x TYPE bigint",
        "ALTER TABLE t RENAME COLUMN x TO y", "ALTER TYPE mood ADD VALUE 'happy'",
        "ALTER TYPE pair DROP ATTRIBUTE b, ADD ATTRIBUTE b text", "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t DROP COLUMN y", "CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)",
        "ALTER TABLE p DETACH PARTITION p2", "DROP TABLE p2", "CREATE TABLE u(id int)",
        "DROP TABLE u; CREATE TABLE u(id int)", "ALTER TABLE u SET UNLOGGED",
        "ALTER TABLE t DROP CONSTRAINT t_pkey", "CREATE SCHEMA s; ALTER TABLE u SET SCHEMA s"}) {
    CAPTURE(std::string(loud));
    connection.exec(loud);
    const std::string now = load(connection).fingerprint;
    CHECK(now != print);
    print = now;
  }
}

TEST_CASE("a column's digest moves with everything its type is made of, and with nothing else") {
  auto connection = database("made_of", R"(
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN kept AS pair;
    CREATE TYPE outside AS (held kept, n int);
    CREATE TYPE pairs AS RANGE (subtype = pair);
    CREATE TYPE mood AS ENUM ('sad');
    CREATE TYPE moods AS RANGE (subtype = mood);
    CREATE TYPE other AS (a int);
    CREATE TABLE wide(n int);
    CREATE TABLE t(one pair, many pair[], held kept, nested outside[], ranged pairs, mood mood, span moods[],
                   wide wide, n int, ints int[], r int4range, x other);)");
  if (connection.server_major() >= 14) {
    connection.exec("ALTER TABLE t ADD COLUMN multi pairs_multirange");
  }
  const auto moved = [&](const char* change) {
    const auto before = load(connection);
    connection.exec(change);
    const auto after = load(connection);
    Strings names;
    for (const Column& c : table(after, "t").columns) {
      if (c.type_digest != column(table(before, "t"), c.name).type_digest)
        names.push_back(c.name);
    }
    return names;
  };
  Strings of_pair{"one", "many", "held", "nested", "ranged"};
  if (connection.server_major() >= 14) {
    of_pair.emplace_back("multi");
  }
  CHECK(moved("ALTER TYPE pair ADD ATTRIBUTE c text") == of_pair);
  CHECK(moved("ALTER TYPE pair DROP ATTRIBUTE c, ADD ATTRIBUTE c text") == of_pair);
  CHECK(moved("ALTER TYPE mood ADD VALUE 'glad'") == Strings{"mood", "span"});
  CHECK(moved("ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'") == Strings{"mood", "span"});
  CHECK(moved("ALTER TABLE wide ADD COLUMN more int") == Strings{"wide"});
  CHECK(moved("CREATE INDEX ON t (n); COMMENT ON TYPE other IS 'one more'; ANALYZE") == Strings{});
  CHECK(column(table(load(connection), "t"), "n").type_digest == 0);
}

TEST_CASE("the digest of the tables' files moves whenever the list of them would differ") {
  auto connection = database("files", R"(
    CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY); CREATE TABLE app.other (id int);)");
  auto before = replication::catalog::table_files_digest(connection);
  for (const char* quiet : {"INSERT INTO app.t SELECT generate_series(1, 100)", "VACUUM ANALYZE app.t",
                            "CREATE TEMP TABLE passing (id int)", "CREATE INDEX ON app.other (id)"}) {
    CAPTURE(quiet);
    connection.exec(quiet);
    CHECK(replication::catalog::table_files_digest(connection) == before);
  }
  for (const char* change :
       {"VACUUM FULL app.t", "ALTER TABLE app.t ADD COLUMN note text", "ALTER TABLE app.t RENAME TO u",
        "ALTER TABLE app.u SET SCHEMA public", "ALTER SCHEMA app RENAME TO application", "TRUNCATE public.u",
        "CREATE TABLE another (id int)", "DROP TABLE application.other"}) {
    CAPTURE(change);
    connection.exec(change);
    const auto now = replication::catalog::table_files_digest(connection);
    CHECK(now != before);
    before = now;
  }
}

TEST_CASE("a load inside a transaction sees that transaction's look") {
  auto connection = database("within", "CREATE TABLE t(id int)");
  connection.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  connection.exec("SELECT 1");
  cluster().sql("within", "CREATE TABLE u(id int)");
  CHECK(names(load(connection)) == Strings{"public.t"});
  CHECK(connection.in_transaction());
  connection.exec("COMMIT");
  CHECK(names(load(connection)) == Strings{"public.t", "public.u"});
  CHECK_FALSE(connection.in_transaction());
}

TEST_CASE("five thousand tables load in a second or two, not in minutes") {
  auto connection = database("many", "SELECT 1");
  for (int batch = 0; batch < 10; ++batch) {
    connection.exec(
        "DO $$ BEGIN FOR i IN 1..500 LOOP EXECUTE 'CREATE TABLE t_" + std::to_string(batch) +
        "_' || i || ' (id bigint PRIMARY KEY, a text, b int, c timestamptz, d jsonb)'; END LOOP; END $$");
  }
  load(connection);  // the session's caches warm up, as they are in a session that has done anything
  const auto begin = std::chrono::steady_clock::now();
  const Catalog catalog = load(connection);
  const auto took = std::chrono::steady_clock::now() - begin;
  CHECK(catalog.tables.size() == 5000);
  CHECK(catalog.tables[4711].columns.size() == 5);
  MESSAGE(std::chrono::duration_cast<std::chrono::milliseconds>(took).count() << " ms");
  CHECK(took < std::chrono::seconds(30));  // on the slowest of machines
}
