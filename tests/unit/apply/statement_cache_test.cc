#include <doctest/doctest.h>

#include "replication/apply/burst.h"

using replication::apply::StatementCache;

TEST_CASE("a full cache gives up the statement that wasn't used for the longest time") {
  StatementCache cache(2);
  const auto a = cache.slot("a");
  CHECK(a.prepare);
  const auto b = cache.slot("b");
  CHECK_FALSE(cache.slot("a").prepare);
  const auto c = cache.slot("c");
  CHECK(c.prepare);
  CHECK(c.deallocate == b.name);
  CHECK_FALSE(cache.slot("a").prepare);
  const auto again = cache.slot("b");
  CHECK(again.prepare);
  CHECK(again.name != b.name);  // whose DEALLOCATE may have been skipped
  CHECK(again.deallocate == c.name);
}

TEST_CASE("a statement that could not be prepared is prepared anew") {
  StatementCache cache(2);
  const auto first = cache.slot("a");
  cache.forget("a");
  cache.forget("never there");
  const auto second = cache.slot("a");
  CHECK(second.prepare);
  CHECK(second.name != first.name);
  CHECK_FALSE(cache.slot("b").deallocate);
}
