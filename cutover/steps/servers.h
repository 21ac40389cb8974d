// The sessions of one process with both servers. The control sessions are opened at first use and again after
// a loss; every other session is made for its purpose and belongs to the caller.
//
// Every session of a process carries the same tag in its application_name ("pgcutover apply 3fa9c1"), so that
// a successor can tell its own sessions from a predecessor's and end those. Threads: the control sessions
// belong to one thread; open() may be called by any.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cutover/plan/plan.h"
#include "cutover/steps/side.h"
#include "replication/catalog/server.h"
#include "replication/postgres/connection.h"

namespace cutover::steps {

// `reader`: a verb that only looks; a controller that takes over leaves its sessions alone.
enum class Who { controller, reader };

class Servers {
 public:
  Servers(const plan::Plan& plan, base::milliseconds connect_timeout, const base::Stop& stop,
          Who who = Who::controller);

  // Sessions of the same process for a pause: no statement may take longer than `statement_timeout`.
  Servers for_pause(base::milliseconds statement_timeout) const;

  // The control session; opened again where it was lost.
  postgres::Connection& at(Side side);
  postgres::Connection& source() { return at(Side::source); }
  postgres::Connection& target() { return at(Side::target); }

  postgres::Connection open(Side side, std::string_view purpose,
                            postgres::SessionKind kind = postgres::SessionKind::sql,
                            std::vector<std::pair<std::string, std::string>> settings = {}) const;
  // Like the plan's, with this process's application_name for `purpose`.
  postgres::ConnInfo info(Side side, std::string_view purpose) const;
  // From now on sessions with either side know what applications' sessions in the source's database begin
  // with (postgres/as_applications.h). Not while other threads are at work.
  void learn_application_settings();
  // What a new session of an application has there of these settings.
  std::vector<catalog::DefaultSetting> default_settings(Side side, const std::vector<std::string>& names);
  // Closes the control sessions.
  void close();

  const std::string& tag() const { return tag_; }
  const base::Stop& stop() const { return stop_; }

 private:
  const plan::Plan& plan_;
  const base::milliseconds connect_timeout_;
  const base::Stop& stop_;
  const Who who_;
  base::milliseconds statement_timeout_{60'000};
  std::string tag_;
  std::map<std::string, std::string> application_settings_;
  std::optional<postgres::Connection> source_, target_;
};

std::string host_name();
// "host pid 4711", for humans who ask who is in control.
std::string this_process();
// `bytes` random bytes in hexadecimal, from the kernel.
std::string random_hex(std::size_t bytes);

}  // namespace cutover::steps
