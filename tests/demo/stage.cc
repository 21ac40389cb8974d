#include "tests/demo/stage.h"

#include <array>
#include <sys/random.h>
#include <sys/stat.h>

#include "replication/base/error.h"
#include "replication/base/redaction.h"
#include "replication/postgres/quote.h"
#include "tests/demo/pgbench.h"

namespace demo {

namespace base = replication::base;
namespace postgres = replication::postgres;

namespace {

std::string random_word() {
  std::array<unsigned char, 12> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw base::Error("no random bytes");
  }
  std::string word;
  for (const auto byte : bytes) {
    word += static_cast<char>('a' + byte % 26);
  }
  return word;
}

// A YAML scalar in single quotes, where only the quote itself is special.
std::string yaml(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    quoted += c == '\'' ? "''" : std::string(1, c);
  }
  return quoted + "'";
}

std::string keyword_string(const postgres::ConnInfo& info) {
  std::string text;
  for (const auto& [keyword, value] : info.keywords()) {
    text += text.empty() ? "" : " ";
    text += keyword + "='";
    for (const char c : value) {
      text += c == '\'' || c == '\\' ? "\\" : "";
      text += c;
    }
    text += "'";
  }
  return text;
}

}  // namespace

const char* name_of(Side side) {
  return side == Side::source ? "source" : "target";
}

Stage::Stage(const Options& options, const base::Stop& stop) : stop_(stop), directory_("pgcut-demo") {
  if (options.keep) {
    directory_.keep();
  }
  if (options.external()) {
    source_admin_ = postgres::ConnInfo::parse(options.source_admin, "--source-admin");
    target_admin_ = postgres::ConnInfo::parse(options.target_admin, "--target-admin");
    pooler_info_ = postgres::ConnInfo::parse(options.pooler, "--pooler");
    console_info_ = postgres::ConnInfo::parse(options.console, "--console");
    databases_ini_ = options.databases_ini;
    mover_password_ = random_word();
    base::register_secret(mover_password_);
  } else {
    start_servers(options);
  }
}

void Stage::start_servers(const Options& options) {
  source_.emplace(harness::ClusterOptions{.name = "source", .fsync = options.fsync});
  target_.emplace(harness::ClusterOptions{.name = "target", .fsync = options.fsync});
  bouncer_.emplace(harness::PgbouncerOptions{
      .databases = {{kDatabase, "host=" + source_->host() + " port=" +
                                    std::to_string(harness::Cluster::kPort) + " dbname=" + kDatabase}}});
  source_admin_ = postgres::ConnInfo::parse(source_->conninfo(), "the source");
  target_admin_ = postgres::ConnInfo::parse(target_->conninfo(), "the target");
  pooler_info_ = postgres::ConnInfo::parse(bouncer_->conninfo(kDatabase, "app"), "the pooler");
  console_info_ = postgres::ConnInfo::parse(bouncer_->console_conninfo(), "the pooler's console");
  databases_ini_ = bouncer_->databases_ini();
}

const postgres::ConnInfo& Stage::admin(Side side) const {
  return side == Side::source ? source_admin_ : target_admin_;
}

postgres::ConnInfo Stage::as(Side side, const std::string& user, const std::string& password) const {
  auto info = admin(side).with("dbname", kDatabase).with("user", user);
  return password.empty() ? info : info.with("password", password);
}

postgres::Connection Stage::connect(Side side, const std::string& database) const {
  postgres::SessionOptions session;
  session.server = name_of(side);
  session.application_name = "demo";
  return postgres::Connection::open(admin(side).with("dbname", database), session, stop_);
}

std::string Stage::describe() const {
  const auto version = [this](Side side) {
    return "PostgreSQL " + connect(side, "postgres").one_value("SHOW server_version");
  };
  return "source " + version(Side::source) + ", target " + version(Side::target) + ", pgbouncer between";
}

void Stage::make_roles() {
  const auto password = pooler_info_.get("password");
  const auto clause = [](const std::string& secret) {
    return secret.empty() ? std::string() : " PASSWORD " + postgres::quote_literal(secret);
  };
  auto source = connect(Side::source, "postgres");
  source.exec("CREATE ROLE app LOGIN" + clause(password));
  source.exec("CREATE ROLE mover LOGIN SUPERUSER" + clause(mover_password_));
  // The verifier is copied, not made anew: a pooler that passes SCRAM through needs the same one on both
  // sides.
  auto target = connect(Side::target, "postgres");
  for (const char* role : {"app", "mover"}) {
    const auto verifier =
        source.maybe_value("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1", {role});
    target.exec("CREATE ROLE " + postgres::quote_identifier(role) + " LOGIN" +
                (std::string(role) == "mover" ? " SUPERUSER" : "") + clause(verifier.value_or("")));
  }
}

void Stage::make_database(Side side) {
  connect(side, "postgres").exec(std::string("CREATE DATABASE ") + kDatabase + " OWNER app");
}

void Stage::set_up(int scale) {
  make_roles();
  make_database(Side::source);
  make_database(Side::target);
  const auto app = as(Side::source, "app", pooler_info_.get("password"));
  Pgbench::initialise(app, scale, stop_);
  postgres::SessionOptions session;
  session.server = "source";
  session.kind = postgres::SessionKind::console;  // as an application's, with its defaults
  postgres::Connection::open(app, session, stop_).exec(load::shop_schema_sql(shop_));
  connect(Side::source).exec("ANALYZE");
  write_plan();
}

void Stage::write_plan() const {
  const std::string text =
      "name: demo\n"
      "source: " +
      yaml(keyword_string(as(Side::source, "mover", mover_password_))) + "\n" +
      "target: " + yaml(keyword_string(as(Side::target, "mover", mover_password_))) + "\n" +
      "strategy: switchover\n"
      "apps:\n"
      "  - name: shop\n"
      "    traffic:\n"
      "      pgbouncer:\n"
      "        - admin: " +
      yaml(keyword_string(console_info_)) + "\n" + "          database: " + kDatabase + "\n" +
      "          ini: " + yaml(databases_ini_) + "\n";
  harness::write_file(plan_file(), text);
  chmod(plan_file().c_str(), 0600);  // it holds passwords
}

}  // namespace demo
