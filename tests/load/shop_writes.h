// What one load transaction writes beside the bank: one kind of write after the other, so that every type,
// TOAST, partition moves, cascades, sequences and triggers are in the stream all the time.
#pragma once

#include <cstdint>
#include <string>

#include "tests/load/shop_schema.h"

namespace load {

// How many kinds there are; transaction `seq` of a client does kind seq % kShopWrites.
inline constexpr std::int64_t kShopWrites = 10;

// SQL text (several statements, no BEGIN and COMMIT). Rows of different clients don't meet, except in foreign
// keys.
std::string shop_write_sql(const ShopSize& size, int client, std::int64_t seq);

}  // namespace load
