// What the faults of the copy have in common: a table large enough to be hit in the middle, changes to it
// that never stop, and a `run` that is called again until it gets there.
#pragma once

#include <algorithm>
#include <atomic>
#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

namespace copy_faults {

using harness::wait_until;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

inline constexpr int kRows = 12'000;  // about 7 MB
inline constexpr const char* kLarge = "shop.large";

inline Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

inline void make_large(Scenario& scenario) {
  scenario.source()
      .connect(kDatabase, "app")
      .exec(std::string("CREATE TABLE shop.large (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text NOT "
                        "NULL);"
                        "INSERT INTO shop.large (id, v) SELECT i, (SELECT string_agg(md5(i::text || g), '') "
                        "FROM generate_series(1, 16) g) FROM generate_series(1, ") +
            std::to_string(kRows) + ") i; CREATE INDEX large_n ON shop.large (n); ANALYZE shop.large");
}

// Rows of the large table are inserted, changed, moved and deleted until it is stopped.
class Churn {
 public:
  explicit Churn(Scenario& scenario) : scenario_(scenario) {
    // An earlier one's rows are there: each would be an error and a new session.
    const auto largest = scenario.source().value(kDatabase, "SELECT max(id) FROM shop.large");
    number_ = std::max(std::stoi(largest.value()) - kRows, 0);
    thread_ = std::thread([this] { work(); });
  }
  ~Churn() { stop(); }
  Churn(const Churn&) = delete;
  Churn& operator=(const Churn&) = delete;
  void stop() {
    ended_.request();
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  // Waits until so many more of them are committed.
  void wait_more(int transactions) const {
    const int before = done_;
    wait_until(seconds(180), "the source takes changes", [&] { return done_ >= before + transactions; });
  }
  int done() const { return done_; }

 private:
  void work() {
    constexpr milliseconds kPause{5};
    std::optional<replication::postgres::Connection> session;
    while (!ended_.wait(Deadline::in(kPause))) {
      try {
        if (!session) {
          session.emplace(scenario_.source().connect(kDatabase, "app"));
        }
        const auto id = std::to_string(kRows + 1 + number_++);  // what has no answer isn't used again
        session->exec("INSERT INTO shop.large SELECT " + id + ", 0, md5('" + id +
                      "'); UPDATE shop.large SET n = n + 1, v = v || 'x' WHERE id BETWEEN " + id + " % " +
                      std::to_string(kRows) + " AND " + id + " % " + std::to_string(kRows) +
                      " + 3; DELETE FROM shop.large WHERE id = " + id + " * 7 % " + std::to_string(kRows));
        ++done_;
      } catch (const replication::base::Error&) {  // the source is away, or the table is locked by a test
        session.reset();
      }
    }
  }

  Scenario& scenario_;
  replication::base::Stop ended_;
  std::atomic<int> done_{0};
  int number_ = 0;
  std::thread thread_;
};

using Run = std::unique_ptr<harness::Tool>;

// Waits until the condition holds, calling the controller again where it ended: a fault may end a run, but
// never with a bug or in a state that needs a person. Returns how often it was called again.
inline int reach(Scenario& scenario, Run& run, const std::string& what,
                 const std::function<bool()>& condition, const std::vector<std::string>& options,
                 const std::string& fault = {}) {
  constexpr int kAgainMax = 5;
  int again = 0;
  wait_until(seconds(180), what, [&] {
    if (!run->running()) {
      const int code = run->wait(seconds(1));
      INFO("exit " << code << ": " << run->errors());
      REQUIRE((code == 1 || code == 4 || code > 128));
      REQUIRE(++again <= kAgainMax);
      run = scenario.start_run(fault, options);
    }
    return condition();
  });
  return again;
}

inline int reach_ready(Scenario& scenario, Run& run, const std::vector<std::string>& options) {
  return reach(
      scenario, run, "the controller is ready", [&] { return scenario.reported_state(*run) == "ready"; },
      options);
}

// What an application sees, from outside.
inline std::string content(const harness::Cluster& server, const std::string& table) {
  return server
      .value(kDatabase,
             "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text COLLATE "
             "\"C\")), '') FROM " +
                 table + " t")
      .value_or("");
}

// Both sides hold the same by the tool's own comparison, and by ours once the changes have come to rest.
inline void expect_same(Scenario& scenario, Churn& churn, const std::string& after) {
  INFO("after " << after);
  churn.wait_more(5);
  scenario.expect_equal(after);
  churn.stop();
  CHECK(churn.done() > 20);
  const auto there = content(scenario.source(), kLarge);
  CHECK(std::stoi(there) > kRows / 2);
  wait_until(seconds(180), "the large table is the same on both sides",
             [&] { return content(scenario.target(), kLarge) == there; });
}

// As they were found, so that the next round begins from nothing.
inline void cancel(Scenario& scenario, harness::Tool& run) {
  const auto result = scenario.tool({"cancel", "--yes"});
  CHECK_MESSAGE(result.exit_code == 0, result.errors);
  CHECK(run.wait(seconds(180)) == 0);
}

// Whether a session on the server works at a statement like this.
inline bool at_work(const harness::Cluster& server, const std::string& like) {
  try {
    return server.value(kDatabase,
                        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgcutover %' AND "
                        "state = 'active' AND query LIKE '" +
                            like + "'") != "0";
  } catch (const replication::base::Error&) {
    return false;  // it was just closed, or is away
  }
}

}  // namespace copy_faults
