// pgbench as live load: TPC-B through the pooler until it is told to stop.
//
// Threads: one owner.
#pragma once

#include <cstdint>
#include <string>

#include "replication/base/deadline.h"
#include "replication/base/stop.h"
#include "replication/postgres/conninfo.h"
#include "tests/harness/process.h"
#include "tests/harness/temp_dir.h"

namespace demo {

struct PgbenchResult {
  std::int64_t processed = -1;
  std::int64_t failed = -1;
  int exit_code = -1;  // not 0 where a client was aborted
  std::string output;  // everything it said
};

class Pgbench {
 public:
  // Fills an empty database, as the tables' owner. Throws Error with what pgbench said.
  static void initialise(const replication::postgres::ConnInfo& info, int scale,
                         const replication::base::Stop& stop);

  // Starts the load.
  Pgbench(const replication::postgres::ConnInfo& info, int clients, double rate);

  bool running() { return process_.running(); }
  std::string output() const { return harness::read_file(directory_.file("output")); }
  // Lets every client end its transaction. To be called once. Throws TimeoutError.
  PgbenchResult stop(replication::base::Deadline deadline);

 private:
  harness::TempDir directory_;
  harness::Process process_;
};

// What a summary says; -1 where a line is missing.
PgbenchResult parse_pgbench(const std::string& output);

}  // namespace demo
