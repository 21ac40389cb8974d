#include "replication/apply/row_encoder.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "tests/unit/apply/fixtures.h"

using namespace replication::apply;
using apply_fixtures::Rows;
using replication::pgoutput::ColumnKind;

namespace {

EncodedRows encode(const TargetTable& table, Row row, RowPart part = RowPart::all) {
  return encode_rows(table, {&row, 1}, part);
}

}  // namespace

TEST_CASE("text rows are quoted for a row within an array") {
  const auto table = apply_fixtures::table({"a", "b"}, 1);
  Rows rows;
  const auto text = [&](std::optional<std::string> a, std::optional<std::string> b) {
    return encode(table, rows.add({std::move(a), std::move(b)})).bytes;
  };
  CHECK(text("1", "x") == R"~({"(\"1\",\"x\")"})~");
  CHECK(text("1", std::nullopt) == R"~({"(\"1\",)"})~");
  CHECK(text("1", "") == R"~({"(\"1\",\"\")"})~");
  CHECK(text(R"(a"b)", R"(c\d)") == R"~({"(\"a\"\"b\",\"c\\\\d\")"})~");
  CHECK(text("{1,2}", "(x,y)") == R"~({"(\"{1,2}\",\"(x,y)\")"})~");
}

TEST_CASE("several text rows are separated, none are an empty array") {
  const auto table = apply_fixtures::table({"a"}, 1);
  Rows rows;
  const std::vector<Row> two{rows.add({"1"}), rows.add({"2"})};
  CHECK(encode_rows(table, two).bytes == R"~({"(\"1\")","(\"2\")"})~");
  CHECK_FALSE(encode_rows(table, two).binary);
}

TEST_CASE("binary rows carry the target's types, NULL for columns that are not written") {
  auto table = apply_fixtures::table({"a", "g", "b"}, 1);
  table.columns[0].type = 23;
  table.columns[1].generated = true;
  Rows rows;
  const auto encoded =
      encode(table, rows.add({std::string("\0\0\0\7", 4), "ignored", "xy"}, ColumnKind::binary));
  REQUIRE(encoded.binary);
  const std::string expected(
      "\0\0\0\1\0\0\0\0\0\0\x40\x12\0\0\0\1\0\0\0\1"  // one dimension, no NULLs, type 16402, one element from
                                                      // 1
      "\0\0\0\x22\0\0\0\3"                            // 34 bytes, three columns
      "\0\0\0\x17\0\0\0\4\0\0\0\7"                    // int4 7
      "\0\0\0\x19\xff\xff\xff\xff"                    // generated: NULL
      "\0\0\0\x19\0\0\0\2xy",
      58);
  CHECK(encoded.bytes == expected);
}

TEST_CASE("rows are encoded up to a size, one at least") {
  const auto table = apply_fixtures::table({"a"}, 1);
  for (const auto kind : {ColumnKind::text, ColumnKind::binary}) {
    Rows rows;
    std::vector<Row> list;
    for (int i = 0; i < 10; ++i) {
      list.push_back(rows.add({std::string(100, 'x')}, kind));
    }
    const auto some = encode_rows(table, list, RowPart::all, 400);
    CHECK(some.rows >= 3);
    CHECK(some.rows <= 4);
    CHECK(encode_rows(table, list, RowPart::all, 1).rows == 1);
    CHECK(encode_rows(table, list).rows == 10);
    CHECK(encode_rows(table, {}).rows == 0);
    // The rest, encoded alone, is what follows: nothing is left out between two statements.
    const auto rest = encode_rows(table, std::span(list).subspan(some.rows));
    CHECK(some.rows + rest.rows == 10);
    CHECK(encode_rows(table, std::span(list).first(some.rows)).bytes == some.bytes);
  }
}

TEST_CASE("a key alone leaves the other columns NULL") {
  const auto table = apply_fixtures::table({"a", "b"}, 1);
  Rows rows;
  CHECK(encode(table, rows.add({"1", "x"}), RowPart::key).bytes == R"~({"(\"1\",)"})~");
}

TEST_CASE("a value that was not sent becomes NULL, to be masked by the statement") {
  const auto table = apply_fixtures::table({"a", "b"}, 1);
  Rows rows;
  CHECK(encode(table, rows.add({"1", std::string(Rows::kUnsent)})).bytes == R"~({"(\"1\",)"})~");
}

TEST_CASE("text and binary values are not mixed") {
  const auto table = apply_fixtures::table({"a", "b"}, 1);
  Rows rows;
  auto& row = rows.add({"1", "x"});
  row[1].kind = ColumnKind::binary;
  CHECK_THROWS_AS(encode(table, row), replication::base::Error);
}

TEST_CASE("columns follow the target's order, whatever the source's is") {
  auto table = apply_fixtures::table({"a", "b", "own"}, 1);
  table.columns[0].source = 1;
  table.columns[1].source = 0;
  table.columns[2].source = -1;
  Rows rows;
  CHECK(encode(table, rows.add({"B", "A"})).bytes == R"~({"(\"A\",\"B\",)"})~");
}

TEST_CASE("keys are named for people") {
  auto table = apply_fixtures::table({"id", "region"}, 2);
  table.columns[0].type = 23;
  Rows rows;
  CHECK(describe_key(table, rows.add({"17", "it's"})) == "id=17, region='it''s'");
  CHECK(describe_key(table, rows.add({std::string("\xff\xff\xff\xfe", 4), "eu"}, ColumnKind::binary)) ==
        "id=-2, region='eu'");
}
