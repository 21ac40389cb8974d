#include "replication/base/redaction.h"

#include <mutex>
#include <regex>
#include <set>

namespace replication::base {
namespace {

std::mutex secrets_mutex;

std::set<std::string, std::less<>>& secrets() {
  static std::set<std::string, std::less<>> set;
  return set;
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

bool may_hold_secret(std::string_view text) {
  return text.find("://") != std::string_view::npos || text.find("assw") != std::string_view::npos ||
         text.find("ASSW") != std::string_view::npos ||
         text.find("SCRAM-SHA-256$") != std::string_view::npos || text.find("md5") != std::string_view::npos;
}

}  // namespace

std::string redact(std::string_view text) {
  std::string result(text);
  if (may_hold_secret(text)) {
    static const std::regex uri(R"((postgres(?:ql)?://[^:@/\s'"]*):[^@\s'"]*@)");
    static const std::regex keyword(
        R"re(((?:ssl)?password['"]?\s*(?:=|:)\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&'"]+))re",
        std::regex::icase);
    static const std::regex sql(R"((password\s+)'(?:[^']|'')*')", std::regex::icase);
    static const std::regex verifier(R"(SCRAM-SHA-256\$[^\s'"]+|\bmd5[0-9a-f]{32}\b)");
    result = std::regex_replace(result, uri, "$1:***@");
    result = std::regex_replace(result, keyword, "$1***");
    result = std::regex_replace(result, sql, "$1'***'");
    result = std::regex_replace(result, verifier, "***");
  }
  const std::lock_guard lock(secrets_mutex);
  for (const auto& secret : secrets()) {
    replace_all(result, secret, "***");
  }
  return result;
}

void register_secret(std::string_view secret) {
  if (secret.size() < 4) {
    return;
  }
  const std::lock_guard lock(secrets_mutex);
  secrets().emplace(secret);
}

}  // namespace replication::base
