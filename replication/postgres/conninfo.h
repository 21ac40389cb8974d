// Where a server is and who we are there: a URI, a keyword string or `service=...`, as psql takes them.
// libpq's environment variables, service file and password file apply as usual; passwords never leave this
// type except into libpq or into the environment of a child process.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace replication::postgres {

class ConnInfo {
 public:
  ConnInfo() = default;
  // Throws UsageError naming `what` ("--source", "source.url in plan.yaml:3") where libpq refuses the text.
  static ConnInfo parse(std::string_view text, std::string_view what);

  // A copy with one keyword set ("dbname", "application_name").
  ConnInfo with(std::string_view keyword, std::string_view value) const;
  // The value of a keyword given in the text; empty where it isn't there.
  std::string get(std::string_view keyword) const;

  // A copy whose sessions know what applications' sessions in the source's database begin with
  // (as_applications.h).
  ConnInfo with_application_settings(std::map<std::string, std::string> settings) const;
  const std::map<std::string, std::string>& application_settings() const { return application_settings_; }

  // For people and logs: "host=/tmp port=5432 dbname=shop user=mover", never a password.
  std::string describe() const;
  // The keywords as libpq wants them. Contains secrets: for connecting only.
  const std::map<std::string, std::string>& keywords() const { return keywords_; }
  // PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE... for pg_dump, pg_restore and hooks.
  std::map<std::string, std::string> environment() const;
  // One text with everything, secrets included, for handing over to the guardian process through a pipe.
  std::string secret_text() const;

  bool empty() const { return keywords_.empty(); }

 private:
  std::map<std::string, std::string> keywords_;
  std::map<std::string, std::string> application_settings_;
};

}  // namespace replication::postgres
