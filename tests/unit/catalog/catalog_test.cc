#include "replication/catalog/catalog.h"

#include <doctest/doctest.h>

#include "replication/catalog/left_out.h"

using replication::catalog::Catalog;
using replication::catalog::Column;
using replication::catalog::ColumnFilter;
using replication::catalog::Table;
using replication::catalog::TableFilter;
using replication::catalog::TableKind;

namespace {

Table table(std::string schema, std::string name) {
  Table t;
  t.schema = std::move(schema);
  t.name = std::move(name);
  return t;
}

std::vector<std::string> names(const std::vector<Table>& tables) {
  std::vector<std::string> out;
  for (const Table& t : tables)
    out.push_back(t.display());
  return out;
}

}  // namespace

TEST_CASE("an empty filter matches every table") {
  CHECK(TableFilter{}.matches("public.orders"));
  CHECK(TableFilter{}.matches("a b.C"));
}

TEST_CASE("exclude wins over include") {
  const TableFilter filter{.include = {"public.*"}, .exclude = {"public.audit_*"}};
  CHECK(filter.matches("public.orders"));
  CHECK_FALSE(filter.matches("public.audit_2026"));
  CHECK_FALSE(filter.matches("other.orders"));
}

TEST_CASE("patterns are whole names, not prefixes") {
  const TableFilter filter{.include = {"public.order", "s?.x[0-9]"}, .exclude = {}};
  CHECK(filter.matches("public.order"));
  CHECK_FALSE(filter.matches("public.orders"));
  CHECK(filter.matches("s1.x7"));
  CHECK_FALSE(filter.matches("s1.xy"));
}

TEST_CASE("columns are left out by schema, table and name; of partitions by their root's") {
  const ColumnFilter none;
  CHECK_FALSE(none.leaves_out("app.orders", "note"));
  const ColumnFilter filter{{"app.orders.note", "app.audit.*_tmp", "*.*.secret"}};
  CHECK(filter.leaves_out("app.orders", "note"));
  CHECK_FALSE(filter.leaves_out("app.orders", "note2"));
  CHECK_FALSE(filter.leaves_out("other.orders", "note"));
  CHECK(filter.leaves_out("app.audit", "a_tmp"));
  CHECK_FALSE(filter.leaves_out("app.audit", "a_tmp2"));
  CHECK(filter.leaves_out("x.y", "secret"));
  Table leaf;
  leaf.schema = "app";
  leaf.name = "orders_2025";
  CHECK(leaf.filter_name() == "app.orders_2025");
  leaf.root_name = "app.orders";
  CHECK(leaf.filter_name() == "app.orders");
  Catalog catalog;
  leaf.left_out = {{.name = "note"}};
  auto root = leaf;
  root.name = "orders";
  root.root_name = "";
  catalog.tables = {root, leaf};
  CHECK(columns_left_out(catalog) == std::vector<std::string>{"app.orders.note"});
  // The server sends them all the same.
  leaf.columns = {{.name = "id", .binary_safe = true}};
  CHECK(leaf.binary_safe());
  CHECK_FALSE(leaf.streams_binary());
}

TEST_CASE("names are quoted for SQL and plain for people") {
  const Table t = table("My \"S\"", "select");
  CHECK(t.qualified() == R"("My ""S"""."select")");
  CHECK(t.display() == "My \"S\".select");
}

TEST_CASE("a table is binary-safe when every column that is sent is") {
  Table t = table("public", "t");
  t.columns.push_back({.name = "a", .number = 1, .binary_safe = true});
  CHECK(t.binary_safe());
  t.columns.push_back({.name = "g", .number = 2, .generated = true, .binary_safe = false});
  CHECK(t.binary_safe());
  t.columns.push_back({.name = "x", .number = 3, .binary_safe = false});
  CHECK_FALSE(t.binary_safe());
}

TEST_CASE("a publication lists roots from 13 on, leaves on 12, and never unlogged tables") {
  Catalog catalog;
  Table root = table("public", "measure");
  root.oid = 10;
  root.kind = TableKind::partitioned;
  Table inner = table("public", "measure_2026");
  inner.kind = TableKind::partitioned;
  inner.partition = true;
  inner.root = 10;
  Table leaf = table("public", "measure_2026_01");
  leaf.partition = true;
  leaf.root = 10;
  Table plain = table("public", "orders");
  Table scratch = table("public", "scratch");
  scratch.unlogged = true;
  catalog.tables = {root, inner, leaf, plain, scratch};
  CHECK(names(catalog.published(15)) ==
        std::vector<std::string>{"public.measure", "public.measure_2026_01", "public.orders"});
  CHECK(names(catalog.published(12)) == std::vector<std::string>{"public.measure_2026_01", "public.orders"});
}

TEST_CASE("a table is found by name and by OID, and a missing one isn't") {
  Catalog catalog;
  catalog.tables = {table("a", "t"), table("b", "t")};
  catalog.tables[1].oid = 77;
  REQUIRE(catalog.find("b", "t") != nullptr);
  CHECK(catalog.find("b", "t")->oid == 77);
  CHECK(catalog.find(77)->schema == "b");
  CHECK(catalog.find("b", "T") == nullptr);
  CHECK(catalog.find(78) == nullptr);
}
