#include "replication/pgoutput/relation_cache.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"
#include "tests/unit/pgoutput/encoder.h"

namespace {

using namespace replication::pgoutput;

Relation relation(std::uint32_t oid, std::string_view name, std::string_view column) {
  Relation out;
  out.relation = oid;
  out.schema = "public";
  out.name = name;
  out.columns.push_back({true, column, 23, -1});
  return out;
}

}  // namespace

TEST_CASE("a cached relation outlives the bytes it came from") {
  RelationCache cache;
  {
    auto bytes = tests::encode(relation(7, "orders", "id"));
    cache.update(std::get<Relation>(decode({bytes.data(), bytes.size()})));
    bytes.assign(bytes.size(), '#');
  }
  const auto& cached = cache.get(7);
  CHECK(cached.schema == "public");
  CHECK(cached.name == "orders");
  REQUIRE(cached.columns.size() == 1);
  CHECK(cached.columns[0].name == "id");
  CHECK(cached.columns[0].key);
}

TEST_CASE("the version moves exactly when the content does") {
  RelationCache cache;
  const auto first = cache.update(relation(7, "orders", "id")).version;
  CHECK(first != 0);
  CHECK(cache.update(relation(7, "orders", "id")).version == first);
  const auto renamed = cache.update(relation(7, "orders", "key")).version;
  CHECK(renamed != first);
  CHECK(cache.get(7).columns[0].name == "key");
  CHECK(cache.update(relation(8, "orders", "id")).version != renamed);
  CHECK(cache.size() == 2);
}

TEST_CASE("a version is never used twice, not even after clear") {
  RelationCache cache;
  const auto before = cache.update(relation(7, "orders", "id")).version;
  cache.clear();
  CHECK(cache.find(7) == nullptr);
  CHECK(cache.update(relation(7, "orders", "id")).version != before);
}

TEST_CASE("rows of a relation that was never described are a protocol error") {
  const RelationCache cache;
  CHECK(cache.find(99) == nullptr);
  CHECK_THROWS_WITH_AS(cache.get(99), doctest::Contains("relation 99"), replication::base::Error);
}
