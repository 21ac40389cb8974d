// A pgbouncer on a unix socket of its own: transaction pooling, main file with `%include databases.ini`,
// console for the users `pgbouncer` and `postgres` without a password. Never started as root.
//
// Threads: one owner; the conninfo functions may be called from several.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/postgres/result.h"
#include "tests/harness/process.h"
#include "tests/harness/temp_dir.h"

namespace harness {

struct PgbouncerOptions {
  // Names of [databases] (plain words: 1.18's parser knows no quoting there) and what they point at:
  // "host=/tmp/x port=5432 dbname=shop".
  std::map<std::string, std::string> databases = {};
  std::vector<std::string> users = {"postgres", "app", "mover"};  // who may log in, beside `pgbouncer`
  std::vector<std::string> conf = {};                             // lines for [pgbouncer], after ours
};

class Pgbouncer {
 public:
  explicit Pgbouncer(PgbouncerOptions options);
  ~Pgbouncer();
  Pgbouncer(const Pgbouncer&) = delete;
  Pgbouncer& operator=(const Pgbouncer&) = delete;

  std::string conninfo(std::string_view dbname, std::string_view user) const;
  std::string console_conninfo() const;
  // A console command in a session of its own: "PAUSE shop", "SHOW DATABASES".
  replication::postgres::Result console(std::string_view command) const;

  // Writes databases.ini anew; the caller sends RELOAD.
  void write_databases(const std::map<std::string, std::string>& databases) const;
  std::string databases_ini() const { return directory_.file("databases.ini"); }
  std::string log_path() const { return directory_.file("log"); }
  static constexpr int kPort = 6432;

  void stop();
  bool running() { return process_ && process_->running(); }
  pid_t pid() const { return process_->pid(); }

  // The program, from PATH or /usr/sbin; empty where it isn't installed.
  static std::string find_program();

 private:
  void write_main_ini(const PgbouncerOptions& options) const;
  void wait_started();
  TempDir directory_;
  std::optional<Process> process_;
};

}  // namespace harness
