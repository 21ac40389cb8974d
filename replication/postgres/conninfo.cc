#include "replication/postgres/conninfo.h"

#include <libpq-fe.h>
#include <memory>
#include <utility>

#include "replication/base/error.h"
#include "replication/base/redaction.h"
#include "replication/postgres/connection_state.h"

namespace replication::postgres {
namespace {

struct FreeOptions {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};
using Options = std::unique_ptr<PQconninfoOption, FreeOptions>;

}  // namespace

ConnInfo ConnInfo::parse(std::string_view text, std::string_view what) {
  char* error = nullptr;
  const Options options(PQconninfoParse(std::string(text).c_str(), &error));
  if (!options) {
    const std::string why = base::redact(one_line(error));
    PQfreemem(error);
    throw base::UsageError(
        std::string(what) + " is no connection string: " + why,
        "use a URI (postgresql://user@host/db), keywords (host=... dbname=...) or service=NAME");
  }
  ConnInfo info;
  for (const auto* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) {
      info.keywords_[option->keyword] = option->val;
    }
  }
  if (info.keywords_.empty()) {
    throw base::UsageError(std::string(what) + " is empty", "give at least dbname=... or service=NAME");
  }
  base::register_secret(info.get("password"));
  base::register_secret(info.get("sslpassword"));
  return info;
}

ConnInfo ConnInfo::with(std::string_view keyword, std::string_view value) const {
  ConnInfo copy(*this);
  copy.keywords_[std::string(keyword)] = value;
  return copy;
}

ConnInfo ConnInfo::with_application_settings(std::map<std::string, std::string> settings) const {
  ConnInfo copy(*this);
  copy.application_settings_ = std::move(settings);
  return copy;
}

std::string ConnInfo::get(std::string_view keyword) const {
  const auto found = keywords_.find(std::string(keyword));
  return found == keywords_.end() ? std::string() : found->second;
}

std::string ConnInfo::describe() const {
  std::string text;
  for (const char* keyword : {"service", "host", "hostaddr", "port", "dbname", "user"}) {
    if (const auto value = get(keyword); !value.empty()) {
      text += (text.empty() ? "" : " ") + std::string(keyword) + "=" + value;
    }
  }
  return text.empty() ? "libpq's defaults" : text;
}

std::map<std::string, std::string> ConnInfo::environment() const {
  std::map<std::string, std::string> environment;
  const Options known(PQconndefaults());
  for (const auto* option = known.get(); option != nullptr && option->keyword != nullptr; ++option) {
    if (const auto found = keywords_.find(option->keyword);
        found != keywords_.end() && option->envvar != nullptr) {
      environment[option->envvar] = found->second;
    }
  }
  return environment;
}

std::string ConnInfo::secret_text() const {
  std::string text;
  for (const auto& [keyword, value] : keywords_) {
    text += (text.empty() ? "" : " ") + keyword + "='";
    for (const char c : value) {
      if (c == '\'' || c == '\\') {
        text += '\\';
      }
      text += c;
    }
    text += '\'';
  }
  return text;
}

}  // namespace replication::postgres
