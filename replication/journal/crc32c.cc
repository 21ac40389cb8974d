#include "replication/journal/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

namespace replication::journal {
namespace {

using Table = std::array<std::uint32_t, 256>;

// Slicing by eight: table k takes a byte that lies k bytes further back.
constexpr std::array<Table, 8> make_tables() {
  constexpr std::uint32_t kReversed = 0x82F63B78;
  std::array<Table, 8> tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversed : 0);
    }
    tables[0][i] = crc;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t i = 0; i < 256; ++i) {
      tables[k][i] = (tables[k - 1][i] >> 8) ^ tables[0][tables[k - 1][i] & 0xFF];
    }
  }
  return tables;
}

constexpr auto kTables = make_tables();

std::uint32_t byte_of(std::uint64_t word, unsigned index) {
  return static_cast<std::uint32_t>(word >> (8 * index)) & 0xFF;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes, std::uint32_t before) {
  static_assert(std::endian::native == std::endian::little);
  std::uint32_t crc = ~before;
  while (bytes.size() >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    word ^= crc;
    crc = 0;
    for (unsigned i = 0; i < 8; ++i) {
      crc ^= kTables[7 - i][byte_of(word, i)];
    }
    bytes.remove_prefix(8);
  }
  for (const char c : bytes) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<std::uint8_t>(c)) & 0xFF];
  }
  return ~crc;
}

}  // namespace replication::journal
