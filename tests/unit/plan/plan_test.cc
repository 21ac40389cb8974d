#include "cutover/plan/plan.h"

#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <unistd.h>

#include "replication/base/error.h"

using namespace cutover::plan;
using std::chrono::milliseconds;

namespace {

// Message and hint of the UsageError that a text is refused with; empty where it isn't.
std::string refusal(const std::string& yaml) {
  try {
    auto plan = parse_plan(yaml, "plan.yaml");
    check_plan(plan);
    return {};
  } catch (const base::UsageError& error) {
    return error.message() + " | " + error.hint();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::string kSides = "source: {url: 'host=/s dbname=shop'}\ntarget: {url: 'host=/t dbname=shop'}\n";

const std::string kFull = R"(name: shop
source: {url: "postgresql://mover:geheim99@old:5433/shop"}
target: "host=new dbname=shop password='ge heim'"
strategy: switchover
tables: {include: ["public.*"], exclude: ["audit.*", "a \"b.c"], exclude-columns: ["app.orders.note", "*.*.*_tmp"], keyless: full, unlogged: no-data}
accept: [wal-level, "on", "sequence-overflow:public.t"]
copy: {jobs: 4, index-jobs: 3, pg-bindir: /usr/lib/postgresql/15/bin}
sequences: {headroom: 500}
apps:
  - name: web
    writes: true
    traffic:
      pgbouncer:
        - {admin: "host=/p port=6432 user=admin password=bouncersecret", database: shop, ini: /etc/d.ini}
        - admin: {url: "host=/q"}
          database: "Shop 2"
          edit-command: ["./edit", "--now"]
          target: {host: 10.0.0.2, port: "5444", dbname: shop}
  - name: billing
    writes: false
    traffic: {command: {hold: [./h, "a b"], release: [./r], move: [./m, x], undo: [./u], where: [./w]}}
gates: {before-switch: auto, max-pause: 1500ms, max-lag: 2s, verify: none, cancel-blockers: true, lock-limit: 1m,
        unstreamed: defer}
)";

}  // namespace

TEST_CASE("every key of a plan arrives where it belongs") {
  const auto plan = parse_plan(kFull, "plan.yaml");
  CHECK(plan.name == "shop");
  CHECK(plan.source.get("host") == "old");
  CHECK(plan.source.get("port") == "5433");
  CHECK(plan.target.get("password") == "ge heim");
  CHECK(plan.tables.include == std::vector<std::string>{"public.*"});
  CHECK(plan.tables.exclude == std::vector<std::string>{"audit.*", "a \"b.c"});
  CHECK(plan.tables.columns.exclude == std::vector<std::string>{"app.orders.note", "*.*.*_tmp"});
  CHECK(plan.keyless_full);
  const auto accepts = [&](const std::string& id, const std::string& object = "public.t") {
    return plan.accepts({replication::base::Severity::blocks, id, "source", object, "", ""});
  };
  CHECK(accepts("wal-level"));
  CHECK(accepts("on"));
  CHECK_FALSE(accepts("wal"));
  CHECK(accepts("sequence-overflow"));
  CHECK_FALSE(accepts("sequence-overflow", "public.t2"));
  CHECK(plan.copy_jobs == 4);
  CHECK(plan.index_jobs == 3);
  CHECK(plan.pg_bindir == "/usr/lib/postgresql/15/bin");
  CHECK(plan.sequence_headroom == 500);
  REQUIRE(plan.apps.size() == 2);
  REQUIRE(plan.apps[0].pgbouncers.size() == 2);
  CHECK(plan.apps[0].pgbouncers[0].ini == "/etc/d.ini");
  CHECK(plan.apps[0].pgbouncers[1].edit_command == std::vector<std::string>{"./edit", "--now"});
  CHECK(plan.apps[0].pgbouncers[1].target.port == "5444");
  CHECK_FALSE(plan.apps[0].command);
  CHECK_FALSE(plan.apps[1].writes);
  REQUIRE(plan.apps[1].command);
  CHECK(plan.apps[1].command->hold == std::vector<std::string>{"./h", "a b"});
  CHECK(plan.apps[1].command->where == std::vector<std::string>{"./w"});
  CHECK_FALSE(plan.gates.manual);
  CHECK(plan.gates.max_pause == milliseconds(1500));
  CHECK(plan.gates.max_lag == milliseconds(2000));
  CHECK(plan.gates.verify == VerifyGate::none);
  CHECK(plan.gates.cancel_blockers);
  CHECK(plan.gates.lock_limit == milliseconds(60'000));
  CHECK(plan.gates.unstreamed == Unstreamed::defer);
  CHECK_FALSE(plan.unlogged_data);
}

TEST_CASE("a key that doesn't exist is refused with its place and the nearest that does") {
  CHECK(refusal("sorce: {url: x}\n") == "plan.yaml:1:1: unknown key 'sorce' | did you mean 'source'?");
  const auto nested = refusal(kSides + "gates:\n    max-paus: 5s\n");
  CHECK(contains(nested, "plan.yaml:4:5: unknown key 'max-paus' in gates"));
  CHECK(contains(nested, "did you mean 'max-pause'?"));
  CHECK(
      contains(refusal(kSides + "apps:\n- name: a\n  traffic: {pgbouncer: [{admn: x}]}\n"),
               "plan.yaml:5:26: unknown key 'admn' in apps[1].traffic.pgbouncer[1] | did you mean 'admin'?"));
  CHECK(contains(refusal("zzzzzzzz: 1\n"), "valid here: name, source, target"));
}

TEST_CASE("a key that is given twice is refused") {
  CHECK(contains(refusal("name: a\nname: b\n"), "plan.yaml:2:1: key 'name' is given twice"));
}

TEST_CASE("keys of later versions are refused by name and never ignored") {
  for (const std::string key : {"map: []", "sql: []", "deploy: {}", "health: []"}) {
    CHECK(contains(refusal(kSides + key + "\n"), "is not in this version"));
  }
  for (const std::string key :
       {"writes_to: [a]", "reads: [a]", "deploy: {}", "health: []", "traffic: {atomic: false}"}) {
    CHECK(contains(refusal(kSides + "apps: [{name: a, " + key + "}]\n"), "is not in this version"));
  }
  CHECK(parse_plan(kSides + "sequences: {window: 4h}\n", "plan.yaml").sequence_window ==
        std::chrono::hours(4));
  for (const std::string strategy : {"offline", "backfill", "dual-write", "rolling"}) {
    CHECK(contains(refusal(kSides + "strategy: " + strategy + "\n"),
                   "'" + strategy + "' is not in this version"));
  }
  CHECK(contains(refusal(kSides + "strategy: magic\n"), "unknown strategy 'magic'"));
}

TEST_CASE("wrong types and impossible values are refused with what is wanted") {
  CHECK(contains(refusal("source: [a]\n"), "source wants a connection string or a map with url, not a list"));
  CHECK(contains(refusal("copy: 4\n"), "plan.yaml:1:7: copy wants a map, not a single value"));
  CHECK(contains(refusal("copy: {jobs: many}\n"), "copy.jobs wants a whole number from 1 to 64, not 'many'"));
  CHECK(contains(refusal("copy: {jobs: 0}\n"), "from 1 to 64, not '0'"));
  CHECK(contains(refusal("copy: {jobs: 2.5}\n"), "not '2.5'"));
  CHECK(contains(refusal("copy: {jobs: 99999999999999999999}\n"), "from 1 to 64"));
  CHECK(contains(refusal("schema-changes: ignore\n"), "exclude-columns: [schema.table.column]"));
  CHECK(contains(refusal("schema-changes: appli\n"), "did you mean 'apply'?"));
  CHECK(contains(refusal("tables: {exclude-columns: note}\n"), "wants a list, not a single value"));
  CHECK(contains(refusal("accept: wal-level\n"), "accept wants a list, not a single value"));
  CHECK(contains(refusal("accept: []\n"), "empty list"));
  CHECK(contains(refusal("accept:\n"), "plan.yaml:1:1: accept wants a list, not nothing"));
  CHECK(contains(refusal("gates: {max-pause: 5}\n"), "gates.max-pause wants a duration, not '5'"));
  CHECK(contains(refusal("gates: {max-pause: 1ms}\n"), "from 100ms to 10m, not 1ms"));
  CHECK(contains(refusal("gates: {max-pause: -5s}\n"), "wants a duration"));
  CHECK(contains(refusal("gates: {cancel-blockers: yes}\n"), "wants true or false, not 'yes'"));
  CHECK(contains(refusal("gates: {verify: ful}\n"), "did you mean 'full'?"));
  CHECK(contains(refusal("source: {url: 'nonsense=1'}\n"),
                 "plan.yaml:1:15: source.url is no connection string"));
  CHECK(contains(refusal("[1, 2]\n"), "the plan wants a map"));
  CHECK(contains(refusal(""), "the plan is empty"));
  CHECK(contains(refusal("a: b: c\n"), "not valid YAML"));
  CHECK(contains(refusal("name: a\n---\nname: b\n"), "a second document"));
}

TEST_CASE("what can't work is refused before a server is asked") {
  CHECK(contains(refusal("target: host=/t\n"), "no source given"));
  CHECK(contains(refusal("source: host=/t\n"), "no target given"));
  CHECK(contains(refusal("source: host=/t dbname=a\ntarget: dbname=a host=/t\n"), "are the same database"));
  CHECK(contains(refusal(kSides + "name: Shop\n"), "'Shop' can't name a migration"));
  CHECK(contains(refusal(kSides + "name: abcdefghijklmnopqrstuvwxyz01234\n"), "can't name a migration"));
  CHECK(contains(refusal(kSides + "tables: {exclude-columns: [orders.note]}\n"),
                 "wants schema.table.column, not 'orders.note'"));
  CHECK(refusal(kSides + "tables: {exclude-columns: ['*.*.note']}\n") == "");
  CHECK(contains(refusal(kSides + "apps: [{name: a}, {name: a}]\n"), "two apps are named 'a'"));
  CHECK(contains(refusal(kSides + "apps: [{writes: true}]\n"), "an app has no name"));
  const auto pooler = [](const std::string& keys) {
    return refusal(kSides + "apps: [{name: a, traffic: {pgbouncer: [{" + keys + "}]}}]\n");
  };
  CHECK(contains(pooler("admin: host=/p, database: d"), "exactly one of ini and edit-command"));
  CHECK(contains(pooler("admin: host=/p, database: d, ini: /i, edit-command: [x]"), "exactly one of"));
  CHECK(contains(pooler("admin: host=/p, ini: /i"), "no database given"));
  CHECK(contains(pooler("database: d, ini: /i"), "no admin console given"));
  CHECK(pooler("admin: host=/p, database: d, ini: /i") == "");
  CHECK(
      contains(refusal("source: service=old\ntarget: host=/t dbname=d\n"
                       "apps: [{name: a, traffic: {pgbouncer: [{admin: host=/p, database: d, ini: /i}]}}]\n"),
               "the host or database of the source isn't known"));
  CHECK(contains(refusal(kSides + "apps: [{name: a, traffic: {command: {hold: [h], release: [r]}}}]\n"),
                 "has no move"));
  CHECK(contains(refusal(kSides + "apps: [{name: a, traffic: {command: {hold: [h], move: [m]}}}]\n"),
                 "hold and release need each other"));
}

TEST_CASE("a verb for one side alone takes a plan with one side") {
  Plan plan;
  plan.target = postgres::ConnInfo::parse("host=/t dbname=shop", "t");
  CHECK_THROWS_AS(check_plan(plan), base::UsageError);
  check_plan(plan, Sides::one);
  CHECK(plan.name == "shop");
  Plan none;
  CHECK_THROWS_AS(check_plan(none, Sides::one), base::UsageError);
}

TEST_CASE("a plan that is written and read again is the same, secrets included") {
  const auto plan = parse_plan(kFull, "plan.yaml");
  const auto bytes = to_secret_bytes(plan);
  const auto again = from_secret_bytes(bytes);
  CHECK(to_secret_bytes(again) == bytes);
  CHECK(again.source.keywords() == plan.source.keywords());
  CHECK(again.target.keywords() == plan.target.keywords());
  CHECK(again.apps[0].pgbouncers[0].admin.get("password") == "bouncersecret");
  CHECK(again.accepted == plan.accepted);
  CHECK(again.gates.max_pause == plan.gates.max_pause);
  CHECK(again.apps[1].command->hold == plan.apps[1].command->hold);
  CHECK(redacted_text(again) == redacted_text(plan));
}

TEST_CASE("hostile texts survive the way to the guardian") {
  Plan plan;
  plan.source = postgres::ConnInfo::parse("host=/s", "s")
                    .with("dbname", "a\"b' c\\d: #\n%e\tü")
                    .with("password", "'\"\\ : }");
  plan.target = postgres::ConnInfo::parse("host=/t dbname=t", "t");
  plan.accepted = {"null", "~", "1e3", "- a", "{b}", "*c", "&d", "é"};
  const auto again = from_secret_bytes(to_secret_bytes(plan));
  CHECK(again.source.keywords() == plan.source.keywords());
  CHECK(again.accepted == plan.accepted);
}

TEST_CASE("the redacted text has no password and still says everything else") {
  const auto text = redacted_text(parse_plan(kFull, "plan.yaml"));
  for (const std::string secret : {"geheim99", "ge heim", "bouncersecret"}) {
    CHECK_FALSE(contains(text, secret));
  }
  for (const std::string said :
       {"old", "5433", "audit.*", "wal-level", "1500ms", "Shop 2", "./edit", "headroom: 500"}) {
    CHECK_MESSAGE(contains(text, said), said);
  }
}

TEST_CASE("durations are read and written with a unit") {
  CHECK(parse_duration("300ms", "x") == milliseconds(300));
  CHECK(parse_duration("5s", "x") == milliseconds(5000));
  CHECK(parse_duration("2m", "x") == milliseconds(120'000));
  CHECK(parse_duration("1h", "x") == milliseconds(3'600'000));
  for (const std::string wrong :
       {"", "5", "s", "5 s", "-1s", "5d", "1.5s", "99999999999h", "9223372036854775807s"}) {
    CHECK_THROWS_AS(parse_duration(wrong, "x"), base::UsageError);
  }
  for (const std::string text : {"0s", "1ms", "999ms", "1s", "1500ms", "1m", "90s", "1h"}) {
    CHECK(duration_text(parse_duration(text, "x")) == text);
  }
}

TEST_CASE("names made of databases fit slots and don't collide") {
  CHECK(name_from_database("shop") == "shop");
  for (const std::string database : {"Shop", "a b", "a\"b", "ü", "abcdefghijklmnopqrstuvwxyz0123456789"}) {
    const auto name = name_from_database(database);
    CHECK(name.size() <= 30);
    CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos);
  }
  CHECK(name_from_database("a b") != name_from_database("a_b"));
  CHECK(name_from_database("a b") != name_from_database("a-b"));
  CHECK(name_from_database("a b") == name_from_database("a b"));
}

TEST_CASE("the short form of a pooler is read with libpq's quoting") {
  const auto spec =
      parse_pgbouncer("admin='host=/p user=\\'x y\\'' database=shop ini=/etc/a\\ b.ini", "--pgbouncer");
  CHECK(spec.admin.get("user") == "x y");
  CHECK(spec.database == "shop");
  CHECK(spec.ini == "/etc/a b.ini");
  CHECK_THROWS_AS(parse_pgbouncer("admin='host=/p", "--pgbouncer"), base::UsageError);
  CHECK_THROWS_AS(parse_pgbouncer("database", "--pgbouncer"), base::UsageError);
  CHECK_THROWS_WITH_AS(parse_pgbouncer("databse=x", "--pgbouncer"), "--pgbouncer: unknown key 'databse'",
                       base::UsageError);
}

TEST_CASE("a pooler's address is completed from the connection string") {
  const auto info = postgres::ConnInfo::parse("host=db1 dbname=shop", "x");
  CHECK(address_of({}, info) == Address{"db1", "5432", "shop"});
  CHECK(address_of({.host = "10.1.1.1", .port = "6000", .dbname = {}}, info) ==
        Address{"10.1.1.1", "6000", "shop"});
}

TEST_CASE("a file that isn't there or isn't text is refused") {
  CHECK_THROWS_AS(load_plan_file("/nonexistent/plan.yaml"), base::UsageError);
  char name[] = "/tmp/pgcutover-plan-XXXXXX";
  const int fd = mkstemp(name);
  REQUIRE(fd >= 0);
  close(fd);
  std::ofstream(name, std::ios::binary) << std::string(1, '\0') << "\x01\x02";
  CHECK_THROWS_AS(load_plan_file(name), base::UsageError);
  std::ofstream(name) << kSides;
  CHECK(load_plan_file(name).source.get("dbname") == "shop");
  unlink(name);
}

TEST_CASE("every key that is accepted is explained") {
  const auto help = format_help();
  for (const std::string key :
       {"name", "max-pause", "edit-command", "where", "keyless", "headroom", "default 5s"}) {
    CHECK_MESSAGE(contains(help, key), key);
  }
  CHECK_FALSE(contains(help, "writes_to"));
}

TEST_CASE("roles are a word or a map, and come back as they were written") {
  const auto plan =
      parse_plan(kSides + "roles: {missing: require, map: {a: 'b \"c', 'on': '1'}}\n", "plan.yaml");
  CHECK_FALSE(plan.create_roles);
  CHECK(plan.role_map == std::map<std::string, std::string>{{"a", "b \"c"}, {"on", "1"}});
  CHECK(from_secret_bytes(to_secret_bytes(plan)).role_map == plan.role_map);
  CHECK_FALSE(from_secret_bytes(to_secret_bytes(plan)).create_roles);
  CHECK(contains(redacted_text(parse_plan(kSides + "roles: require\n", "p")), "\nroles: require\n"));
  CHECK(contains(refusal(kSides + "roles: {map: {a: b, a: c}}\n"), "'a' is given twice in roles.map"));
  CHECK(contains(refusal(kSides + "roles: {map: {a: c, b: c}}\n"),
                 "plan.yaml: roles.map: the roles a and b would both be c"));
  CHECK(contains(refusal(kSides + "roles: {map: [a]}\n"), "roles.map wants a map of names"));
  CHECK(contains(refusal(kSides + "roles: {map: {a: [b]}}\n"), "roles.map.a wants a name, not a list"));
  CHECK(contains(refusal(kSides + "roles: {map: {a: }}\n"), "roles.map.a wants a name, not nothing"));
  CHECK(contains(refusal(kSides + "roles: {map: {PUBLIC: b}}\n"), "'PUBLIC' is no role"));
  CHECK(contains(refusal(kSides + "roles: {maps: {a: b}}\n"), "did you mean 'map'?"));
  CHECK(contains(refusal(kSides + "roles: make\n"), "roles wants one of create, require, not 'make'"));
}

TEST_CASE("with rows alone nobody waits in vain for publications and subscriptions") {
  for (const std::string key : {"publications: copy", "subscriptions: copy-disabled"}) {
    CHECK(contains(refusal(kSides + key + "\ncopy: {content: data-only}\n"),
                   key + " doesn't go with content: data-only"));
    CHECK(refusal(kSides + key + "\ncopy: {content: schema-only}\n").empty());
  }
}
