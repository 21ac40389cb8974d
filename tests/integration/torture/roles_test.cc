// Roles that are called otherwise on the target: everything that names one there has the other name, and the
// way back knows the first again. Compared from outside: a dump of the source with the names replaced in its
// text.
#include <doctest/doctest.h>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/torture/dump_compare.h"
#include "tests/integration/torture/stage.h"

namespace {

using harness::has;
using harness::Tool;
using replication::base::Deadline;
using replication::base::milliseconds;
using torture::kDatabase;
using torture::Stage;

// Quotes on either side, two that are exchanged, one that is there already, and the first of all.
const torture::Renamed kNames{{"torture_owner", "Torture \"Owner\"; -- 'x"},
                              {"torture_group", "Torture group"},
                              {"Torture \"App", "torture_app_prod"},
                              {"torture_reader", "torture_policy"},
                              {"torture_policy", "torture_reader"},
                              {"torture_setting", "torture_there"},
                              {"postgres", "the admin"}};
constexpr const char* kPlan = R"(roles:
  map:
    torture_owner: "Torture \"Owner\"; -- 'x"
    torture_group: Torture group
    "Torture \"App": torture_app_prod
    torture_reader: torture_policy
    torture_policy: torture_reader
    torture_setting: torture_there
    postgres: the admin
publications: copy
)";

// The database's owner is whoever made it, and the fence took CONNECT away; see also torture_test.cc.
bool expected(const std::string& difference) {
  for (const auto* header :
       {"torture; Type: DATABASE;", "DATABASE torture; Type: ACL;", "DATABASE torture; Type: COMMENT;",
        "torture; Type: DATABASE PROPERTIES;", "liar liar_customer; Type: FK CONSTRAINT;",
        "child_late; Type: TABLE;", "FUNCTION similarity(text, text); Type: ACL;",
        "customer t_always; Type: TRIGGER;", "customer t_replica; Type: TRIGGER;"}) {
    if (difference.find(header) != std::string::npos) {
      return true;
    }
  }
  return false;
}

void check_rows(const Stage& stage) {
  auto source = torture::contents(stage.source, kDatabase, kNames);
  auto found = torture::differences(source, torture::contents(stage.target, kDatabase));
  CHECK_MESSAGE(found.empty(), torture::joined(found));
}

}  // namespace

