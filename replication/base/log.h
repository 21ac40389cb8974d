// Logging: one line an event on stderr, through spdlog, which stays behind this header. Every line passes the
// one redaction point (redaction.h). Safe from every thread.
#pragma once

#include <string_view>

namespace replication::base::log {

enum class Level { debug, info, warn, error };
enum class Format { text, json };

// Called once by main, before threads start.
void configure(Level level, Format format);

void debug(std::string_view line);
void info(std::string_view line);
void warn(std::string_view line);
void error(std::string_view line);

// A sink for the live progress line of a terminal: it is called before and after each log line, so that a
// line under way can be wiped and drawn again. Pass null functions to take it away.
void set_line_hooks(void (*before)(), void (*after)());

}  // namespace replication::base::log
