// One input for what reads a journal from disk, checked for what must hold of every input: as a file's frames
// and as the payload of one. Used by libFuzzer and by the smoke test, which needs no fuzzer.
#pragma once

#include <span>

namespace tests {

// Throws std::logic_error where something doesn't hold. True where the bytes begin with a valid frame or are
// a payload.
bool fuzz_journal(std::span<const char> bytes);

}  // namespace tests
