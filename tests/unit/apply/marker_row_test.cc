#include "replication/apply/marker_row.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "tests/unit/apply/fixtures.h"

using namespace replication::apply;
using apply_fixtures::Rows;
using replication::pgoutput::ColumnKind;

TEST_CASE("row 1 is a marker, row 2 the heartbeat, in text and binary") {
  replication::pgoutput::CachedRelation relation;
  relation.columns = {{true, "id", 23, -1}, {false, "token", 25, -1}, {false, "written_us", 20, -1}};
  Rows rows;
  CHECK(read_marker_row(relation, rows.add({"1", "abc", std::nullopt})).token == "abc");
  CHECK(read_marker_row(relation, rows.add({"2", std::nullopt, "1000000"})).heartbeat_us == 1'000'000);
  const auto binary = read_marker_row(
      relation,
      rows.add({std::string("\0\0\0\2", 4), "x", std::string("\0\0\0\0\0\0\0\5", 8)}, ColumnKind::binary));
  CHECK(binary.heartbeat_us == 5);
  CHECK_FALSE(binary.token.has_value());
  CHECK_THROWS_AS(read_marker_row(relation, rows.add({"2", std::nullopt, "soon"})), replication::base::Error);
}
