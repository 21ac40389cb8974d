#include "replication/snapshot/large_objects.h"

#include <doctest/doctest.h>
#include <memory>

#include "replication/base/error.h"
#include "tests/harness/wait.h"
#include "tests/integration/snapshot/pair.h"

namespace {

using namespace snapshot_test;
using base::Oid;
using snapshot::LargeObjects;

std::string objects(const harness::Cluster& cluster) {
  return cluster
      .value("shop",
             "SELECT string_agg(oid || ' ' || pg_get_userbyid(lomowner) || ' ' || md5(lo_get(oid)) || ' ' || "
             "coalesce(lomacl::text, ''), E'\\n' ORDER BY oid) FROM pg_largeobject_metadata")
      .value_or("none");
}

TEST_CASE("large objects are made alike with content, owner and rights, and a second run touches none") {
  Pair pair;
  for (const auto* cluster : {&pair.source, &pair.target}) {
    cluster->sql("postgres", "CREATE ROLE keeper; CREATE ROLE \"A b\"");
  }
  pair.source.sql("postgres", "CREATE ROLE only_here");
  pair.source.sql("shop", R"(
    SELECT lo_from_bytea(0, decode(md5(i::text), 'hex')) FROM generate_series(1, 1100) i;
    SELECT lo_from_bytea(900001, ''), lo_from_bytea(900002, convert_to(repeat('x', 262144), 'UTF8')),
           lo_from_bytea(900003, convert_to(repeat('y', 700000), 'UTF8')), lo_from_bytea(4000000000, 'z');
    SELECT lo_create(900004), lo_put(900004, 600000, 'hole before');
    ALTER LARGE OBJECT 900003 OWNER TO keeper; GRANT SELECT ON LARGE OBJECT 900003 TO "A b" WITH GRANT OPTION;
    GRANT UPDATE ON LARGE OBJECT 900002 TO PUBLIC;)");
  pair.target.sql(
      "shop",
      "SELECT lo_from_bytea(900002, convert_to(repeat('x', 262145), 'UTF8')), lo_from_bytea(77, 'gone'),"
      "lo_from_bytea(900003, convert_to(repeat('y', 699999) || 'n', 'UTF8'))");
  auto source = pair.source.connect("shop");
  auto target = pair.target.connect("shop");
  CHECK(LargeObjects().changed(source, target).size() == 1100 + 5 + 1);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_largeobject_metadata") == "3");
  CHECK(LargeObjects().refresh(source, target).size() == 1100 + 5 + 1);
  CHECK(objects(pair.target) == objects(pair.source));
  CHECK(LargeObjects().changed(source, target).empty());
  CHECK(LargeObjects().refresh(source, target).size() == 0);

  pair.source.sql("shop", "SELECT lo_put(900003, 600000, 'changed'), lo_unlink(4000000000)");
  pair.source.sql("shop",
                  "ALTER LARGE OBJECT 900001 OWNER TO keeper; REVOKE ALL ON LARGE OBJECT 900002 FROM PUBLIC");
  CHECK(LargeObjects().changed(source, target) == std::vector<Oid>{900001, 900002, 900003, 4000000000});
  CHECK(LargeObjects().refresh(source, target).size() == 4);
  CHECK(objects(pair.target).size() > 1100 * 40);
  CHECK(LargeObjects().refresh(source, target).size() == 0);
  CHECK(pair.target.value(
            "shop", "SELECT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata WHERE oid = 900001") ==
        "keeper");

  // An owner that the target doesn't know: the object comes, and isn't touched again for that.
  pair.source.sql("shop",
                  "SELECT lo_from_bytea(5, 'five'); ALTER LARGE OBJECT 5 OWNER TO only_here;"
                  "GRANT SELECT ON LARGE OBJECT 5 TO keeper");
  CHECK(LargeObjects().refresh(source, target).size() == 1);
  CHECK(LargeObjects().refresh(source, target).size() == 0);
}

TEST_CASE("no large objects are nothing to do") {
  Pair pair;
  auto source = pair.source.connect("shop");
  auto target = pair.target.connect("shop");
  CHECK(LargeObjects().refresh(source, target).size() == 0);
}

TEST_CASE("one object that is too much for the time that is left is given up, and comes later") {
  Pair pair;
  // A hole costs nothing here, and is sent and stored as zeros.
  pair.source.sql("shop", "SELECT lo_create(31), lo_put(31, 300000000, 'end'), lo_from_bytea(32, 'small')");
  {
    // A deadline that is met while something is half sent takes the session with it.
    auto source = pair.source.connect("shop");
    auto target = pair.target.connect("shop");
    CHECK_THROWS_AS(LargeObjects().refresh(source, target, base::Deadline::in(base::milliseconds(300))),
                    base::TimeoutError);
  }
  auto source = pair.source.connect("shop");
  auto target = pair.target.connect("shop");
  CHECK(LargeObjects().changed(source, target) == std::vector<Oid>{31, 32});
  pair.source.sql("shop", "SELECT lo_truncate(lo_open(31, 131072), 600000)");
  CHECK(LargeObjects().refresh(source, target).size() == 2);
  CHECK(LargeObjects().changed(source, target).empty());
}

// A later look reads what was changed since the one before, whatever it was that changed and on which side.
TEST_CASE("what changes between two looks is found, and only that is read") {
  Pair pair;
  for (const auto* cluster : {&pair.source, &pair.target}) {
    cluster->sql("postgres", "CREATE ROLE keeper");
  }
  // 33 and 16384033 share a bucket.
  pair.source.sql("shop", R"(
    SELECT lo_from_bytea(0, decode(md5(i::text), 'hex')) FROM generate_series(1, 800) i;
    SELECT lo_from_bytea(oid, convert_to(repeat('x', 5000), 'UTF8')) FROM generate_series(31, 39) oid;
    SELECT lo_from_bytea(16384033, 'beside'), lo_from_bytea(4000000000, 'large'))");
  auto source = std::make_unique<postgres::Connection>(pair.source.connect("shop"));
  auto target = pair.target.connect("shop");
  LargeObjects objects;
  CHECK(objects.refresh(*source, target).size() == 800 + 9 + 2);
  CHECK(objects.refresh(*source, target).empty());
  CHECK(objects.changed(*source, target).empty());

  const std::vector<std::pair<const char*, std::vector<Oid>>> changes{
      {"SELECT lo_put(31, 4000, 'y')", {31}},
      {"SELECT lo_truncate(lo_open(32, 131072), 4999)", {32}},
      {"SELECT lo_unlink(33)", {33}},
      {"SELECT lo_from_bytea(32768033, 'new')", {32768033}},
      {"ALTER LARGE OBJECT 34 OWNER TO keeper", {34}},
      {"GRANT SELECT ON LARGE OBJECT 35 TO keeper", {35}},
      {"COMMENT ON LARGE OBJECT 36 IS 'said'", {36}},
      {"COMMENT ON LARGE OBJECT 36 IS NULL", {36}},
      {"BEGIN; SELECT lo_put(37, 0, 'a'); SAVEPOINT s; SELECT lo_put(38, 0, 'b'); ROLLBACK TO s; COMMIT",
       {37}},
      {"SELECT lo_unlink(4000000000); SELECT lo_from_bytea(4000000000, 'again')", {4000000000}},
      {"ALTER ROLE keeper RENAME TO holder", {}},
      {"VACUUM FULL pg_largeobject", {}},
      {"VACUUM FREEZE pg_largeobject", {}},
  };
  for (const auto& [sql, oids] : changes) {
    CAPTURE(sql);
    if (std::string_view(sql).starts_with("ALTER ROLE")) {
      pair.target.sql("shop", sql);
    }
    pair.source.sql("shop", sql);
    CHECK(objects.changed(*source, target) == oids);
    CHECK(objects.changed(*source, target) == oids);  // a look alone doesn't make them alike
    CHECK(objects.refresh(*source, target) == oids);
    CHECK(objects.changed(*source, target).empty());
  }
  CHECK(LargeObjects().changed(*source, target).empty());  // all of them compared
  // Somebody else on the other side.
  pair.target.sql("shop", "SELECT lo_put(39, 0, 'foreign'), lo_from_bytea(40, 'foreign'), lo_unlink(31)");
  CHECK(objects.changed(*source, target) == std::vector<Oid>{31, 39, 40});
  CHECK(objects.refresh(*source, target) == std::vector<Oid>{31, 39, 40});
  CHECK(objects.changed(*source, target).empty());
  // Of two that share a bucket one that still differs isn't forgotten when the other one is put back.
  pair.source.sql("shop", "SELECT lo_put(16384033, 0, 'B'), lo_from_bytea(33, 'back')");
  CHECK(objects.changed(*source, target) == std::vector<Oid>{33, 16384033});
  pair.source.sql("shop", "SELECT lo_unlink(33)");
  CHECK(objects.changed(*source, target) == std::vector<Oid>{16384033});
  CHECK(objects.refresh(*source, target) == std::vector<Oid>{16384033});

  if (pair.source.major() < 15) {
    return;  // statistics arrive when they like
  }
  // A session's own statistics have arrived once it is gone.
  pair.source.sql("shop", "SELECT lo_put(31, 0, 'once more')");
  const auto scans = [&] {
    const auto pid = std::to_string(source->backend_pid());
    source.reset();
    harness::wait_until(base::Deadline::in(base::milliseconds(180'000)), "the session's end", [&] {
      return pair.source.value("shop", "SELECT count(*) FROM pg_stat_activity WHERE pid = " + pid) == "0";
    });
    return std::stoll(*pair.source.value(
        "shop",
        "SELECT idx_scan FROM pg_stat_sys_indexes WHERE indexrelname = 'pg_largeobject_loid_pn_index'"));
  };
  const auto before = scans();
  CHECK(before > 800);
  source = std::make_unique<postgres::Connection>(pair.source.connect("shop"));
  CHECK(objects.changed(*source, target) == std::vector<Oid>{31});
  CHECK(scans() < before + 400);
}

TEST_CASE("without the right to read pg_largeobject each look compares all") {
  Pair pair;
  pair.source.sql("postgres", "CREATE ROLE mover LOGIN");
  pair.source.sql("shop",
                  "SELECT lo_from_bytea(51, 'one'), lo_from_bytea(52, 'two');"
                  "ALTER LARGE OBJECT 51 OWNER TO mover; ALTER LARGE OBJECT 52 OWNER TO mover");
  auto source = pair.source.connect("shop", "mover");
  auto target = pair.target.connect("shop");
  LargeObjects objects;
  CHECK(objects.refresh(source, target).size() == 2);
  CHECK(objects.changed(source, target).empty());
  pair.source.sql("shop", "SELECT lo_put(52, 0, 'T')");
  CHECK(objects.changed(source, target) == std::vector<Oid>{52});
}

}  // namespace
