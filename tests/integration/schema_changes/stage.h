// A migration whose tables change while it streams, by the real program; the servers are shared by all cases.
#pragma once

#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "replication/postgres/connection.h"
#include "replication/postgres/quote.h"
#include "tests/harness/cluster.h"
#include "tests/harness/text.h"
#include "tests/harness/tool.h"
#include "tests/harness/wait.h"

namespace schema_changes {

using harness::has;
using harness::Tool;
using replication::base::Deadline;
using replication::base::milliseconds;

inline Deadline seconds(int count) {
  return Deadline::in(milliseconds(count * 1000));
}

inline harness::Cluster& server(bool source) {
  const std::vector<std::string> conf{"max_replication_slots = 20", "max_wal_senders = 20"};
  static harness::Cluster first({.name = "source", .conf = conf}), second({.name = "target", .conf = conf});
  return source ? first : second;
}

class Stage {
 public:
  // `tables`: what the plan says of them. `meanwhile` is called once the controller runs, and may see it end
  // (it is called again then).
  Stage(const std::string& name, const std::string& policy, const std::string& sql,
        const std::string& tables = "keyless: full", const std::function<void(Stage&)>& meanwhile = {})
      : name_(name), policy_(policy) {
    for (const bool side : {true, false}) {
      server(side).sql("postgres", "CREATE DATABASE " + name);
    }
    server(true).connect(name).exec(sql);
    write_plan(tables);
    run_ = std::make_unique<Tool>(arguments("run", {}));
    if (meanwhile) {
      meanwhile(*this);
    }
    if (run_->running()) {
      wait_state("ready");
    } else {
      run_again();
    }
  }
  ~Stage() {
    if (run_->running()) {
      run_->terminate();
      run_->wait(seconds(180));
    }
  }
  void write_plan(const std::string& tables) {
    harness::write_file(directory_.path() / "plan.yaml",
                        "name: " + name_ + "\nsource: \"" + server(true).conninfo(name_) + "\"\ntarget: \"" +
                            server(false).conninfo(name_) + "\"\nschema-changes: " + policy_ + "\ntables: {" +
                            tables + "}\n");
  }
  void source(const std::string& sql) { server(true).connect(name_).exec(sql); }
  void target(const std::string& sql) { server(false).connect(name_).exec(sql); }
  std::string value(bool of_source, const std::string& sql) {
    return server(of_source).value(name_, sql).value_or("(null)");
  }
  harness::ToolResult tool(const std::string& verb, const std::vector<std::string>& more = {}) {
    return Tool::run(arguments(verb, more), seconds(180));
  }
  void wait_state(const std::string& state) {
    harness::wait_until(seconds(180), "the state " + state, [&] {
      REQUIRE_MESSAGE(run_->running(), run_->errors());
      return has(tool("status", {"--json"}).output, "\"" + state + "\"");
    });
  }
  // The same there as here, whatever order the columns are in.
  void wait_same(const std::string& sql) {
    const auto wanted = value(true, sql);
    try {
      harness::wait_until(seconds(180), sql, [&] {
        return server(false).value(name_, sql).value_or("(null)") == value(true, sql);
      });
    } catch (const std::exception&) {
      FAIL_CHECK(value(true, sql) << " <> " << value(false, sql) << run_->errors());
    }
  }
  void expect_equal() {
    const auto verified = tool("verify");
    CHECK_MESSAGE(verified.exit_code == 0, verified.output << verified.errors << run_->errors());
  }
  // In what status --json says; the controller writes it every second.
  void wait_status(const std::string& text, bool there) {
    harness::wait_until(seconds(180), (there ? "the status has " : "the status lacks ") + text,
                        [&] { return has(tool("status", {"--json"}).output, text) == there; });
  }
  Tool& run() { return *run_; }
  std::vector<std::string> arguments(const std::string& verb, const std::vector<std::string>& more) {
    std::vector<std::string> list{verb, "--plan", (directory_.path() / "plan.yaml").string()};
    list.insert(list.end(), more.begin(), more.end());
    return list;
  }
  // Ends the controller, where it lives, and calls it again.
  void run_again(const std::string& fault = {}) {
    if (run_->running()) {
      run_->terminate();
      run_->wait(seconds(180));
    }
    harness::ToolOptions options;
    if (!fault.empty()) {
      options.env = harness::fault_environment(fault);
    }
    run_ = std::make_unique<Tool>(arguments("run", {}), options);
    wait_state("ready");
  }
  // An SQL expression over `s`, what status --json says of the stream.
  std::string stream_status(const std::string& expression) {
    const auto json = tool("status", {"--json"}).output;
    return value(false, "SELECT (" + expression + ")::text FROM (SELECT (" +
                            replication::postgres::quote_literal(json) + "::jsonb)->'streams'->0 AS s) x");
  }

 private:
  std::string name_, policy_;
  harness::TempDir directory_{"pgcut-schema"};
  std::unique_ptr<Tool> run_;
};

}  // namespace schema_changes
