#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "tests/integration/snapshot/pair.h"

namespace {

using namespace snapshot_test;

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
  CHECK(snapshot::changed_large_objects(source, target).size() == 1100 + 5 + 1);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_largeobject_metadata") == "3");
  CHECK(snapshot::refresh_large_objects(source, target) == 1100 + 5 + 1);
  CHECK(objects(pair.target) == objects(pair.source));
  CHECK(snapshot::changed_large_objects(source, target).empty());
  CHECK(snapshot::refresh_large_objects(source, target) == 0);

  pair.source.sql("shop", "SELECT lo_put(900003, 600000, 'changed'), lo_unlink(4000000000)");
  pair.source.sql("shop",
                  "ALTER LARGE OBJECT 900001 OWNER TO keeper; REVOKE ALL ON LARGE OBJECT 900002 FROM PUBLIC");
  CHECK(snapshot::changed_large_objects(source, target) ==
        std::vector<replication::base::Oid>{900001, 900002, 900003, 4000000000});
  CHECK(snapshot::refresh_large_objects(source, target) == 4);
  CHECK(objects(pair.target).size() > 1100 * 40);
  CHECK(snapshot::refresh_large_objects(source, target) == 0);
  CHECK(pair.target.value(
            "shop", "SELECT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata WHERE oid = 900001") ==
        "keeper");

  // An owner that the target doesn't know: the object comes, and isn't touched again for that.
  pair.source.sql("shop",
                  "SELECT lo_from_bytea(5, 'five'); ALTER LARGE OBJECT 5 OWNER TO only_here;"
                  "GRANT SELECT ON LARGE OBJECT 5 TO keeper");
  CHECK(snapshot::refresh_large_objects(source, target) == 1);
  CHECK(snapshot::refresh_large_objects(source, target) == 0);
}

TEST_CASE("no large objects are nothing to do") {
  Pair pair;
  auto source = pair.source.connect("shop");
  auto target = pair.target.connect("shop");
  CHECK(snapshot::refresh_large_objects(source, target) == 0);
}

TEST_CASE("one object that is too much for the time that is left is given up, and comes later") {
  Pair pair;
  // A hole costs nothing here, and is sent and stored as zeros.
  pair.source.sql("shop", "SELECT lo_create(31), lo_put(31, 300000000, 'end'), lo_from_bytea(32, 'small')");
  {
    // A deadline that is met while something is half sent takes the session with it.
    auto source = pair.source.connect("shop");
    auto target = pair.target.connect("shop");
    CHECK_THROWS_AS(
        snapshot::refresh_large_objects(source, target, base::Deadline::in(base::milliseconds(300))),
        base::TimeoutError);
  }
  auto source = pair.source.connect("shop");
  auto target = pair.target.connect("shop");
  CHECK(snapshot::changed_large_objects(source, target) == std::vector<replication::base::Oid>{31, 32});
  pair.source.sql("shop", "SELECT lo_truncate(lo_open(31, 131072), 600000)");
  CHECK(snapshot::refresh_large_objects(source, target) == 2);
  CHECK(snapshot::changed_large_objects(source, target).empty());
}

}  // namespace
