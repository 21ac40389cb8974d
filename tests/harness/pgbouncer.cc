#include "tests/harness/pgbouncer.h"

#include <unistd.h>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "tests/harness/wait.h"

namespace harness {

namespace postgres = replication::postgres;
using replication::base::Error;

std::string Pgbouncer::find_program() {
  const char* search = std::getenv("PATH");
  std::string path = search == nullptr ? "" : search;
  path += ":/usr/sbin:/usr/local/sbin";
  for (std::size_t from = 0; from < path.size();) {
    const auto to = std::min(path.find(':', from), path.size());
    auto program = path.substr(from, to - from) + "/pgbouncer";
    if (access(program.c_str(), X_OK) == 0) {
      return program;
    }
    from = to + 1;
  }
  return {};
}

Pgbouncer::Pgbouncer(PgbouncerOptions options) : directory_("pgcut-bouncer") {
  const auto program = find_program();
  if (program.empty()) {
    throw Error("pgbouncer not found in PATH and /usr/sbin", "install the package pgbouncer");
  }
  write_databases(options.databases);
  write_main_ini(options);
  process_.emplace(ProcessOptions{.argv = {program, directory_.file("pgbouncer.ini")},
                                  .directory = directory_.path().string(),
                                  .stdout_path = log_path(),
                                  .stderr_path = log_path(),
                                  .unprivileged = true,
                                  .end_signal = SIGKILL});
  wait_started();
}

Pgbouncer::~Pgbouncer() {
  try {
    stop();
  } catch (const std::exception&) {
    // The process is killed by its own destructor.
  }
}

void Pgbouncer::write_main_ini(const PgbouncerOptions& options) const {
  std::string users = "\"pgbouncer\" \"\"\n";
  for (const auto& user : options.users) {
    users += "\"" + user + "\" \"\"\n";
  }
  write_file(directory_.file("users.txt"), users);
  const auto directory = directory_.path().string();
  std::string text = "%include " + databases_ini() +
                     "\n[pgbouncer]\nlisten_addr =\nlisten_port = " + std::to_string(kPort) +
                     "\nunix_socket_dir = " + directory +
                     "\nauth_type = trust\nauth_file = " + directory_.file("users.txt") +
                     "\nadmin_users = pgbouncer, postgres\npool_mode = transaction\nmax_client_conn = 200\n"
                     "default_pool_size = 20\nserver_login_retry = 1\n"
                     "ignore_startup_parameters = extra_float_digits, options\n";
  for (const auto& line : options.conf) {
    text += line + "\n";
  }
  write_file(directory_.file("pgbouncer.ini"), text);
}

void Pgbouncer::wait_started() {
  const auto socket = directory_.file(".s.PGSQL." + std::to_string(kPort));
  wait_until(Deadline::in(milliseconds(120'000)), "pgbouncer accepts connections", [&] {
    if (!process_->running()) {
      throw Error("pgbouncer did not start: " + last_lines(log_path(), 5));
    }
    if (access(socket.c_str(), F_OK) != 0) {
      return false;
    }
    try {
      console("SHOW VERSION");
      return true;
    } catch (const Error& error) {
      if (error.exit_code() != replication::base::ExitCode::unreachable) {
        throw;
      }
      return false;  // bound, not listening yet
    }
  });
}

std::string Pgbouncer::conninfo(std::string_view dbname, std::string_view user) const {
  return socket_conninfo(directory_.path().string(), kPort, dbname, user);
}

std::string Pgbouncer::console_conninfo() const {
  return conninfo("pgbouncer", "pgbouncer");
}

postgres::Result Pgbouncer::console(std::string_view command) const {
  postgres::SessionOptions session;
  session.server = "pgbouncer";
  session.kind = postgres::SessionKind::console;
  const auto info = postgres::ConnInfo::parse(console_conninfo(), "the pooler's console");
  return postgres::Connection::open(info, session, replication::base::Stop::never()).exec(command);
}

void Pgbouncer::write_databases(const std::map<std::string, std::string>& databases) const {
  std::string text = "[databases]\n";
  for (const auto& [name, conninfo] : databases) {
    text += name + " = " + conninfo + "\n";
  }
  write_file(databases_ini(), text);
}

void Pgbouncer::stop() {
  if (running()) {
    // Which polite signal means "at once" changed between 1.18 and 1.23; there is nothing to be saved.
    process_->end(SIGKILL, Deadline::in(milliseconds(10'000)));
  }
}

}  // namespace harness
