// CRC-32C (Castagnoli), as iSCSI and PostgreSQL's WAL use it. Pure.
#pragma once

#include <cstdint>
#include <string_view>

namespace replication::journal {

// `before` is that of the bytes in front of these.
std::uint32_t crc32c(std::string_view bytes, std::uint32_t before = 0);

}  // namespace replication::journal
