// Comparing two real servers, of whatever versions the harness is told to take for "source" and "target".
#include "replication/verify/compare.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <future>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "replication/verify/differences.h"
#include "replication/verify/side.h"
#include "tests/harness/cluster.h"
#include "tests/harness/wait.h"

namespace replication::verify {
namespace {

using harness::Cluster;

class Pair {
 public:
  Pair() {
    static int number = 0;
    database_ = "db" + std::to_string(++number);
    source().sql("postgres", "CREATE DATABASE " + database_);
    target().sql("postgres", "CREATE DATABASE " + database_);
  }
  static Cluster& source() {
    static Cluster cluster(harness::ClusterOptions{.name = "source"});
    return cluster;
  }
  static Cluster& target() {
    static Cluster cluster(harness::ClusterOptions{.name = "target"});
    return cluster;
  }
  void both(const std::string& sql) const {
    on_source(sql);
    on_target(sql);
  }
  void on_source(const std::string& sql) const { source().sql(database_, sql); }
  void on_target(const std::string& sql) const { target().sql(database_, sql); }

  CompareOptions options() const {
    CompareOptions options;
    options.source = info(source());
    options.target = info(target());
    return options;
  }
  std::vector<catalog::Table> tables() const {
    auto connection = postgres::Connection::open(info(source()), {}, base::Stop::never());
    return catalog::load(connection).tables;
  }
  Comparison run() const { return compare(options(), tables(), base::Stop::never()); }
  // For tests of one table.
  TableResult only() const {
    const auto comparison = run();
    REQUIRE(comparison.tables.size() == 1);
    CHECK(comparison.equal() == (comparison.tables[0].verdict == Verdict::equal));
    return comparison.tables[0];
  }
  postgres::ConnInfo info(const Cluster& cluster, const std::string& user = "postgres") const {
    return postgres::ConnInfo::parse(cluster.conninfo(database_, user), "test");
  }
  const std::string& database() const { return database_; }

