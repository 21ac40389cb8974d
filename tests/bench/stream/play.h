// This program as the tool: receiver and applier as the tool puts them together, until it is ended.
#pragma once

#include <string>

namespace bench {

// Returns never: ends by a signal, or by an exception where the stream failed.
[[noreturn]] void play(const std::string& source, const std::string& target, const std::string& slot,
                       const std::string& publication);

}  // namespace bench
