#include "replication/apply/marker_row.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "tests/unit/apply/fixtures.h"

using namespace replication::apply;
using apply_fixtures::Rows;
using replication::pgoutput::ColumnKind;

TEST_CASE("timestamps in ISO and UTC are microseconds since 2000") {
  CHECK(parse_timestamp("2000-01-01 00:00:00+00") == 0);
  CHECK(parse_timestamp("2000-01-02 00:00:01.5+00") == 86'401'500'000);
  CHECK(parse_timestamp("2026-11-21 23:49:02.123456+00") == 848'620'142'123'456);
  CHECK(parse_timestamp("1999-12-31 23:59:59.999999+00") == -1);
  for (const auto* wrong :
       {"", "infinity", "2000-01-01 00:00:00+02", "2000-01-01T00:00:00+00", "2000-0x-01 00:00:00+00"}) {
    CHECK_THROWS_AS(parse_timestamp(wrong), replication::base::Error);
  }
}

TEST_CASE("row 1 is a marker, row 2 the heartbeat, in text and binary") {
  replication::pgoutput::CachedRelation relation;
  relation.columns = {{true, "id", 23, -1}, {false, "token", 25, -1}, {false, "at", 1184, -1}};
  Rows rows;
  CHECK(read_marker_row(relation, rows.add({"1", "abc", std::nullopt})).token == "abc");
  CHECK(read_marker_row(relation, rows.add({"2", std::nullopt, "2000-01-01 00:00:01+00"})).heartbeat_us ==
        1'000'000);
  const auto binary = read_marker_row(
      relation,
      rows.add({std::string("\0\0\0\2", 4), "x", std::string("\0\0\0\0\0\0\0\5", 8)}, ColumnKind::binary));
  CHECK(binary.heartbeat_us == 5);
  CHECK_FALSE(binary.token.has_value());
}