 private:
  std::string database_;
};

// Every kind of value whose text could depend on a setting or a version.
constexpr const char* kTorture = R"(
  CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"');
  CREATE TYPE pair AS (a int, b text);
  CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
  CREATE TABLE torture (id int PRIMARY KEY, f4 real, f8 double precision, n numeric, t text, c char(5), b bytea,
    ts timestamp, tz timestamptz, d date, iv interval, j json, jb jsonb, x xml, m mood, p pair, dm positive,
    ia int[], ta text[], pt point, mn money, r int4range, u uuid, bits varbit, ip inet, ts2 tsvector, o oid,
    cls regclass);
  INSERT INTO torture VALUES
    (1, 0.1, 0.1, 1.00, E'h\u00e9llo\n"\\', 'ab', '\x00ff', '2024-02-29 12:00:00.123456', '2024-02-29 12:00:00.5+02',
     '0044-03-15 BC', '1 year 2 mons -3 days 04:05:06.7', '{"a" :  1, "a":2}', '{"b":1.0,"a":null}',
     '<a>1</a>', 'it''s "fine"', ROW(1, 'x,"y"'), 1.50, '{1,NULL,3}', '{"a b",NULL,""}', '(1.5,-0)', 12.34, '[1,5)',
     '00000000-0000-0000-0000-000000000001', B'1011', '10.0.0.1/8', 'a:1 b:2', 4000000000, 'pg_class'),
    (2, 'NaN', '-Infinity', 'NaN', '', '', '', 'infinity', '-infinity', 'infinity', '-1 mons', 'null', '[]', NULL, 'sad',
     NULL, 1, '{}', NULL, NULL, NULL, 'empty', NULL, B'', '::1', '', 0, NULL),
    (3, '-0', 1e-320, 1e-20, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ROW(NULL, ''), NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  INSERT INTO torture (id, f4, f8, tz, t) SELECT i, i / 7.0, i / 3.0, timestamptz '2000-01-01' + i * interval '1 hour',
     repeat(chr(200 + i % 500), i % 50) FROM generate_series(10, 2000) i;)";

TEST_CASE("the same rows are equal whatever the type, the database's settings and the versions") {
  const Pair pair;
  pair.both(kTorture);
  pair.on_target("ALTER DATABASE " + pair.database() + " SET DateStyle = 'German'; ALTER DATABASE " +
                 pair.database() + " SET extra_float_digits = 0; ALTER DATABASE " + pair.database() +
                 " SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE " + pair.database() +
                 " SET IntervalStyle = 'iso_8601'; ALTER DATABASE " + pair.database() +
                 " SET bytea_output = 'escape'");
  const auto result = pair.only();
  CHECK_MESSAGE(result.verdict == Verdict::equal, result.detail);
  CHECK(result.source_rows == 1994);
  CHECK(result.target_rows == 1994);
  CHECK(result.detail.empty());
}

TEST_CASE("the smallest difference of a value is found") {
  const std::vector<std::string> changes = {
      "UPDATE torture SET n = 1.0 WHERE id = 1",
      "UPDATE torture SET f4 = 0.0 WHERE id = 3",
      "UPDATE torture SET t = '' WHERE id = 3",
      "UPDATE torture SET j = '{\"a\":1, \"a\":2}' WHERE id = 1",
      "UPDATE torture SET c = NULL WHERE id = 2",
      "UPDATE torture SET f8 = 0.3333333333333334 WHERE id = 1",
      "UPDATE torture SET ta = '{}' WHERE id = 2",
      "UPDATE torture SET p = NULL WHERE id = 3",
      "UPDATE torture SET ts = '2024-02-29 12:00:00.123457' WHERE id = 1",
  };
  const Pair pair;
  pair.both(kTorture);
  for (const auto& change : changes) {
    CAPTURE(change);
    pair.on_target("BEGIN; CREATE TABLE before AS SELECT * FROM torture; " + change + "; COMMIT");
    const auto result = pair.run().tables.at(0);
    CHECK(result.verdict == Verdict::different);
    CHECK(result.detail.find("different") != std::string::npos);
    pair.on_target("TRUNCATE torture; INSERT INTO torture SELECT * FROM before; DROP TABLE before");
  }
}

TEST_CASE("changed, missing and added rows are named by their key") {
  const Pair pair;
  pair.both(
      "CREATE TABLE t (a int, b text, v int, PRIMARY KEY (a, b));"
      "INSERT INTO t SELECT i, 'k ' || i, i FROM generate_series(1, 5000) i");
  pair.on_target(
      "UPDATE t SET v = 0 WHERE a = 17; DELETE FROM t WHERE a = 4000; INSERT INTO t VALUES (-1, '', 1)");
  const auto result = pair.only();
  CHECK(result.verdict == Verdict::different);
  CHECK(result.source_rows == 5000);
  CHECK(result.target_rows == 5000);
  CHECK(result.detail.find("(a, b) = (17,\"k 17\") different") != std::string::npos);
  CHECK(result.detail.find("(a, b) = (4000,\"k 4000\") missing on the target") != std::string::npos);
  CHECK(result.detail.find("(a, b) = (-1,\"\") only on the target") != std::string::npos);
  CHECK(result.detail.find("and more") == std::string::npos);
}

TEST_CASE("no more keys are listed than asked for") {
  const Pair pair;
  pair.both(
      "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 3000) "
      "i");
  pair.on_target("UPDATE t SET v = -v");
  auto options = pair.options();
  options.keys_max = 3;
  const auto result = compare(options, pair.tables(), base::Stop::never()).tables.at(0);
  CHECK(std::ranges::count(result.detail, '=') == 3);
  CHECK(result.detail.find("and more") != std::string::npos);
  options.keys_max = 0;
  CHECK(compare(options, pair.tables(), base::Stop::never()).tables.at(0).detail.empty());
}

TEST_CASE("values swapped between two rows are found") {
  const Pair pair;
  pair.both(
      "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i");
  pair.on_target("UPDATE t SET v = CASE id WHEN 5 THEN 6 ELSE 5 END WHERE id IN (5, 6)");
  const auto result = pair.only();
  CHECK(result.verdict == Verdict::different);
  CHECK(result.detail.find("(id) = (5) different") != std::string::npos);
  CHECK(result.detail.find("(id) = (6) different") != std::string::npos);
}

TEST_CASE("a row doubled on the target is found, with and without a key") {
  const Pair pair;
  pair.on_source("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (v text)");
  pair.on_target("CREATE TABLE t (id int, v int); CREATE TABLE u (v text)");
  pair.both(
      "INSERT INTO t SELECT i, i FROM generate_series(1, 100) i; INSERT INTO u VALUES ('a'), ('a'), ('b'), "
      "(NULL)");
  CHECK(pair.run().equal());
  pair.on_target("INSERT INTO t VALUES (9, 9); INSERT INTO u VALUES ('a')");
  const auto comparison = pair.run();
  REQUIRE(comparison.tables.size() == 2);
  CHECK(comparison.tables[0].detail == "(id) = (9) 1 time on the source, 2 times on the target");
  CHECK(comparison.tables[1].detail == "row = (a) 2 times on the source, 3 times on the target");
  CHECK(comparison.tables[1].target_rows == 5);
}

TEST_CASE("a table that isn't there or has other columns is not compared, and spoils the whole") {
  const Pair pair;
  pair.both("CREATE TABLE same (id int); INSERT INTO same VALUES (1)");
  pair.on_source(
      "CREATE TABLE gone (id int); CREATE TABLE other (id int, a int, b int); CREATE TABLE viewed (id int)");
  pair.on_target("CREATE TABLE other (id int, a int, c int); CREATE VIEW viewed AS SELECT 1 AS id");
  const auto comparison = pair.run();
  REQUIRE(comparison.tables.size() == 4);
  CHECK_FALSE(comparison.equal());
  CHECK(comparison.tables[0].verdict == Verdict::not_compared);
  CHECK(comparison.tables[0].detail == "missing on the target");
  CHECK(comparison.tables[1].verdict == Verdict::not_compared);
  CHECK(comparison.tables[1].detail == "other columns on the target: without b, with c");
  CHECK(comparison.tables[2].verdict == Verdict::equal);
  CHECK(comparison.tables[3].verdict == Verdict::not_compared);
  CHECK(comparison.tables[3].detail == "not an ordinary table on the target");
}

TEST_CASE("another order of columns and dropped columns don't matter, hostile names work") {
  const Pair pair;
  pair.on_source(
      R"(CREATE SCHEMA "S ""x"; CREATE TABLE "S ""x"."Select" ("From" int PRIMARY KEY, t text, gone int,
                    sum int GENERATED ALWAYS AS ("From" * 2) STORED); ALTER TABLE "S ""x"."Select" DROP gone)");
  pair.on_target(R"(CREATE SCHEMA "S ""x"; CREATE TABLE "S ""x"."Select" (t text, "From" int PRIMARY KEY,
                    sum int GENERATED ALWAYS AS (2 * "From") STORED))");
  pair.both(R"(INSERT INTO "S ""x"."Select" ("From", t) VALUES (1, 'x'), (2, NULL))");
  CHECK(pair.only().verdict == Verdict::equal);
  pair.on_target(R"(UPDATE "S ""x"."Select" SET t = 'y' WHERE "From" = 2)");
  const auto result = pair.only();
  CHECK(result.table == "S \"x.Select");
  CHECK(result.detail == "(From) = (2) different");
}

