#include "replication/stream/timeline.h"

#include <doctest/doctest.h>

using replication::base::Lsn;
using replication::stream::fork_in;

TEST_CASE("a history file says where each ancestor ended, and nothing of others") {
  constexpr const char* kHistory =
      "1\t0/30000D8\tno recovery target specified\n"
      "# a comment, 2\t0/1\n"
      "\n"
      "  3  2A/10  \tbefore transaction 12\r\n";
  CHECK(fork_in(kHistory, 1) == Lsn{0x30000D8});
  CHECK(fork_in(kHistory, 3) == Lsn{0x2A00000010});
  CHECK_FALSE(fork_in(kHistory, 2).has_value());
  CHECK_FALSE(fork_in("", 1).has_value());
  CHECK_FALSE(fork_in("12\t0/5\tx", 1).has_value());
  CHECK(fork_in("1\t0/5", 1) == Lsn{5});
  CHECK_THROWS(fork_in("1\tnowhere\tx\n", 1));
}
