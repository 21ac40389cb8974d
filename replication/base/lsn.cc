#include "replication/base/lsn.h"

#include <array>
#include <charconv>
#include <cstdio>

#include "replication/base/error.h"

namespace replication::base {

std::string Lsn::to_string() const {
  std::array<char, 24> text{};
  const int length = std::snprintf(text.data(), text.size(), "%X/%X", static_cast<unsigned>(value >> 32),
                                   static_cast<unsigned>(value & 0xFFFFFFFFU));
  return {text.data(), static_cast<std::size_t>(length)};
}

Lsn Lsn::parse(std::string_view text) {
  const auto slash = text.find('/');
  std::uint32_t high = 0;
  std::uint32_t low = 0;
  const auto parse_half = [](std::string_view half, std::uint32_t& into) {
    const auto [end, error] = std::from_chars(half.data(), half.data() + half.size(), into, 16);
    return error == std::errc{} && end == half.data() + half.size() && !half.empty();
  };
  if (slash == std::string_view::npos || !parse_half(text.substr(0, slash), high) ||
      !parse_half(text.substr(slash + 1), low)) {
    throw Error("\"" + std::string(text) + "\" is not an LSN", "an LSN looks like 16/B374D848");
  }
  return Lsn{(std::uint64_t{high} << 32) | low};
}

}  // namespace replication::base
