// What `run` brings to the target, and what it may find there: a schema alone, rows alone into tables that
// are there, and a target that is emptied by name only.
#include <doctest/doctest.h>

#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

namespace {

std::string relations(harness::Cluster& server) {
  return server
      .value(kDatabase,
             "SELECT string_agg(n.nspname || '.' || c.relname || ' ' || c.relkind::text, ', ' ORDER BY "
             "n.nspname, c.relname) "
             "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND "
             "n.nspname <> 'information_schema'")
      .value_or("");
}

std::string count(harness::Cluster& server, const std::string& table) {
  return server.value(kDatabase, "SELECT count(*) FROM " + table).value();
}

}  // namespace

TEST_CASE(
    "a schema alone ends by itself; rows alone go into it, or are refused with a list of what differs") {
  Scenario scenario;
  const auto on_source = relations(scenario.source());

  // Killed halfway, called again: the rest follows, and nothing of ours is left.
  auto cut = scenario.start_run("run.after-pre-data:kill", {"--schema-only"});
  cut->wait(Deadline::in(milliseconds(180'000)));
  const auto other = scenario.tool({"run"});
  CHECK(other.exit_code == 5);
  CHECK_MESSAGE(has(other.errors, "begun with content: schema-only"), other.errors);
  const auto schema = scenario.tool({"run", "--schema-only"});
  CHECK_MESSAGE(schema.exit_code == 0, schema.errors);
  CHECK(has(schema.output, "the target has the schema"));
  CHECK(relations(scenario.target()) == on_source);  // the schema pgcutover is gone from both
  CHECK(relations(scenario.source()) == on_source);
  CHECK(count(scenario.target(), "shop.bank_transfer") == "0");
  CHECK(scenario.source().value(kDatabase, "SELECT count(*) FROM pg_replication_slots") == "0");
  CHECK_NOTHROW(scenario.target().connect(kDatabase, "app"));

  CHECK(scenario.tool({"run"}).exit_code == 3);  // it isn't empty, and nothing was said about it

  // Refused before anything happens, with all that differs.
  scenario.target().sql(
      kDatabase,
      "INSERT INTO shop.bank_account VALUES (1, 0); ALTER TABLE shop.bank_transfer ADD COLUMN extra text; "
      "ALTER TABLE shop.bank_transfer ALTER COLUMN amount TYPE text; "
      "ALTER TABLE shop.bank_transfer ADD CONSTRAINT strict CHECK (id < 10)");
  const auto refused = scenario.tool({"run", "--data-only"});
  CHECK(refused.exit_code == 3);
  for (const char* text : {"shop.bank_account: holds rows already", "has a column extra",
                           "column amount is text", "has CHECK ((id < 10))"}) {
    CHECK_MESSAGE(has(refused.errors, text), refused.errors);
  }
  CHECK(relations(scenario.source()) == on_source);
  scenario.target().sql(kDatabase,
                        "ALTER TABLE shop.bank_transfer DROP COLUMN extra, DROP CONSTRAINT strict, "
                        "ALTER COLUMN amount TYPE bigint USING NULL");
  // Rows go by name only.
  const auto listed = scenario.tool({"check", "--data-only", "--reset-target"});
  CHECK_MESSAGE(listed.exit_code == 0, listed.output);
  CHECK(has(listed.output, "reset-target"));
  CHECK(has(scenario.tool({"plan", "--data-only", "--reset-target"}).output, "rows of shop.bank_account"));
  CHECK(count(scenario.target(), "shop.bank_account") == "1");

  auto run = scenario.start_run("", {"--data-only", "--reset-target", "--yes"});
  scenario.wait_state(*run, "ready");
  CHECK(count(scenario.target(), "shop.bank_account") != "1");
  const auto cancelled = scenario.tool({"cancel", "--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
  CHECK_MESSAGE(has(cancelled.output, "its tables are there and empty"), cancelled.output);
  run->wait(Deadline::in(milliseconds(180'000)));
  CHECK(relations(scenario.target()) == on_source);  // the tables stay, empty as they were
  CHECK(count(scenario.target(), "shop.bank_account") == "0");
  CHECK(count(scenario.target(), "shop.bank_transfer") == "0");

  // Killed in the middle, then all the way and back.
  cut = scenario.start_run("copy.table-done:kill", {"--data-only"});
  cut->wait(Deadline::in(milliseconds(180'000)));
  run = scenario.start_run("", {"--data-only"});
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("rows alone");
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK((scenario.expect_sound("switch") == Side::target));
  const auto back = scenario.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK((scenario.expect_sound("rollback") == Side::source));
  scenario.expect_equal("rollback");
}

TEST_CASE("secondary indexes that are left for later are built by the next run, and no switch comes before") {
  Scenario scenario;
  scenario.source().sql(kDatabase,
                        "COMMENT ON INDEX shop.event_at IS 'when'; CREATE INDEX product_price ON "
                        "shop.product (price); ALTER TABLE shop.product CLUSTER ON "
                        "product_price; CREATE MATERIALIZED VIEW shop.m AS SELECT id FROM shop.product; "
                        "CREATE INDEX m_id ON shop.m (id)");
  const auto indexes = [](harness::Cluster& server) {
    return server
        .value(
            kDatabase,
            "SELECT string_agg(pg_get_indexdef(i.indexrelid) || i.indisclustered::text || "
            "coalesce(obj_description(i.indexrelid), ''), '; ' ORDER BY i.indexrelid::regclass::text) FROM "
            "pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = "
            "c.relnamespace WHERE n.nspname = 'shop'")
        .value_or("");
  };
  auto run = scenario.start_run("", {"--indexes", "later"});
  scenario.wait_state(*run, "ready");
  for (const char* name : {"event_at", "customer_profile", "product_cheap", "event_click_at_idx", "m_id"}) {
    CHECK_MESSAGE(!has(indexes(scenario.target()), std::string(name) + " "), name);
  }
  for (const char* name :
       {"bank_transfer_pkey", "bank_transfer_client_seq_key", "event_pkey", "product_sku_key"}) {
    CHECK_MESSAGE(has(indexes(scenario.target()), std::string(name) + " "), name);
  }
  const auto refused = scenario.tool({"switch"});
  CHECK(refused.exit_code == 3);
  CHECK_MESSAGE(has(refused.errors, "left for later"), refused.errors);
  CHECK(has(scenario.tool({"check"}).output, "indexes-missing"));
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the status says so",
                      [&] { return has(scenario.tool({"status"}).output, "--indexes now"); });
  scenario.target().sql(kDatabase,
                        "CREATE INDEX product_cheap ON shop.product (lower(sku)) WHERE price < 10");
  scenario.stop_run(*run);

  auto cut = scenario.start_run("run.after-indexes-left:kill");
  cut->wait(Deadline::in(milliseconds(180'000)));
  run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  CHECK(indexes(scenario.target()) == indexes(scenario.source()));
  CHECK(!has(scenario.tool({"check"}).output, "indexes-missing"));
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK((scenario.expect_sound("switch") == Side::target));
}

TEST_CASE("what is in the way on the target is dropped by --reset-target alone, and listed before") {
  Scenario scenario;
  scenario.target().sql(kDatabase,
                        "CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('good'); "
                        "CREATE TABLE shop.bank_account (id text, m shop.mood); "
                        "INSERT INTO shop.bank_account VALUES ('of another time'); "
                        "CREATE VIEW public.v AS SELECT * FROM shop.bank_account; "
                        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; "
                        "CREATE SEQUENCE public.s; SELECT lo_create(4711)");
  const auto before = relations(scenario.target());
  const auto refused = scenario.tool({"run"});
  CHECK(refused.exit_code == 3);
  CHECK(has(refused.errors, "target-not-empty"));
  const auto unasked = scenario.tool({"run", "--reset-target"});
  CHECK(unasked.exit_code == 2);
  CHECK(has(unasked.errors, "--yes"));
  const auto check = scenario.tool({"check", "--reset-target"});
  CHECK_MESSAGE(check.exit_code == 0, check.output);
  const auto plan = scenario.tool({"plan", "--reset-target"});
  CHECK(plan.exit_code == 0);
  for (const char* object : {"table shop.bank_account", "type shop.mood", "view public.v",
                             "function public.f", "sequence public.s", "large object 4711", "schema shop"}) {
    CHECK_MESSAGE(has(check.output, object), check.output);
    CHECK_MESSAGE(has(plan.output, object), plan.output);
  }
  CHECK(relations(scenario.target()) == before);

  auto run = scenario.start_run("", {"--reset-target", "--yes"});
  scenario.wait_state(*run, "ready");
  scenario.expect_equal("reset and run");
  CHECK(scenario.target().value(kDatabase, "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = 4711") ==
        "0");
  scenario.stop_run(*run);
  // A migration that has begun is never reset.
  run = scenario.start_run("", {"--reset-target", "--yes"});
  scenario.wait_state(*run, "ready");
  CHECK(has(run->errors(), "--reset-target drops nothing any more"));
  scenario.expect_equal("run again");
}

TEST_CASE("what the target held before, accepted by name, survives a cancel") {
  Scenario scenario;
  scenario.target().sql(kDatabase, "CREATE TABLE public.mine (id int); INSERT INTO public.mine VALUES (1)");
  auto run = scenario.start_run("", {"--accept", "target-not-empty"});
  scenario.wait_state(*run, "ready");
  const auto cancelled = scenario.tool({"cancel", "--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
  CHECK_MESSAGE(has(cancelled.output, "it held 1 object(s) before"), cancelled.output);
  CHECK(run->wait(Deadline::in(milliseconds(180'000))) == 0);
  CHECK(count(scenario.target(), "public.mine") == "1");
}

TEST_CASE(
    "a target that has some of the tables is refused with what is there and what is missing, in every way") {
  Scenario scenario;
  const auto on_source = relations(scenario.source());
  scenario.target().sql(
      kDatabase,
      "CREATE SCHEMA shop; CREATE TABLE shop.bank_account (id int PRIMARY KEY, balance bigint NOT NULL)");
  const auto before = relations(scenario.target());
  const auto plain = scenario.tool({"run"});
  CHECK(plain.exit_code == 3);
  CHECK_MESSAGE(has(plain.errors, "1 of the source's "), plain.errors);
  CHECK_MESSAGE(has(plain.errors, "table(s) are there, empty and like the source's"), plain.errors);
  // Accepting it doesn't lead into a schema that can't be restored.
  const auto accepted = scenario.tool({"run", "--accept", "target-not-empty"});
  CHECK(accepted.exit_code == 3);
  CHECK_MESSAGE(has(accepted.errors,
                    "2 object(s) are there that the source's would take the place of: table "
                    "shop.bank_account, schema shop"),
                accepted.errors);
  const auto rows_alone = scenario.tool({"run", "--data-only"});
  CHECK(rows_alone.exit_code == 3);
  CHECK_MESSAGE(has(rows_alone.errors, "shop.bank_transfer: is missing"), rows_alone.errors);
  CHECK(!has(rows_alone.errors, "shop.bank_account:"));
  // What doesn't fit is said too, and overloads aren't in each other's way.
  scenario.target().sql(kDatabase,
                        "INSERT INTO shop.bank_account VALUES (1, 0); CREATE FUNCTION f(text) RETURNS int "
                        "LANGUAGE sql AS 'SELECT 1'");
  scenario.source().sql(kDatabase, "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'");
  CHECK(has(scenario.tool({"run"}).errors, "shop.bank_account holds rows already"));
  CHECK(has(scenario.tool({"run", "--accept", "target-not-empty"}).errors, "2 object(s) are there"));
  scenario.target().sql(kDatabase, "SELECT lo_create(4712)");  // would be removed
  CHECK(has(scenario.tool({"run", "--accept", "target-not-empty"}).errors, "large object 4712"));
  CHECK(relations(scenario.target()) == before);
  CHECK(relations(scenario.source()) == on_source);
}
