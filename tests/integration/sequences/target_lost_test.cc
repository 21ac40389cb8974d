// The target's server is lost (immediate stop) while `bump` is at work, at each of its steps, and the source
// is written all the time: the next call completes it, and no id is on both sides.
#include <atomic>
#include <doctest/doctest.h>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "replication/base/error.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/sequences/verb_pair.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using verb::cluster;

harness::Cluster& target_server() {
  static harness::Cluster instance(harness::ClusterOptions{.name = "target"});
  return instance;
}

std::vector<std::string> bump_arguments(const std::string& database) {
  return {"sequences",
          "bump",
          "--yes",
          "--source",
          cluster().conninfo(database),
          "--target",
          target_server().conninfo(database),
          "--interval",
          "100ms"};
}

// Inserts until it is destroyed; nobody waits for the bump.
class Writer {
 public:
  explicit Writer(const std::string& database)
      : thread_([this, database](const std::stop_token& stop) {
          auto session = cluster().connect(database);
          while (!stop.stop_requested()) {
            session.exec("INSERT INTO t DEFAULT VALUES");
            ++rows_;
            std::this_thread::sleep_for(milliseconds(2));  // the pace of a client
          }
        }) {}
  void wait_more(const Deadline& deadline) const {
    const int until = rows_ + 20;
    harness::wait_until(deadline, "rows on the source", [&] { return rows_ >= until; });
  }

 private:
  std::atomic<int> rows_{0};
  std::jthread thread_;
};

TEST_CASE(
    "the target is lost while a bump is at work: the next call completes it, and no id is on both sides") {
  static int number = 0;
  const auto database = "lost" + std::to_string(++number);
  std::string fault;
  bool lazy = false;  // the database's own setting, which ours overrides
  SUBCASE("planned, nothing set") {
    fault = "bump.after-plan:stop";
  }
  SUBCASE("the source set, the target not") {
    fault = "bump.after-source:stop";
  }
  SUBCASE("both set, the ledger not shared") {
    fault = "bump.after-source:stop@2";
  }
  SUBCASE("both set, though sessions of this database don't wait for its disk") {
    fault = "bump.after-source:stop@2";
    lazy = true;
  }
  for (auto* server : {&cluster(), &target_server()}) {
    server->sql("postgres", "CREATE DATABASE " + database);
    server->sql(database, "CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t DEFAULT VALUES");
  }
  target_server().sql(database, "DELETE FROM t");  // the row is the source's, its id was handed out
  if (lazy) {
    target_server().sql("postgres", "ALTER DATABASE " + database + " SET synchronous_commit = off");
  }
  const auto deadline = Deadline::in(milliseconds(180'000));
  {
    const Writer writer(database);
    writer.wait_more(deadline);
    harness::ToolOptions options;
    options.env = harness::fault_environment(fault);
    harness::Tool bump(bump_arguments(database), options);
    bump.wait_frozen(deadline);
    target_server().restart(harness::Cluster::Stop::immediate);
    // Somebody uses the target as it came back, before anybody calls bump again.
    const bool set = has(fault, "@2");
    CHECK(target_server().value(database, "SELECT last_value > 10000 FROM t_id_seq") == (set ? "t" : "f"));
    bump.thaw();
    CHECK(bump.wait(deadline) != 0);
    writer.wait_more(deadline);
    const auto again = harness::Tool::run(bump_arguments(database), deadline);
    CHECK_MESSAGE(again.exit_code == 0, again.errors);
    target_server().sql(database, "INSERT INTO t SELECT FROM generate_series(1, 500)");
    writer.wait_more(deadline);
  }
  std::set<std::string> ids;
  int rows_seen = 0;
  for (auto* server : {&cluster(), &target_server()}) {
    const auto rows = server->sql(database, "SELECT id FROM t");
    rows_seen += rows.rows();
    for (int row = 0; row < rows.rows(); ++row) {
      ids.insert(rows.text(row, 0));
    }
    // Both know both ranges, and these don't meet.
    CHECK(server->value(database,
                        "SELECT count(DISTINCT server) || ' ' || bool_and(reserved_until IS NOT NULL) FROM "
                        "pgcutover.sequence_ledger") == "2 true");
    CHECK(
        server->value(database,
                      "SELECT max(reserved_until) FILTER (WHERE server = 'target') <= max(last_value) FILTER "
                      "(WHERE server = 'source') FROM pgcutover.sequence_ledger") == "t");
  }
  CHECK(static_cast<int>(ids.size()) == rows_seen);
  CHECK(has(harness::Tool::run(bump_arguments(database), deadline).output, "nothing to set"));
}

}  // namespace
