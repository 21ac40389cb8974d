#include "replication/stream/timeline.h"

#include <doctest/doctest.h>

using replication::base::Lsn;
using replication::stream::ancestor_in;
using replication::stream::timeline_from_text;
using replication::stream::to_text;

TEST_CASE("a history file says where each ancestor began and ended, and nothing of others") {
  constexpr const char* kHistory =
      "1\t0/30000D8\tno recovery target specified\n"
      "# a comment, 2\t0/1\n"
      "\n"
      "  3  2A/10  \tbefore transaction 12\r\n";
  CHECK(ancestor_in(kHistory, 1)->begin == Lsn{});
  CHECK(ancestor_in(kHistory, 1)->end == Lsn{0x30000D8});
  CHECK(ancestor_in(kHistory, 3)->begin == Lsn{0x30000D8});
  CHECK(ancestor_in(kHistory, 3)->end == Lsn{0x2A00000010});
  CHECK(ancestor_in(kHistory, 0)->end == Lsn{0x2A00000010});
  CHECK_FALSE(ancestor_in(kHistory, 2).has_value());
  CHECK_FALSE(ancestor_in("", 1).has_value());
  CHECK_FALSE(ancestor_in("", 0).has_value());
  CHECK_FALSE(ancestor_in("12\t0/5\tx", 1).has_value());
  CHECK(ancestor_in("1\t0/5", 1)->end == Lsn{5});
  CHECK_THROWS(ancestor_in("1\tnowhere\tx\n", 1));
}

TEST_CASE("a timeline is kept with its beginning, and read back; an older note has none") {
  const auto kept = timeline_from_text(to_text({3, Lsn{0x2A00000010}}));
  CHECK(kept.number == 3);
  CHECK(kept.begin == Lsn{0x2A00000010});
  CHECK(timeline_from_text(to_text({1, Lsn{}})).begin == Lsn{});
  CHECK(timeline_from_text("2").number == 2);
  CHECK_FALSE(timeline_from_text("2").begin.has_value());
  CHECK(timeline_from_text("").number == 0);
}
