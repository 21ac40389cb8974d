// What this process takes of memory, for tests of bounds.
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

#include "tests/harness/temp_dir.h"

namespace harness {

// A field of /proc/self/status in KiB: "VmRSS:" now, "VmHWM:" the peak.
inline std::int64_t memory_kib(const std::string& field) {
  const auto status = read_file("/proc/self/status");
  const auto at = status.find(field);
  if (at == std::string::npos) {
    throw std::runtime_error("no " + field + " in /proc/self/status");
  }
  return std::stoll(status.substr(at + field.size()));
}

// From here on the peak is that since now.
inline void forget_memory_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace harness
