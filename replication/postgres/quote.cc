#include "replication/postgres/quote.h"

namespace replication::postgres {
namespace {

std::string doubled(std::string_view text, char quote) {
  std::string result(1, quote);
  for (const char c : text) {
    result += c;
    if (c == quote) {
      result += c;
    }
  }
  return result + quote;
}

}  // namespace

std::string quote_identifier(std::string_view name) {
  return doubled(name, '"');
}

std::string quote_qualified(std::string_view schema, std::string_view name) {
  return quote_identifier(schema) + "." + quote_identifier(name);
}

std::string quote_literal(std::string_view text) {
  if (text.find('\\') == std::string_view::npos) {
    return doubled(text, '\'');
  }
  // As quote_literal() does: right whatever standard_conforming_strings says.
  std::string escaped;
  for (const char c : text) {
    escaped += c;
    if (c == '\\') {
      escaped += c;
    }
  }
  return " E" + doubled(escaped, '\'');
}

std::string array_literal(std::span<const std::string> items) {
  std::string result = "{";
  for (const auto& item : items) {
    result += result.size() > 1 ? ",\"" : "\"";
    for (const char c : item) {
      if (c == '"' || c == '\\') {
        result += '\\';
      }
      result += c;
    }
    result += '"';
  }
  return result + "}";
}

}  // namespace replication::postgres
