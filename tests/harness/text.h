// Looking into what a program said.
#pragma once

#include <string_view>

namespace harness {

inline bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace harness
