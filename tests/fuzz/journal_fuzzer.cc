#include <cstddef>
#include <cstdint>

#include "tests/fuzz/journal_harness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tests::fuzz_journal({reinterpret_cast<const char*>(data), size});
  return 0;
}
