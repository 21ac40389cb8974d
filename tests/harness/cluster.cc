#include "tests/harness/cluster.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <signal.h>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/postgres/conninfo.h"
#include "tests/harness/cluster_template.h"
#include "tests/harness/wait.h"

namespace harness {

namespace postgres = replication::postgres;
using replication::base::Error;

namespace {

constexpr milliseconds kStartLimit{180'000};
constexpr milliseconds kStopLimit{180'000};

std::string version_of(const ClusterOptions& options) {
  if (!options.version.empty()) {
    return options.version;
  }
  auto name = options.name;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return std::isalnum(c) != 0 ? static_cast<char>(std::toupper(c)) : '_';
  });
  const char* wanted = std::getenv(("PGCUTOVER_TEST_" + name + "_VERSION").c_str());
  return wanted == nullptr ? "" : wanted;
}

void append_lines(const std::string& path, const std::vector<std::string>& lines) {
  std::ofstream out(path, std::ios::app);
  for (const auto& line : lines) {
    out << line << "\n";
  }
  out.flush();
  if (!out) {
    throw Error("cannot write " + path);
  }
}

// A zombie that nobody reaped yet holds nothing any more.
bool alive(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const auto end = stat.rfind(')');
  return end != std::string::npos && end + 2 < stat.size() && stat[end + 2] != 'Z' && stat[end + 2] != 'X';
}

}  // namespace

Cluster::Cluster(ClusterOptions options)
    : options_(std::move(options)),
      bin_(find_server(version_of(options_))),
      major_(server_major(bin_)),
      directory_("pgcut-" + options_.name.substr(0, 12)) {
  make_data_directory(bin_, data_path());
  if (!options_.wal_directory.empty()) {
    move_wal(data_path(), options_.wal_directory);
  }
  append_lines(data_path() + "/postgresql.conf",
               {"port = " + std::to_string(kPort), "listen_addresses = ''",
                "unix_socket_directories = '" + host() + "'", "wal_level = " + options_.wal_level,
                std::string("fsync = ") + (options_.fsync ? "on" : "off"), "shared_buffers = 64MB",
                "max_wal_senders = 10", "max_replication_slots = 10", "log_min_messages = warning",
                "log_line_prefix = '%m [%p] %a %d '"});
  append_lines(data_path() + "/postgresql.conf", options_.conf);
  if (options_.start) {
    start();
  }
}

Cluster::~Cluster() {
  try {
    if (running()) {
      stop(Stop::immediate);
    }
  } catch (const std::exception&) {
    // The process is killed by its own destructor; the directory goes in any case.
  }
}

void Cluster::start() {
  if (running()) {
    return;
  }
  const auto pid_file = data_path() + "/postmaster.pid";
  postmaster_.emplace(ProcessOptions{.argv = {bin_ + "/postgres", "-D", data_path()},
                                     .env = {{"PGDATA", ""}},
                                     .directory = host(),
                                     .stdout_path = log_path(),
                                     .stderr_path = log_path(),
                                     .unprivileged = true,
                                     .end_signal = SIGQUIT});
  const auto mine = std::to_string(postmaster_->pid()) + "\n";
  wait_until(Deadline::in(kStartLimit), options_.name + " accepts connections", [&] {
    if (!postmaster_->running()) {
      throw Error(options_.name + " did not start: " + last_lines(log_path(), 5));
    }
    // As pg_ctl does it: first line the pid, eighth the state. The file may be that of a crashed predecessor.
    const auto text = read_file(pid_file);
    return text.starts_with(mine) && text.find("\nready") != std::string::npos;
  });
}

void Cluster::stop(Stop how) {
  if (running()) {
    postmaster_->end(how == Stop::fast ? SIGINT : SIGQUIT, Deadline::in(kStopLimit));
  }
}

void Cluster::restart(Stop how) {
  stop(how);
  start();
}

void Cluster::kill9() {
  if (!running()) {
    return;
  }
  // Frozen first, so that it starts no further child while its children die.
  postmaster_->signal(SIGSTOP);
  const auto children = children_of(postmaster_->pid());
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
  }
  postmaster_->end(SIGKILL, Deadline::in(kStopLimit));
  // A child that still lives would keep the shared memory and the next start would refuse.
  wait_until(Deadline::in(kStopLimit), "the children of " + options_.name + " are gone",
             [&] { return std::none_of(children.begin(), children.end(), alive); });
}

bool Cluster::running() {
  return postmaster_ && postmaster_->running();
}

pid_t Cluster::pid() const {
  return postmaster_ ? postmaster_->pid() : -1;
}

std::string Cluster::host() const {
  return directory_.path().string();
}

std::string Cluster::conninfo(std::string_view dbname, std::string_view user) const {
  return socket_conninfo(host(), kPort, dbname, user);
}

postgres::Connection Cluster::connect(std::string_view dbname, std::string_view user) const {
  const auto info = postgres::ConnInfo::parse(conninfo(dbname, user), "cluster " + options_.name);
  postgres::SessionOptions session;
  session.server = options_.name;
  session.application_name = "harness";
  session.settings = {{"search_path", "\"$user\", public"}};
  return postgres::Connection::open(info, session, replication::base::Stop::never());
}

postgres::Result Cluster::sql(std::string_view dbname, std::string_view text) const {
  return connect(dbname).exec(text);
}

std::optional<std::string> Cluster::value(std::string_view dbname, std::string_view text) const {
  auto result = sql(dbname, text);
  return result.rows() == 0 ? std::nullopt : result.optional_text(0, 0);
}

void Cluster::configure(const std::vector<std::string>& lines) {
  append_lines(data_path() + "/postgresql.conf", lines);
  if (running()) {
    postmaster_->signal(SIGHUP);
  }
}

bool Cluster::available(std::string_view major) {
  try {
    return !find_server(std::string(major)).empty();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace harness
