#include "replication/base/lsn.h"

#include <doctest/doctest.h>
#include <limits>
#include <string>

#include "replication/base/error.h"

namespace replication::base {
namespace {

TEST_CASE("an LSN is written as PostgreSQL writes it and reads back") {
  CHECK(Lsn{}.to_string() == "0/0");
  CHECK(Lsn{0x16'B374'D848}.to_string() == "16/B374D848");
  CHECK(Lsn{0x1'0000'0001}.to_string() == "1/1");
  CHECK(Lsn{std::numeric_limits<std::uint64_t>::max()}.to_string() == "FFFFFFFF/FFFFFFFF");
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0xFFFFFFFF},
                                    std::uint64_t{0x100000000}, std::numeric_limits<std::uint64_t>::max()}) {
    CHECK(Lsn::parse(Lsn{value}.to_string()).value == value);
  }
  CHECK(Lsn::parse("16/b374d848").value == 0x16'B374'D848);
  CHECK(Lsn::parse("00000016/0B").value == 0x16'0000'000B);
}

TEST_CASE("anything else is no LSN") {
  for (const std::string text : {"", "/", "1", "1/", "/1", "1/2/3", " 1/2", "1/2 ", "1/-2", "+1/2", "x/1",
                                 "0x1/2", "123456789/0", "0/123456789"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(Lsn::parse(text), Error);
  }
}

TEST_CASE("only 0/0 is invalid, and order is that of the log") {
  CHECK_FALSE(Lsn{}.valid());
  CHECK(Lsn{1}.valid());
  CHECK(Lsn::parse("1/0") > Lsn::parse("0/FFFFFFFF"));
  CHECK(Lsn{300}.bytes_since(Lsn{100}) == 200);
  CHECK(Lsn{100}.bytes_since(Lsn{300}) == 0);
}

}  // namespace
}  // namespace replication::base
