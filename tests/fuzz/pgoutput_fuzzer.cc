#include <cstddef>
#include <cstdint>

#include "tests/fuzz/pgoutput_harness.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tests::fuzz_pgoutput({reinterpret_cast<const char*>(data), size});
  return 0;
}
