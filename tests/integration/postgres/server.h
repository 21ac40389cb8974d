// What the cases of this folder share: one cluster, and sessions as the tool opens them.
#pragma once

#include <string>

#include "replication/postgres/connection.h"
#include "tests/harness/cluster.h"
#include "tests/harness/wait.h"

namespace replication::postgres {

inline harness::Cluster& server() {
  static harness::Cluster cluster(harness::ClusterOptions{.name = "source"});
  return cluster;
}

inline std::string new_database() {
  static int number = 0;
  const std::string name = "db" + std::to_string(++number);
  server().sql("postgres", "CREATE DATABASE " + name);
  return name;
}

inline Connection open(const std::string& database, const base::Stop& stop = base::Stop::never(),
                       const std::string& user = "postgres") {
  SessionOptions options;
  options.server = "source";
  return Connection::open(ConnInfo::parse(server().conninfo(database, user), "test"), options, stop);
}

inline base::Deadline soon() {
  return base::Deadline::in(base::milliseconds(180'000));
}

}  // namespace replication::postgres
