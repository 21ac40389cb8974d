// One input for the pgoutput decoder, checked for what must hold of every input. Used by libFuzzer and by the
// smoke test, which needs no fuzzer.
#pragma once

#include <span>

namespace tests {

// Throws std::logic_error where something doesn't hold. True where the bytes were a message.
bool fuzz_pgoutput(std::span<const char> bytes);

}  // namespace tests
