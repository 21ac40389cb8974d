#include "replication/base/log.h"

#include <atomic>
#include <memory>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <string>

#include "replication/base/redaction.h"

namespace replication::base::log {
namespace {

std::atomic<void (*)()> before_line{nullptr};
std::atomic<void (*)()> after_line{nullptr};
std::atomic<bool> as_json{false};

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made =
        std::make_shared<spdlog::logger>("pgcutover", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v", spdlog::pattern_time_type::utc);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

std::string json_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

void write(spdlog::level::level_enum level, std::string_view line) {
  if (!logger().should_log(level)) {
    return;
  }
  const std::string safe = redact(line);
  if (const auto hook = before_line.load()) {
    hook();
  }
  logger().log(level, "{}", as_json ? json_escape(safe) : safe);
  if (const auto hook = after_line.load()) {
    hook();
  }
}

}  // namespace

void configure(Level level, Format format) {
  logger().set_level(level == Level::debug  ? spdlog::level::debug
                     : level == Level::info ? spdlog::level::info
                     : level == Level::warn ? spdlog::level::warn
                                            : spdlog::level::err);
  as_json = format == Format::json;
  if (as_json) {
    logger().set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":"%v"})",
                         spdlog::pattern_time_type::utc);
  }
}

void debug(std::string_view line) {
  write(spdlog::level::debug, line);
}
void info(std::string_view line) {
  write(spdlog::level::info, line);
}
void warn(std::string_view line) {
  write(spdlog::level::warn, line);
}
void error(std::string_view line) {
  write(spdlog::level::err, line);
}

void set_line_hooks(void (*before)(), void (*after)()) {
  before_line = before;
  after_line = after;
}

}  // namespace replication::base::log
