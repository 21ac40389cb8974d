// A throw-away PostgreSQL cluster on a unix socket of its own, in a temporary directory. Superuser
// `postgres`, trust.
//
// Threads: one owner; conninfo() and sql() may be called from several.
// The data directory is a copy of one that initdb made once for each version (cluster_template.h); every
// cluster has a system identifier of its own nevertheless.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/postgres/connection.h"
#include "replication/postgres/result.h"
#include "tests/harness/process.h"
#include "tests/harness/temp_dir.h"

namespace harness {

struct ClusterOptions {
  std::string name = "server";  // "source", "target": in error messages and in the directory's name
  // Major version ("15"): the binaries in PGCUTOVER_TEST_PG_15, else the distribution's. Empty: what
  // PGCUTOVER_TEST_<NAME>_VERSION says ("PGCUTOVER_TEST_SOURCE_VERSION=12"), else the newest of the
  // distribution.
  std::string version = {};
  std::vector<std::string> conf = {};  // lines for postgresql.conf, after ours
  std::string wal_level = "logical";
  // A directory that the servers' user owns, where the WAL is kept; empty = in the data directory.
  std::string wal_directory = {};
  bool fsync = false;  // on only where the test is about losing the operating system
  bool start = true;
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options = {});
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Waits until the server accepts connections; throws Error with the log's end where it doesn't come up.
  void start();
  enum class Stop { fast, immediate };
  void stop(Stop how = Stop::fast);
  void restart(Stop how = Stop::fast);
  // The postmaster and all its children die by SIGKILL: a crash of the server, not of the machine.
  void kill9();
  bool running();
  pid_t pid() const;

  // "host=... port=5432 dbname=... user=..."
  std::string conninfo(std::string_view dbname = "postgres", std::string_view user = "postgres") const;
  std::string host() const;  // the socket directory
  static constexpr int kPort = 5432;

  // A plain session (search_path "$user", public) as `postgres`; one for each call of sql().
  replication::postgres::Connection connect(std::string_view dbname,
                                            std::string_view user = "postgres") const;
  replication::postgres::Result sql(std::string_view dbname, std::string_view text) const;
  // The first column of the only row; nothing for NULL or no row.
  std::optional<std::string> value(std::string_view dbname, std::string_view text) const;

  // Appends lines to postgresql.conf and makes the server read them (SIGHUP).
  void configure(const std::vector<std::string>& lines);
  std::string log_path() const { return directory_.file("log"); }
  std::string data_path() const { return directory_.file("data"); }
  std::string log() const { return read_file(log_path()); }
  const std::string& bin_directory() const { return bin_; }
  int major() const { return major_; }
  const std::string& name() const { return options_.name; }

  // Whether a server of this major version is installed.
  static bool available(std::string_view major);

 private:
  ClusterOptions options_;
  std::string bin_;
  int major_ = 0;
  TempDir directory_;
  std::optional<Process> postmaster_;
};

}  // namespace harness
