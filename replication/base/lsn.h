// A position in the write-ahead log, and transaction ids: strong types, so that no plain number is taken for
// one. Follows PostgreSQL's pg_lsn (src/backend/utils/adt/pg_lsn.c) and xid8 (access/transam.h).
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace replication::base {

struct Lsn {
  std::uint64_t value = 0;

  constexpr auto operator<=>(const Lsn&) const = default;
  constexpr bool valid() const { return value != 0; }  // 0/0 is PostgreSQL's InvalidXLogRecPtr

  // Bytes from `earlier` to this; 0 where this is not later.
  constexpr std::uint64_t bytes_since(Lsn earlier) const {
    return value > earlier.value ? value - earlier.value : 0;
  }

  std::string to_string() const;            // "16/B374D848"
  static Lsn parse(std::string_view text);  // throws Error on anything else
};

using Xid = std::uint32_t;      // as on the wire; wraps around
using FullXid = std::uint64_t;  // epoch in the upper half: never wraps
using Oid = std::uint32_t;

}  // namespace replication::base
