// What an operator can expect to go wrong is a value, not an exception: a finding names the thing and its
// remedy.
#pragma once

#include <string>
#include <vector>

namespace replication::base {

enum class Severity { blocks, warns };

struct Finding {
  Severity severity = Severity::blocks;
  std::string id;       // stable, kebab-case: "wal-level", "keyless-table"; accepted by name with --accept ID
  std::string server;   // "source" or "target"
  std::string object;   // table, role, setting...; empty where the whole server is meant
  std::string message;  // one line: what was found, with values
  std::string remedy;   // one line: what to do, as a command where there is one
};

using Findings = std::vector<Finding>;

}  // namespace replication::base
