// Reads big-endian values from bytes that somebody else owns. Never reads past the end: what is missing is a
// DecodeError that names the offset. Returned views live as long as the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "replication/base/error.h"

namespace replication::base {

class ByteReader {
 public:
  explicit ByteReader(std::span<const char> bytes, std::size_t offset = 0)
      : bytes_(bytes), position_(offset) {}

  std::uint8_t u8() { return static_cast<std::uint8_t>(take(1, "byte")[0]); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(big_endian(2, "int16")); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(big_endian(4, "int32")); }
  std::uint64_t u64() { return big_endian(8, "int64"); }
  std::int16_t i16() { return static_cast<std::int16_t>(u16()); }
  std::int32_t i32() { return static_cast<std::int32_t>(u32()); }
  std::int64_t i64() { return static_cast<std::int64_t>(u64()); }

  std::string_view bytes(std::size_t count) {
    const auto part = take(count, "bytes");
    return {part.data(), part.size()};
  }
  // Up to a terminating zero, which is consumed.
  std::string_view c_string() {
    const auto rest = bytes_.subspan(position_);
    const void* end = rest.empty() ? nullptr : std::memchr(rest.data(), 0, rest.size());
    if (end == nullptr) {
      throw DecodeError("string without an end", position_);
    }
    const auto length = static_cast<std::size_t>(static_cast<const char*>(end) - rest.data());
    position_ += length + 1;
    return {rest.data(), length};
  }

  std::size_t offset() const { return position_; }
  std::size_t remaining() const { return bytes_.size() - position_; }
  void expect_end(std::string_view what) const {
    if (remaining() != 0) {
      throw DecodeError(std::to_string(remaining()) + " bytes left over after " + std::string(what),
                        position_);
    }
  }

 private:
  std::span<const char> take(std::size_t count, const char* what) {
    if (remaining() < count) {
      throw DecodeError("truncated: " + std::string(what) + " of " + std::to_string(count) +
                            " bytes wanted, " + std::to_string(remaining()) + " left",
                        position_);
    }
    const auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }
  std::uint64_t big_endian(std::size_t count, const char* what) {
    std::uint64_t value = 0;
    for (const char c : take(count, what)) {
      value = (value << 8) | static_cast<std::uint8_t>(c);
    }
    return value;
  }

  std::span<const char> bytes_;
  std::size_t position_;
};

}  // namespace replication::base
