#include "replication/catalog/fingerprint.h"

#include <doctest/doctest.h>
#include <functional>
#include <set>

using replication::catalog::fingerprint;
using replication::catalog::Hasher;
using replication::catalog::Table;
using replication::catalog::type_digest;
using replication::catalog::Types;

namespace {

Types enum_types(std::string labels) {
  Types types;
  types.add({.oid = 5000, .name = "public.mood", .kind = 'e', .detail = std::move(labels)});
  return types;
}

std::vector<Table> one_table(std::string labels = "'a'") {
  Table t;
  t.oid = 42;
  t.schema = "public";
  t.name = "orders";
  t.columns = {{.name = "id", .number = 1, .type = 20, .type_name = "bigint", .not_null = true},
               {.name = "mood", .number = 2, .type = 5000, .type_name = "mood"}};
  t.columns[1].type_digest = type_digest(5000, enum_types(std::move(labels)));
  t.key = {"id"};
  return {t};
}

}  // namespace

TEST_CASE("the hash is FNV-1a with lengths, and stays what it is") {
  Hasher empty;
  CHECK(empty.hex() == "cbf29ce484222325");
  Hasher ab_c, a_bc;
  ab_c.add("ab");
  ab_c.add("c");
  a_bc.add("a");
  a_bc.add("bc");
  CHECK(ab_c.hex() != a_bc.hex());
}

TEST_CASE("sizes, statistics and rewrites leave the fingerprint alone") {
  std::vector<Table> tables = one_table();
  const std::string before = fingerprint(tables);
  tables[0].bytes = 1 << 20;
  tables[0].rows_estimate = 1000;
  tables[0].updates = 5;
  tables[0].filenode = 999;
  CHECK(fingerprint(tables) == before);
}

TEST_CASE("everything a stream depends on changes the fingerprint") {
  std::set<std::string> seen{fingerprint(one_table())};
  const std::vector<std::function<void(std::vector<Table>&)>> changes = {
      [](auto& t) { t[0].oid = 43; },
      [](auto& t) { t[0].name = "order"; },
      [](auto& t) { t[0].schema = "shop"; },
      [](auto& t) { t[0].replica_identity = 'f'; },
      [](auto& t) { t[0].partition = true; },
      [](auto& t) { t[0].root = 7; },
      [](auto& t) { t[0].unlogged = true; },
      [](auto& t) { t[0].kind = replication::catalog::TableKind::partitioned; },
      [](auto& t) { t[0].key = {"mood"}; },
      [](auto& t) { t[0].key.clear(); },
      [](auto& t) { t[0].columns[0].name = "Id"; },
      [](auto& t) { t[0].columns[0].type_name = "integer"; },
      [](auto& t) { t[0].columns[0].not_null = false; },
      [](auto& t) { t[0].columns[0].identity = 'a'; },
      [](auto& t) { t[0].columns[0].generated = true; },
      [](auto& t) { t[0].columns.pop_back(); },
      [](auto& t) { t.push_back(t[0]); },
      [](auto& t) { t.clear(); },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    CAPTURE(i);
    std::vector<Table> tables = one_table();
    changes[i](tables);
    CHECK(seen.insert(fingerprint(tables)).second);
  }
  CHECK(seen.insert(fingerprint(one_table("'a','b'"))).second);
}
