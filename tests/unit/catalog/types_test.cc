#include "replication/catalog/types.h"

#include <doctest/doctest.h>

using replication::catalog::Type;
using replication::catalog::Types;

namespace {

constexpr replication::base::Oid kInt4 = 23, kInt4Array = 1007, kJson = 114, kXml = 142;

Types some_types() {
  Types types;
  types.add({.oid = kInt4, .name = "pg_catalog.int4", .operator_class = true});
  types.add({.oid = kInt4Array, .name = "pg_catalog._int4", .element = kInt4});
  types.add({.oid = kJson, .name = "pg_catalog.json"});
  types.add({.oid = 199, .name = "pg_catalog._json", .element = kJson});
  types.add({.oid = kXml, .name = "pg_catalog.xml"});
  types.add({.oid = 5000, .name = "public.mood", .kind = 'e'});
  types.add({.oid = 5001, .name = "public._mood", .element = 5000});
  types.add({.oid = 5002, .name = "public.positive", .kind = 'd', .base_type = kInt4});
  types.add({.oid = 5003, .name = "public._positive", .element = 5002});
  types.add({.oid = 5004, .name = "public.more_positive", .kind = 'd', .base_type = 5002});
  types.add({.oid = 5005, .name = "public.list", .kind = 'd', .base_type = kInt4Array});
  types.add({.oid = 5006, .name = "public.pair", .kind = 'c', .attributes = {kInt4, kInt4}});
  types.add({.oid = 5007, .name = "public.odd_pair", .kind = 'c', .attributes = {kInt4, kJson}});
  types.add({.oid = 3904, .name = "pg_catalog.int4range", .kind = 'r'});
  types.add({.oid = 5008, .name = "public.loop", .kind = 'd', .base_type = 5008});
  return types;
}

}  // namespace

TEST_CASE("built-in types of the list, their arrays, enums and domains over them are binary-safe") {
  const Types types = some_types();
  for (const replication::base::Oid oid : {kInt4, kInt4Array, kJson, 5000U, 5002U, 5004U, 5005U}) {
    CAPTURE(oid);
    CHECK(types.binary_safe(oid));
  }
}

TEST_CASE("what carries an OID of one server in its binary form isn't binary-safe") {
  const Types types = some_types();
  CHECK_FALSE(types.binary_safe(5001));  // array of an enum: the element's OID is in the header
  CHECK_FALSE(types.binary_safe(5003));  // array of a domain
  CHECK_FALSE(types.binary_safe(5006));  // composite
}

TEST_CASE("types off the list and unknown types are not binary-safe") {
  const Types types = some_types();
  CHECK_FALSE(types.binary_safe(kXml));
  CHECK_FALSE(types.binary_safe(3904));
  CHECK_FALSE(types.binary_safe(424242));
}

TEST_CASE("equality is looked for inside arrays, domains and composites") {
  const Types types = some_types();
  CHECK(types.has_equality(kInt4));
  CHECK(types.has_equality(kInt4Array));
  CHECK(types.has_equality(5000));
  CHECK(types.has_equality(5001));
  CHECK(types.has_equality(5004));
  CHECK(types.has_equality(5006));
  CHECK(types.has_equality(3904));
  CHECK_FALSE(types.has_equality(kJson));
  CHECK_FALSE(types.has_equality(199));
  CHECK_FALSE(types.has_equality(5007));
  CHECK_FALSE(types.has_equality(424242));
}

TEST_CASE("a type made of itself ends the search") {
  const Types types = some_types();
  CHECK_FALSE(types.binary_safe(5008));
  CHECK_FALSE(types.has_equality(5008));
}
