#include "replication/catalog/evolution.h"

#include <doctest/doctest.h>

using replication::catalog::enum_additions;
using replication::catalog::widens;

namespace {

constexpr int numeric(int precision, int scale) {
  return ((precision << 16) | scale) + 4;
}

}  // namespace

TEST_CASE("only types that hold every value with the same text are wider") {
  CHECK(widens(21, -1, 23, -1));
  CHECK(widens(23, -1, 20, -1));
  CHECK_FALSE(widens(20, -1, 23, -1));
  CHECK(widens(1043, 14, 1043, 24));
  CHECK(widens(1043, 14, 1043, -1));
  CHECK(widens(1043, 14, 25, -1));
  CHECK_FALSE(widens(1043, 24, 1043, 14));
  CHECK_FALSE(widens(1043, -1, 1043, 24));
  CHECK_FALSE(widens(1042, 14, 1042, 24));  // char pads
  CHECK_FALSE(widens(700, -1, 701, -1));    // float4 to float8 prints other digits
  CHECK(widens(1700, numeric(6, 2), 1700, numeric(9, 2)));
  CHECK_FALSE(widens(1700, numeric(6, 2), 1700, numeric(9, 3)));  // 1.50 becomes 1.500
  CHECK_FALSE(widens(1700, numeric(6, 2), 1700, numeric(6, 2)));
  CHECK_FALSE(widens(1700, -1, 1700, numeric(9, 2)));
}

TEST_CASE("labels are added in their order; renamed ones can't be told") {
  using Statements = std::vector<std::string>;
  CHECK(enum_additions({"s", "t", {"b"}}, {"s", "t", {"a", "b", "c'", "d"}}) ==
        Statements{"ALTER TYPE \"s\".\"t\" ADD VALUE 'a' BEFORE 'b'",
                   "ALTER TYPE \"s\".\"t\" ADD VALUE 'c''' AFTER 'b'",
                   "ALTER TYPE \"s\".\"t\" ADD VALUE 'd' AFTER 'c'''"});
  CHECK(enum_additions({"s", "t", {}}, {"s", "t", {"a"}}) ==
        Statements{"ALTER TYPE \"s\".\"t\" ADD VALUE 'a'"});
  CHECK(enum_additions({"s", "t", {"a"}}, {"s", "t", {"a"}}) == Statements{});
  CHECK_FALSE(enum_additions({"s", "t", {"a", "b"}}, {"s", "t", {"a", "x"}}).has_value());
  CHECK_FALSE(enum_additions({"s", "t", {"a", "b"}}, {"s", "t", {"b", "a"}}).has_value());
}
