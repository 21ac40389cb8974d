// Tables that are on the target already: taken where they are alike and empty, else named one by one.
#include <doctest/doctest.h>

#include "tests/integration/check/pair.h"

using checks::Pair;
using checks::to_text;
using cutover::check::CheckInput;
using cutover::check::run_checks;
using cutover::plan::Content;
using replication::base::Findings;
using replication::base::Severity;

namespace {

Findings check(const Pair& pair, Content content, bool reset = false) {
  pair.quiet();
  auto sessions = pair.sessions();
  CheckInput input{.source = sessions.source, .target = sessions.target};
  input.content = content;
  input.reset_target = reset;
  return run_checks(input);
}

void expect(const Findings& findings, const char* id, const char* object, const char* says,
            Severity severity = Severity::blocks) {
  INFO(to_text(findings));
  CHECK(checks::well_formed(findings));
  bool found = false;
  for (const auto& one : findings) {
    found = found || (one.id == id && one.object == object && one.severity == severity &&
                      one.message.find(says) != std::string::npos);
  }
  CHECK_MESSAGE(found, id << " " << object << " " << says);
}

constexpr const char* kTables =
    "CREATE TYPE mood AS ENUM ('good', 'bad');"
    "CREATE TABLE item(id serial PRIMARY KEY, price numeric(10,2) NOT NULL DEFAULT 0, note text, m mood);"
    "CREATE TABLE log(m text); ALTER TABLE log REPLICA IDENTITY FULL;"
    "CREATE TABLE event(id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);"
    "CREATE TABLE event_a PARTITION OF event FOR VALUES IN ('a')";

void as_mover(const harness::Cluster& cluster, const Pair& pair, std::string_view sql) {
  cluster.connect(pair.name, "mover").exec(sql);
}

}  // namespace

TEST_CASE("tables made beforehand are taken where they are alike and empty, in any order of columns") {
  const Pair pair("alike");
  pair.on_source_as_mover(kTables);
  as_mover(checks::clusters().target, pair,
           "CREATE TABLE good(x text, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);"
           "CREATE TABLE only_here(id int PRIMARY KEY); INSERT INTO only_here VALUES (1);"
           "CREATE INDEX good_x ON good(x);" +
               std::string(kTables));
  const auto findings = check(pair, Content::data_only);
  INFO(to_text(findings));
  CHECK(!cutover::check::blocks(findings));
  expect(check(pair, Content::all), "target-not-empty", "alike", "object(s)");
}

TEST_CASE("what differs in tables made beforehand is named, all of it at once") {
  const Pair pair("unlike");
  pair.on_source_as_mover(kTables);
  pair.on_source_as_mover(
      "CREATE TABLE missing(id int PRIMARY KEY); CREATE TABLE theirs(id int PRIMARY KEY)");
  as_mover(checks::clusters().target, pair,
           "CREATE TYPE mood AS ENUM ('good', 'worse');"
           "CREATE TABLE good(id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, y text);"
           "INSERT INTO good(y) VALUES ('mine');"
           "CREATE SEQUENCE item_no;"
           "CREATE TABLE item(id int DEFAULT nextval('item_no') PRIMARY KEY, price numeric(10,2) UNIQUE, "
           "note text "
           "NOT NULL, m mood, CHECK (price > 0), FOREIGN KEY (id) REFERENCES good);"
           "CREATE TABLE log(m text);"
           "CREATE TABLE event(id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);"
           "CREATE TABLE event_a PARTITION OF event FOR VALUES IN ('b')");
  pair.on_target("CREATE TABLE theirs(id int PRIMARY KEY)");
  const auto findings = check(pair, Content::data_only);
  expect(findings, "target-differs", "public.missing", "is missing");
  if (checks::clusters().target.major() >= 15) {  // else the tool's role is a superuser
    expect(findings, "missing-privilege", "public.theirs", "belongs to");
  }
  expect(findings, "target-differs", "public.good", "column id is integer, on the source bigint");
  expect(findings, "target-differs", "public.good", "lacks column x text");
  expect(findings, "target-differs", "public.good", "has a column y");
  expect(findings, "target-not-empty", "public.good", "holds rows");
  expect(findings, "target-differs", "public.item", "column price may be NULL");
  expect(findings, "target-differs", "public.item", "column note is NOT NULL");
  expect(findings, "target-differs", "public.item", "has CHECK ((price > ");
  expect(findings, "target-differs", "public.item", "has UNIQUE USING btree (price)");
  expect(findings, "target-differs", "public.item", "has FOREIGN KEY (id)");
  expect(findings, "target-differs", "public.item_id_seq", "missing");
  expect(findings, "target-differs", "public.log", "REPLICA IDENTITY FULL");
  expect(findings, "target-differs", "public.mood", "'good', 'worse'");
  expect(findings, "target-differs", "public.event_a", "has PARTITION FOR VALUES IN ('b')");
  expect(check(pair, Content::data_only, true), "reset-target", "public.good", "will delete",
         Severity::warns);
}

TEST_CASE("a schema alone asks for nothing that only a stream needs") {
  const Pair pair("schema_alone");
  pair.on_source_as_mover(
      "CREATE TABLE log(m text); INSERT INTO log VALUES ('a'); UPDATE log SET m = 'b'; CREATE UNLOGGED TABLE "
      "u(id int)");
  // Before 15 the statistics tell of the UPDATE a moment later.
  harness::wait_until(replication::base::Deadline::in(replication::base::milliseconds(180'000)),
                      "the keyless table blocks",
                      [&] { return cutover::check::blocks(check(pair, Content::all)); });
  const auto findings = check(pair, Content::schema_only);
  INFO(to_text(findings));
  CHECK(!cutover::check::blocks(findings));
}
