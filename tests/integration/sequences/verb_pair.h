// Two databases of one cluster, as old and new, and `pgcutover sequences` on them.
//
// Threads: one owner; tool() may be called from several.
#pragma once

#include <string>
#include <vector>

#include "tests/harness/cluster.h"
#include "tests/harness/tool.h"

namespace verb {

inline harness::Cluster& cluster() {
  static harness::Cluster instance(harness::ClusterOptions{.name = "source"});
  return instance;
}

class Pair {
 public:
  Pair() {
    static int number = 0;
    ++number;
    for (auto* name : {&old_, &new_}) {
      *name = (name == &old_ ? "verb_old" : "verb_new") + std::to_string(number);
      cluster().sql("postgres", "CREATE DATABASE " + *name);
    }
  }
  void both(const std::string& sql) const {
    cluster().sql(old_, sql);
    cluster().sql(new_, sql);
  }
  const std::string& source() const { return old_; }
  const std::string& target() const { return new_; }
  static harness::ToolResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "sequences");
    return harness::Tool::run(arguments,
                              replication::base::Deadline::in(replication::base::milliseconds(180'000)));
  }
  harness::ToolResult tool(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--source", cluster().conninfo(old_), "--target",
                                       cluster().conninfo(new_), "--interval", "200ms"});
    return run(arguments);
  }

 private:
  std::string old_, new_;
};

inline std::string value(const std::string& database, const std::string& sql) {
  return cluster().value(database, sql).value_or("NULL");
}

}  // namespace verb