TEST_CASE("what generated columns hold is compared: each side computed its own") {
  const Pair pair;
  pair.on_source("CREATE TABLE t (id int PRIMARY KEY, sum int GENERATED ALWAYS AS (id * 2) STORED)");
  pair.on_target("CREATE TABLE t (id int PRIMARY KEY, sum int GENERATED ALWAYS AS (id + 1) STORED)");
  pair.both("INSERT INTO t VALUES (1), (2)");
  const auto result = pair.only();
  CHECK(result.verdict == Verdict::different);
  CHECK(result.detail == "(id) = (2) different");
  pair.on_target("ALTER TABLE t DROP sum");
  CHECK(pair.only().detail == "other columns on the target: without sum");
}

TEST_CASE("leaves are compared under their own names, parents without their children's rows") {
  const Pair pair;
  pair.both(
      "CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) "
      "TO (10);"
      "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p VALUES (1), (11), (12);"
      "CREATE TABLE base (id int); CREATE TABLE child () INHERITS (base);"
      "INSERT INTO base VALUES (1); INSERT INTO child VALUES (2), (3)");
  const auto comparison = pair.run();
  REQUIRE(comparison.tables.size() == 4);
  CHECK(comparison.equal());
  CHECK(comparison.tables[0].table == "public.base");
  CHECK(comparison.tables[0].source_rows == 1);
  CHECK(comparison.tables[1].source_rows == 2);
  CHECK(comparison.tables[2].table == "public.p1");
  CHECK(comparison.tables[3].source_rows == 2);
}

