#include "replication/verify/table_sql.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/verify/compare.h"

namespace replication::verify {
namespace {

catalog::Table hostile() {
  catalog::Table table;
  table.schema = "a\"b";
  table.name = "select * from";
  for (const char* name : {"I d", "t", "double"}) {
    catalog::Column column;
    column.name = name;
    table.columns.push_back(column);
  }
  table.columns[2].generated = true;
  table.columns[2].stored = false;
  table.key = {"I d"};
  return table;
}

TEST_CASE("columns are named and quoted, virtual ones are left out") {
  const TableSql sql(hostile());
  CHECK(sql.digest().find("ROW(t.\"I d\", t.\"t\")::pg_catalog.text") != std::string::npos);
  CHECK(sql.digest().find("double") == std::string::npos);
  CHECK(sql.digest().find("FROM ONLY \"a\"\"b\".\"select * from\" AS t") != std::string::npos);
  CHECK(sql.lock() == "LOCK TABLE ONLY \"a\"\"b\".\"select * from\" IN ACCESS SHARE MODE");
  CHECK(compared_columns(hostile()) == std::vector<std::string>{"I d", "t"});
}

TEST_CASE("what a generated column holds is compared too, but it tells no row from another") {
  auto table = hostile();
  table.columns[2].stored = true;
  CHECK(computed_columns(table) == std::vector<std::string>{"double"});
  CHECK(TableSql(table).digest().find("ROW(t.\"I d\", t.\"t\", t.\"double\")::") != std::string::npos);
  table.key.clear();
  CHECK(TableSql(table).key_columns() == std::vector<std::string>{"I d", "t"});
}

TEST_CASE("rows are told apart by their key, or by themselves where there is none") {
  auto table = hostile();
  CHECK(TableSql(table).key_label() == "(I d)");
  CHECK(TableSql(table).rows(255, {1, 2}).find("hashtextextended(ROW(t.\"I d\")::pg_catalog.text, 0) AS h") !=
        std::string::npos);
  CHECK(TableSql(table).rows(255, {1, 2}).find("h & 255 = ANY ('{1,2}'") != std::string::npos);
  table.key.clear();
  CHECK(TableSql(table).key_label() == "row");
  CHECK(TableSql(table).rows(0, {0}).find(
            "hashtextextended(ROW(t.\"I d\", t.\"t\")::pg_catalog.text, 0) AS h") != std::string::npos);
}

TEST_CASE("the fields of a key are read from its text, but not one that was cut off") {
  using Fields = std::vector<std::string>;
  CHECK(fields_of("(5)") == Fields{"5"});
  CHECK(fields_of("(-5,abc,)") == Fields{"-5", "abc", ""});
  CHECK(fields_of(R"x(("a,b)","say ""hi"" \\ ","",7))x") == Fields{"a,b)", R"(say "hi" \ )", "", "7"});
  CHECK(fields_of(R"x(("""",1))x") == Fields{"\"", "1"});
  CHECK(fields_of("(12,345") == Fields{"12"});
  CHECK(fields_of("(12,\"34") == Fields{"12"});
  CHECK(fields_of("").empty());
  CHECK(fields_of("12").empty());
}

TEST_CASE("an empty comparison is not equal, and one table that isn't equal spoils it") {
  Comparison comparison;
  CHECK_FALSE(comparison.equal());
  comparison.tables.resize(2);
  comparison.tables[0].verdict = Verdict::equal;
  CHECK_FALSE(comparison.equal());
  comparison.tables[1].verdict = Verdict::different;
  CHECK_FALSE(comparison.equal());
  comparison.tables[1].verdict = Verdict::equal;
  CHECK(comparison.equal());
}

}  // namespace
}  // namespace replication::verify
