// Everything a database can hold, moved by the real program and compared from outside.
#include <algorithm>
#include <doctest/doctest.h>
#include <set>

#include "tests/harness/tool.h"
#include "tests/harness/wait.h"
#include "tests/integration/torture/dump_compare.h"
#include "tests/integration/torture/torture_database.h"

namespace {

using harness::Tool;
using replication::base::Deadline;
using replication::base::milliseconds;

constexpr const char* kDatabase = "torture";

// The sections of the database that a server of this version understands, in their order.
std::vector<std::string> sections(const std::string& kind, int major) {
  const std::string text = torture::kDatabaseSql;
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
  harness::Cluster source{{.name = "source"}}, target{{.name = "target"}};
  harness::TempDir directory{"pgcut-torture"};

  Stage() {
    for (auto* server : {&source, &target}) {
      server->sql("postgres", "CREATE ROLE mover LOGIN SUPERUSER");
      server->sql("postgres", std::string("CREATE DATABASE ") + kDatabase + " TEMPLATE template0");
    }
    for (const auto& text : sections("globals", source.major())) {
      source.sql("postgres", text);
      if (getenv("ROLES_TOO"))
        target.sql("postgres", text);
    }
    auto session = source.connect(kDatabase);
    session.exec("SET statement_timeout = 0");
    for (const auto& text : sections("", source.major())) {
      session.exec(text);
    }
    harness::write_file(directory.path() / "plan.yaml",
                        "name: torture\nsource: \"" + source.conninfo(kDatabase, "mover") + "\"\ntarget: \"" +
                            target.conninfo(kDatabase, "mover") +
                            "\"\ntables: {keyless: full}\naccept: [unlogged-tables, trigger-fires-always]\n");
  }

  harness::ToolResult tool(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin() + 1, {"--plan", directory.file("plan.yaml")});
    return Tool::run(arguments, Deadline::in(milliseconds(120'000)));
  }
};

// What is bound to differ: the fence took CONNECT away, a foreign key that the rows violate isn't valid, and
// pg_dump puts the inherited columns of a child first.
bool expected(const std::string& difference) {
  for (const auto* header : {"DATABASE torture; Type: ACL;", "liar liar_customer; Type: FK CONSTRAINT;",
                             "child_late; Type: TABLE;"}) {
    if (difference.starts_with(header)) {
      return true;
    }
  }
  return false;
}

void check_schema(Stage& stage) {
  const auto source = torture::dump_schema(stage.source, kDatabase);
  CHECK(source.size() > 250);
  auto found = torture::differences(source, torture::dump_schema(stage.target, kDatabase));
  std::erase_if(found, expected);
  CHECK_MESSAGE(found.empty(), torture::joined(found));
}

}  // namespace

TEST_CASE("a database with every kind of object arrives whole") {
  Stage stage;
  Tool run({"run", "--plan", stage.directory.file("plan.yaml"), "--until", "way-back"});
  run.wait_output("streaming from the source", Deadline::in(milliseconds(120'000)));

  const auto rows = torture::contents(stage.source, kDatabase);
  CHECK(rows.size() > 55);
  const auto found = torture::differences(rows, torture::contents(stage.target, kDatabase));
  CHECK_MESSAGE(found.empty(), torture::joined(found));
  check_schema(stage);
}
