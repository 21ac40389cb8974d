#include "cutover/steps/servers.h"

#include <algorithm>
#include <array>
#include <sys/random.h>
#include <unistd.h>

#include "replication/base/check.h"
#include "replication/postgres/as_applications.h"

namespace cutover::steps {

Servers::Servers(const plan::Plan& plan, base::milliseconds connect_timeout, const base::Stop& stop, Who who)
    : plan_(plan), connect_timeout_(connect_timeout), stop_(stop), who_(who), tag_(random_hex(3)) {}

Servers Servers::for_pause(base::milliseconds statement_timeout) const {
  Servers servers(plan_, std::min(connect_timeout_, statement_timeout), stop_, who_);
  servers.tag_ = tag_;
  servers.statement_timeout_ = statement_timeout;
  servers.application_settings_ = application_settings_;
  return servers;
}

postgres::ConnInfo Servers::info(Side side, std::string_view purpose) const {
  const auto& info = side == Side::source ? plan_.source : plan_.target;
  return info
      .with("application_name", std::string(who_ == Who::reader ? "pgcutover-cli " : "pgcutover ") +
                                    std::string(purpose) + " " + tag_)
      .with_application_settings(application_settings_);
}

postgres::Connection Servers::open(Side side, std::string_view purpose, postgres::SessionKind kind,
                                   std::vector<std::pair<std::string, std::string>> settings) const {
  postgres::SessionOptions options;
  options.server = to_string(side);
  options.kind = kind;
  options.settings = std::move(settings);
  options.connect_timeout = connect_timeout_;
  options.statement_timeout = statement_timeout_;
  return postgres::Connection::open(info(side, purpose), options, stop_);
}

postgres::Connection& Servers::at(Side side) {
  auto& session = side == Side::source ? source_ : target_;
  if (!session || !session->usable()) {
    session.reset();
    session.emplace(open(side, "control"));
  }
  return *session;
}

std::vector<catalog::DefaultSetting> Servers::default_settings(Side side,
                                                               const std::vector<std::string>& names) {
  const int major = at(side).server_major();  // an option that the server doesn't know would be refused
  const auto where = info(side, "settings");
  const auto given = where.get("options");
  postgres::SessionOptions options;
  options.server = to_string(side);
  options.kind = postgres::SessionKind::console;  // nothing pinned but what could end the look
  options.connect_timeout = connect_timeout_;
  options.statement_timeout = statement_timeout_;
  auto session = postgres::Connection::open(
      where.with("options", given + (given.empty() ? "" : " ") + "-c statement_timeout=0 -c lock_timeout=0" +
                                (major >= 14 ? " -c idle_session_timeout=0" : "") +
                                (major >= 17 ? " -c transaction_timeout=0" : "")),
      options, stop_);
  return catalog::default_settings(session, names);
}

void Servers::learn_application_settings() {
  application_settings_.clear();
  for (auto& setting : default_settings(Side::source, postgres::application_setting_names())) {
    application_settings_.emplace(std::move(setting.name), std::move(setting.value));
  }
  close();  // the control sessions shall know too
}

void Servers::close() {
  source_.reset();
  target_.reset();
}

std::string host_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return host.data();
}

std::string this_process() {
  return host_name() + " pid " + std::to_string(getpid());
}

std::string random_hex(std::size_t bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) {
    unsigned char byte = 0;
    PGCUTOVER_CHECK(getrandom(&byte, 1, 0) == 1, "the kernel gives no random bytes");
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace cutover::steps