TEST_CASE("roles of other names own, may and are meant what theirs of the source did, there and back") {
  Stage stage(kPlan);
  stage.source.sql(
      kDatabase,
      "CREATE PUBLICATION theirs FOR TABLE app.customer; ALTER PUBLICATION theirs OWNER TO torture_owner");
  stage.target.sql("postgres", "CREATE ROLE torture_there; CREATE ROLE \"the admin\" SUPERUSER");
  const auto checked = stage.tool({"check"});
  for (const char* text : {"role torture_reader of the source, here torture_policy, which owns or may use",
                           "have to log in as torture_app_prod on the target"}) {
    CHECK_MESSAGE(has(checked.output, text), checked.output);
  }
  // Killed in the middle of the schema: the rest has the same names.
  auto cut = std::make_unique<Tool>(
      std::vector<std::string>{"run", "--plan", stage.directory.file("plan.yaml")},
      harness::ToolOptions{.env = harness::fault_environment("run.after-pre-data:kill")});
  cut->wait(Deadline::in(milliseconds(180'000)));
  const auto other = stage.tool({"run", "--map-role", "torture_owner=somebody"});
  CHECK(other.exit_code == 5);
  CHECK_MESSAGE(has(other.errors, "begun with other names of roles"), other.errors);

  Tool run({"run", "--plan", stage.directory.file("plan.yaml")});
  run.wait_output("streaming from the source", Deadline::in(milliseconds(180'000)));
  CHECK(!has(run.errors(), "isn't there"));
  check_rows(stage);
  const bool any = stage.source.major() != stage.target.major();
  const auto source = torture::dump_schema(stage.source, kDatabase, any, kNames);
  CHECK(source.size() > 250);
  auto theirs = torture::dump_schema(stage.target, kDatabase, any);
  auto found = torture::differences(source, theirs);
  std::erase_if(found, expected);
  CHECK_MESSAGE(found.empty(), torture::joined(found));
  CHECK(stage.target.value(kDatabase,
                           "SELECT pubowner::regrole FROM pg_publication WHERE pubname = 'theirs'") ==
        "\"Torture \"\"Owner\"\"; -- 'x\"");

  CHECK(has(
      stage.target.value(kDatabase, "SELECT proacl::text FROM pg_proc WHERE proname = 'similarity'").value(),
      "torture_policy=X/"));  // of an extension, whose owner is whoever made it

  // What no stream carries names roles too, in both directions.
  const auto switched = stage.tool({"switch", "--verify-gate", "none"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  stage.target.sql(kDatabase,
                   "SELECT lo_from_bytea(70011, 'new'); ALTER LARGE OBJECT 70011 OWNER TO torture_policy; "
                   "GRANT UPDATE ON LARGE OBJECT 70011 TO torture_there WITH GRANT OPTION; "
                   "ALTER LARGE OBJECT 70001 OWNER TO \"Torture group\"; "
                   "CREATE ROLE torture_owner; SELECT lo_from_bytea(70012, 'nobody''s'); "
                   "ALTER LARGE OBJECT 70012 OWNER TO torture_owner");
  const auto back = stage.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  const auto owner = [&](const std::string& oid) {
    return stage.source
        .value(kDatabase,
               "SELECT lomowner::regrole || ' ' || coalesce(lomacl::text, '') FROM pg_largeobject_metadata "
               "WHERE oid = " +
                   oid)
        .value_or("none");
  };
  CHECK(owner("70011") ==
        "torture_reader {torture_reader=rw/torture_reader,torture_setting=w*/torture_reader}");
  CHECK(owner("70001").starts_with("torture_group"));
  CHECK(owner("70012").starts_with("mover"));  // the target's own torture_owner is nobody here
  const auto finished = stage.tool({"finish", "--yes"});
  CHECK_MESSAGE(finished.exit_code == 0, finished.errors);
}

TEST_CASE("a map that the servers' roles don't fit is refused by name before anything begins") {
  Stage stage;
  stage.source.sql(kDatabase, "CREATE SCHEMA torture_setting");
  const auto found = [&](const std::vector<std::string>& names, const std::string& text) {
    std::vector<std::string> arguments{"check"};
    for (const auto& name : names) {
      arguments.insert(arguments.end(), {"--map-role", name});
    }
    const auto checked = stage.tool(arguments);
    CHECK_MESSAGE(has(checked.output, text), checked.output);
    return checked.exit_code;
  };
  CHECK(found({"torture_ownr=x"}, "the source has no role torture_ownr, which would be x") == 3);
  found({"torture_ownr=x"}, "did you mean torture_owner?");
  CHECK(found({"torture_owner=torture_group"},
              "role torture_group is needed too, and another role is mapped to its name") == 3);
  CHECK(found({"torture_owner=pg_torture"}, "pg_torture is one that nobody can make") == 3);
  CHECK(found({"torture_setting=x"}, "schema torture_setting is what \"$user\" in search_path means") == 0);
  CHECK(found({"torture_owner=moved"}, "did you mean mover?") == 0);
  CHECK(found({"torture_owner=torture_group", "torture_group=torture_owner"}, "it will be made") == 0);
  for (const auto& [names, text] :
       {std::pair<std::vector<std::string>, std::string>{{"a=c", "b=c"}, "the roles a and b would both be c"},
        {{"public=c"}, "'public' is no role"},
        {{"a="}, "a role's name is empty"},
        {{"ab"}, "wants OLD=NEW"},
        {{"a=b", "a=c"}, "names a twice"}}) {
    std::vector<std::string> arguments{"check"};
    for (const auto& name : names) {
      arguments.insert(arguments.end(), {"--map-role", name});
    }
    const auto refused = stage.tool(arguments);
    CHECK(refused.exit_code == 2);
    CHECK_MESSAGE(has(refused.errors, text), refused.errors);
  }
}