TEST_CASE("exported snapshots decide what is compared, not what was written since") {
  const Pair pair;
  pair.both(
      "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) "
      "i");
  auto holder = Pair::source().connect(pair.database());
  holder.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  auto options = pair.options();
  options.source_snapshot = holder.one_value("SELECT pg_catalog.pg_export_snapshot()");
  pair.on_source("UPDATE t SET v = 0; DELETE FROM t WHERE id > 500");
  CHECK(compare(options, pair.tables(), base::Stop::never()).equal());
  CHECK_FALSE(pair.run().equal());
  holder.exec("ROLLBACK");
  CHECK_THROWS_AS(compare(options, pair.tables(), base::Stop::never()), base::Error);  // the snapshot is gone
}

TEST_CASE("a table rewritten after the snapshot is not compared") {
  const Pair pair;
  pair.both(
      "CREATE TABLE full_vacuum (id int); CREATE TABLE truncated (id int); CREATE TABLE untouched (id int);"
      "INSERT INTO full_vacuum VALUES (1); INSERT INTO truncated VALUES (1); INSERT INTO untouched VALUES "
      "(1)");
  auto holder = Pair::source().connect(pair.database());
  holder.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
  auto options = pair.options();
  options.source_snapshot = holder.one_value("SELECT pg_catalog.pg_export_snapshot()");
  pair.on_source("VACUUM FULL full_vacuum");
  pair.on_source("TRUNCATE truncated");
  pair.on_target("TRUNCATE truncated");
  const auto comparison = compare(options, pair.tables(), base::Stop::never());
  REQUIRE(comparison.tables.size() == 3);
  CHECK(comparison.tables[0].verdict == Verdict::not_compared);
  CHECK(comparison.tables[0].detail == "rewritten on the source after the snapshot was taken: compare again");
  CHECK(comparison.tables[1].verdict == Verdict::not_compared);
  CHECK(comparison.tables[2].verdict == Verdict::equal);
}

TEST_CASE("a table we may not read, or not wholly, is not compared") {
  const Pair pair;
  pair.both(
      "DROP ROLE IF EXISTS limited; CREATE ROLE limited LOGIN; CREATE TABLE closed (id int);"
      "CREATE TABLE hidden (id int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;"
      "CREATE TABLE open (id int); INSERT INTO open VALUES (1); INSERT INTO hidden VALUES (1)");
  pair.both("GRANT SELECT ON hidden, open TO limited");
  auto options = pair.options();
  options.target = pair.info(Pair::target(), "limited");
  const auto comparison = compare(options, pair.tables(), base::Stop::never());
  REQUIRE(comparison.tables.size() == 3);
  CHECK(comparison.tables[0].verdict == Verdict::not_compared);
  CHECK(comparison.tables[0].detail.find("42501") != std::string::npos);
  CHECK(comparison.tables[1].verdict == Verdict::not_compared);
  CHECK(comparison.tables[1].detail.find("row-level security") != std::string::npos);
  CHECK(comparison.tables[2].verdict == Verdict::equal);
  pair.both("DROP OWNED BY limited");
}

