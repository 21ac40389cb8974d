// Two servers, the torture database on one of them, and a plan.
#pragma once

#include <string>
#include <vector>

#include "tests/harness/cluster.h"
#include "tests/harness/tool.h"
#include "tests/harness/wait.h"
#include "tests/integration/torture/torture_database.h"

namespace torture {

inline constexpr const char* kDatabase = "torture";

// The sections of the database that a server of this version understands, in their order.
inline std::vector<std::string> sections(const std::string& kind, int major) {
  const std::string text = kDatabaseSql;
  std::vector<std::string> found;
  constexpr std::string_view kMark = "\n--@ ";
  for (auto at = text.find(kMark); at != std::string::npos;) {
    const auto begin = text.find('\n', at + 1);
    const auto head = text.substr(at + kMark.size(), begin - at - kMark.size());
    at = text.find(kMark, begin);
    const auto body = text.substr(begin, at == std::string::npos ? at : at - begin);
    const bool wanted =
        kind == "globals" || head == "globals"
            ? head == kind
            : major >= std::stoi(head) && (head.find('-') == std::string::npos ||
                                           major <= std::stoi(head.substr(head.find('-') + 1)));
    if (wanted) {
      found.push_back(body);
    }
  }
  return found;
}

struct Stage {
  harness::Cluster source{{.name = "source"}}, target{{.name = "target", .conf = {"log_statement = all"}}};
  harness::TempDir directory{"pgcut-torture"};

  // `more`: further lines of the plan.
  explicit Stage(const std::string& more = {}) {
    for (auto* server : {&source, &target}) {
      server->sql("postgres", "CREATE ROLE mover LOGIN SUPERUSER");
      server->sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " TEMPLATE template0");
    }
    for (const auto& text : sections("globals", source.major())) {
      source.sql("postgres", text);
    }
    auto session = source.connect(kDatabase);
    session.exec("SET statement_timeout = 0");
    for (const auto& text : sections("", source.major())) {
      session.exec(text);
    }
    harness::write_file(
        directory.path() / "plan.yaml",
        "name: torture\nsource: \"" + source.conninfo(kDatabase, "mover") + "\"\ntarget: \"" +
            target.conninfo(kDatabase, "mover") +
            "\"\ntables: {keyless: full}\ngates: {max-pause: 45s, max-lag: 45s, lock-limit: 45s}\n" + more);
  }

  harness::ToolResult tool(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin() + 1, {"--plan", directory.file("plan.yaml")});
    return harness::Tool::run(arguments,
                              replication::base::Deadline::in(replication::base::milliseconds(180'000)));
  }
};

}  // namespace torture
