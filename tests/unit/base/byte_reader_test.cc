#include "replication/base/byte_reader.h"

#include <doctest/doctest.h>
#include <limits>
#include <string>

namespace replication::base {
namespace {

TEST_CASE("numbers are big-endian, signed ones in two's complement") {
  const std::string bytes(
      "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\xFF\xFE\xFF\xFF\xFF\xFD", 21);
  ByteReader reader(bytes);
  CHECK(reader.u8() == 1);
  CHECK(reader.u16() == 0x0203);
  CHECK(reader.u32() == 0x04050607);
  CHECK(reader.u64() == 0x08090A0B0C0D0E0F);
  CHECK(reader.offset() == 15);
  CHECK(reader.i16() == -2);
  CHECK(reader.i32() == -3);
  CHECK(reader.remaining() == 0);
  reader.expect_end("everything");
  const std::string minimum("\x80\0\0\0\0\0\0\0", 8);
  CHECK(ByteReader(minimum).i64() == std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("strings end at their zero, which is consumed") {
  const std::string bytes("ab\0\0c", 5);
  ByteReader reader(bytes);
  CHECK(reader.c_string() == "ab");
  CHECK(reader.c_string().empty());
  CHECK(reader.bytes(0).empty());
  CHECK(reader.remaining() == 1);
  CHECK_THROWS_AS(reader.c_string(), DecodeError);
  CHECK(reader.bytes(1) == "c");
  CHECK_THROWS_AS(reader.c_string(), DecodeError);
}

TEST_CASE("every read past the end throws, names the offset and moves nothing") {
  const std::string bytes("\1\2\3\4\5\6\7\7", 8);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    ByteReader reader(std::span(bytes.data(), length));
    CAPTURE(length);
    CHECK_THROWS_AS(reader.u64(), DecodeError);
    CHECK_THROWS_AS(reader.bytes(length + 1), DecodeError);
    CHECK_THROWS_AS(reader.bytes(std::numeric_limits<std::size_t>::max()), DecodeError);
    CHECK(reader.offset() == 0);
    CHECK(reader.bytes(length).size() == length);
    try {
      reader.u8();
      FAIL("read past the end");
    } catch (const DecodeError& error) {
      CHECK(error.where() == "offset " + std::to_string(length));
    }
  }
}

TEST_CASE("bytes left over are an error that says of what") {
  const std::string bytes = "abc";
  ByteReader reader(bytes);
  reader.u8();
  CHECK_THROWS_WITH_AS(reader.expect_end("Commit"), "2 bytes left over after Commit", DecodeError);
}

}  // namespace
}  // namespace replication::base