TEST_CASE("results keep the order given, and progress counts every table once") {
  const Pair pair;
  pair.both(
      "DO $$ BEGIN FOR i IN 10..29 LOOP EXECUTE format('CREATE TABLE t%s (id int)', i); "
      "EXECUTE format('INSERT INTO t%s SELECT generate_series(1, %s)', i, i * 10); END LOOP; END $$");
  auto options = pair.options();
  options.jobs = 3;
  std::vector<std::int64_t> seen;
  options.progress = [&seen](std::int64_t done, std::int64_t total) {
    CHECK(total == 20);
    seen.push_back(done);
  };
  const auto comparison = compare(options, pair.tables(), base::Stop::never());
  CHECK(comparison.equal());
  REQUIRE(comparison.tables.size() == 20);
  for (int i = 0; i < 20; ++i) {
    CHECK(comparison.tables[static_cast<std::size_t>(i)].table == "public.t" + std::to_string(i + 10));
    CHECK(comparison.tables[static_cast<std::size_t>(i)].source_rows == (i + 10) * 10);
  }
  REQUIRE(seen.size() == 20);
  CHECK(std::ranges::is_sorted(seen));
  CHECK(seen.back() == 20);
}

TEST_CASE("nothing to compare is not equal") {
  const Pair pair;
  CHECK_FALSE(pair.run().equal());
}

// A comparison that waits for a table somebody holds, on a thread of its own.
class Waiting {
 public:
  explicit Waiting(const Pair& pair) : holder_(Pair::source().connect(pair.database())) {
    pair.both("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    const auto tables = pair.tables();
    holder_.exec("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    result_ = std::async(std::launch::async,
                         [this, &pair, tables] { return compare(pair.options(), tables, stop); });
    harness::wait_until(harness::Deadline::in(harness::milliseconds(180'000)),
                        "the comparison waits for the lock", [this] { return !pid().empty(); });
  }
  std::string pid() const {
    return Pair::source()
        .value("postgres", "SELECT string_agg(pid::text, ',') FROM pg_locks WHERE NOT granted")
        .value_or("");
  }
  Comparison get() { return result_.get(); }
  base::Stop stop;

 private:
  postgres::Connection holder_;
  std::future<Comparison> result_;
};

TEST_CASE("a stop request ends a comparison that waits") {
  const Pair pair;
  Waiting waiting(pair);
  waiting.stop.request();
  CHECK_THROWS_AS(waiting.get(), base::Stopped);
}

TEST_CASE("a lost connection is an error, never a verdict") {
  const Pair pair;
  Waiting waiting(pair);
  Pair::source().sql("postgres", "SELECT pg_terminate_backend(" + waiting.pid() + ")");
  try {
    waiting.get();
    FAIL("a comparison without a connection came to an end");
  } catch (const base::Error& error) {
    CHECK_FALSE(error.connection_usable());
    CHECK(error.retryable());
  }
}

TEST_CASE("buckets are divided until they are small enough to fetch") {
  const Pair pair;
  pair.both(
      "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 4000) "
      "i");
  pair.on_target("UPDATE t SET v = 0 WHERE id = 1234; DELETE FROM t WHERE id = 77");
  const auto table = pair.tables().at(0);
  const TableSql sql(table);
  const catalog::ColumnFilter none;
  Side source(pair.info(Pair::source()), "source", "", none, base::Stop::never());
  Side target(pair.info(Pair::target()), "target", "", none, base::Stop::never());
  DifferenceLimits limits;
  limits.bucket_bits_max = 3;
  limits.fetched_rows_max = 5;
  const auto few = describe_differences(source, target, sql, 4000, limits);
  const bool first = few.find("(id) = (1234) different") != std::string::npos;
  const bool second = few.find("(id) = (77) missing on the target") != std::string::npos;
  CHECK_MESSAGE((first || second), few);
  limits.fetched_rows_max = 4000;
  const auto all = describe_differences(source, target, sql, 4000, limits);
  CHECK(all.find("(id) = (1234) different") != std::string::npos);
  CHECK(all.find("(id) = (77) missing on the target") != std::string::npos);
}

}  // namespace
}  // namespace replication::verify
