// Checks for what must hold if the code is right. They stay on in release builds and throw Bug (exit code
// 70): stopping is always better than moving data on a broken assumption.
#pragma once

#include <string>

#include "replication/base/error.h"

#define PGCUTOVER_CHECK(condition, what)                                                                   \
  do {                                                                                                     \
    if (!(condition)) [[unlikely]] {                                                                       \
      throw ::replication::base::Bug(std::string("check failed: ") + #condition + ": " + (what) + " at " + \
                                     __FILE__ + ":" + std::to_string(__LINE__));                           \
    }                                                                                                      \
  } while (false)
