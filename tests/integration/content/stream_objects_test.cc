// The source's own publications and subscriptions, on request.
#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"
#include "tests/harness/cluster.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/scenario/scenario.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using scenario::kDatabase;
using scenario::Scenario;
using scenario::Side;

void make_publications(harness::Cluster& source) {
  source.sql(kDatabase, R"(
    CREATE PUBLICATION "some ""Tables" FOR TABLE shop.orders, shop."Order Line" WITH (publish = 'insert, update');
    ALTER PUBLICATION "some ""Tables" OWNER TO app;
    COMMENT ON PUBLICATION "some ""Tables" IS 'for the; warehouse';
    CREATE PUBLICATION empty;
    CREATE PUBLICATION everything FOR ALL TABLES)");
  if (source.major() >= 13) {
    source.sql(kDatabase,
               "ALTER PUBLICATION empty ADD TABLE shop.event; ALTER PUBLICATION empty SET "
               "(publish_via_partition_root = true)");
  }
  if (source.major() >= 15) {
    source.sql(kDatabase, R"(
      CREATE PUBLICATION part FOR TABLE shop.product (id, sku) WHERE (id > 3);
      CREATE PUBLICATION rows FOR TABLE shop.product WHERE (id > 3), TABLES IN SCHEMA public;
      CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA shop)");
  }
}

constexpr const char* kFeedTable = "CREATE TABLE public.feed (id int PRIMARY KEY, note text)";

// A third server writes into the source.
void make_feed(harness::Cluster& far, harness::Cluster& source) {
  far.sql("postgres", std::string(kFeedTable) +
                          "; CREATE PUBLICATION a FOR TABLE public.feed; INSERT INTO public.feed VALUES (1, "
                          "'before')");
  source.sql(kDatabase, kFeedTable);
  source.sql(kDatabase, "CREATE SUBSCRIPTION \"Feed\" CONNECTION '" + far.conninfo("postgres") +
                            " password=''subscriber\\''s own secret''' PUBLICATION a WITH (slot_name = "
                            "'their_slot', synchronous_commit = 'local')");
  source.sql(kDatabase, "COMMENT ON SUBSCRIPTION \"Feed\" IS 'from far'");
}

std::string feed(harness::Cluster& server) {
  return server.value(kDatabase, "SELECT string_agg(id || note, ',' ORDER BY id) FROM public.feed")
      .value_or("none");
}

void wait_feed(harness::Cluster& server, const std::string& rows) {
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the fed table has " + rows,
                      [&] { return feed(server) == rows; });
}

void disable_feed(harness::Cluster& server) {
  server.sql(kDatabase, "ALTER SUBSCRIPTION \"Feed\" DISABLE");
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the subscription's worker is gone", [&] {
    return server.value(kDatabase, "SELECT count(pid) FROM pg_stat_subscription WHERE subname = 'Feed'") ==
           "0";
  });
}

// The steps of docs/content.md, "Subscriptions": the side that closes lets go of the slot...
std::string detach_feed(harness::Cluster& server) {
  disable_feed(server);
  const auto seen =
      server.value(kDatabase,
                   "SELECT o.remote_lsn FROM pg_subscription s JOIN pg_replication_origin_status "
                   "o ON o.external_id = 'pg_' || s.oid WHERE s.subname = 'Feed'");
  server.sql(kDatabase, "ALTER SUBSCRIPTION \"Feed\" SET (slot_name = NONE)");
  return seen.value_or("none");
}

// ...and the one that opened takes it.
void attach_feed(harness::Cluster& server, const std::string& seen) {
  server.sql(kDatabase, "SELECT pg_replication_origin_advance('pg_' || oid, '" + seen +
                            "') FROM pg_subscription WHERE subname = 'Feed'");
  for (const char* step :
       {"SET (slot_name = 'not_a_slot')", "ENABLE", "REFRESH PUBLICATION WITH (copy_data = false)",
        "SET (slot_name = 'their_slot')"}) {
    server.sql(kDatabase, std::string("ALTER SUBSCRIPTION \"Feed\" ") + step);
  }
}

// 15 lists generated columns ("taxed") as published, later versions don't.
std::string publications(harness::Cluster& server, bool filters) {
  return server
      .value(
          kDatabase,
          "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (SELECT concat_ws(' ', pubname, rolname, "
          "puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, obj_description(p.oid, "
          "'pg_publication')) AS line FROM pg_publication p JOIN pg_roles r ON r.oid = pubowner UNION ALL "
          "SELECT concat_ws(' ', pubname, schemaname, tablename" +
              std::string(filters ? ", array_remove(attnames, 'taxed'), rowfilter" : "") +
              ") FROM pg_publication_tables WHERE schemaname <> 'pgcutover') x WHERE line !~ '^pgcutover_'")
      .value_or("none");
}

std::string subscriptions(harness::Cluster& server) {
  return server
      .value(
          kDatabase,
          "SELECT string_agg(concat_ws(' ', subname, rolname, subenabled, subpublications, subsynccommit, "
          "md5(subconninfo), obj_description(s.oid, 'pg_subscription')), ', ') FROM pg_subscription s JOIN "
          "pg_roles r ON r.oid = subowner")
      .value_or("none");
}

}  // namespace

TEST_CASE("publications and subscriptions of the source stay behind, or are made on the target by request") {
  harness::Cluster far({.name = "far"});
  Scenario scenario;
  auto& source = scenario.source();
  auto& target = scenario.target();
  source.sql(kDatabase, "ALTER TABLE shop.bank_journal REPLICA IDENTITY FULL");
  make_publications(source);
  make_feed(far, source);
  far.sql("postgres", "INSERT INTO public.feed VALUES (2, 'streamed')");
  wait_feed(source, "1before,2streamed");
  disable_feed(source);
  target.sql("postgres", "ALTER SYSTEM SET log_statement = 'all'");
  target.sql("postgres", "ALTER SYSTEM SET log_min_duration_statement = 0");
  target.sql("postgres", "ALTER SYSTEM SET log_transaction_sample_rate = 1");
  for (auto* server : {&source, &target}) {
    server->sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'");
    server->sql("postgres", "SELECT pg_reload_conf()");
  }
  const bool filters = source.major() >= 15;
  const auto wanted = publications(source, filters);
  const auto subscribed = subscriptions(source);
  CHECK(has(subscribed, "Feed postgres f {a} local"));

  const auto skipped = scenario.tool({"check"});
  CHECK_MESSAGE(skipped.exit_code == 0, skipped.output);
  CHECK_MESSAGE(has(skipped.output, "everything, "), skipped.output);
  CHECK(has(skipped.output, "some \"Tables"));
  CHECK(has(skipped.output, "1 subscription(s) (Feed) are not moved"));

  const std::vector<std::string> copy{"--publications", "copy", "--subscriptions", "copy-disabled"};
  auto run = scenario.start_run("run.after-indexes:kill", copy);
  run->wait(Deadline::in(milliseconds(180'000)));
  std::string said = run->output() + run->errors();
  run = scenario.start_run("", copy);
  scenario.wait_state(*run, "ready");
  CHECK(publications(target, filters) == wanted);
  CHECK_MESSAGE(subscriptions(target) == subscribed, said << run->errors());
  CHECK(has(scenario.tool({"report", "--format", "json"}).output, "never by ENABLE alone"));
  CHECK_THROWS_WITH_AS(target.sql(kDatabase, "ALTER SUBSCRIPTION \"Feed\" ENABLE"),
                       doctest::Contains("does not have a slot name"), replication::base::Error);
  const auto cancelled = scenario.tool({"cancel", "--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
  run->wait(Deadline::in(milliseconds(180'000)));
  said += run->output() + run->errors();
  CHECK(publications(target, filters) == "none");
  CHECK(subscriptions(target) == "none");
  CHECK(publications(source, filters) == wanted);
  CHECK(subscriptions(source) == subscribed);

  // One that the target has is left alone. All the way and back, with publications for all tables on both
  // sides: our own tables are among theirs.
  target.sql(kDatabase, "CREATE PUBLICATION empty");
  run = scenario.start_run("", copy);
  scenario.wait_state(*run, "ready");
  CHECK(has(scenario.tool({"report", "--format", "json"}).output,
            "publication empty: the target has one of that name"));
  far.sql("postgres", "INSERT INTO public.feed VALUES (3, 'waits')");
  auto seen = detach_feed(source);
  const auto switched = scenario.tool({"switch"});
  CHECK_MESSAGE(switched.exit_code == 0, switched.errors);
  CHECK((scenario.expect_sound("switch") == Side::target));
  CHECK(feed(target) == "1before,2streamed");
  attach_feed(target, seen);
  far.sql("postgres", "INSERT INTO public.feed VALUES (4, 'after')");
  wait_feed(target, "1before,2streamed,3waits,4after");
  wait_feed(source, "1before,2streamed,3waits,4after");

  // The way back: what writes there is named, and handed back.
  const auto refused = scenario.tool({"rollback"});
  CHECK(refused.exit_code != 0);
  CHECK_MESSAGE(has(refused.errors + refused.output, "subscription Feed writes into this database"),
                refused.errors, refused.output);
  seen = detach_feed(target);
  const auto back = scenario.tool({"rollback"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  CHECK((scenario.expect_sound("rollback") == Side::source));
  attach_feed(source, seen);
  far.sql("postgres", "INSERT INTO public.feed VALUES (5, 'home')");
  wait_feed(source, "1before,2streamed,3waits,4after,5home");
  const auto finished = scenario.tool({"finish", "--yes"});
  CHECK_MESSAGE(finished.exit_code == 0, finished.errors);
  run->wait(Deadline::in(milliseconds(180'000)));
  said += run->output() + run->errors() + target.log();
  CHECK(has(said, "CREATE PUBLICATION everything"));  // the log does log
  CHECK_FALSE(has(said, "own secret"));
}

TEST_CASE("a slot made on the target before the switch goes on where the target's own changes begin") {
  Scenario scenario;
  scenario.source().sql(kDatabase, "CREATE TABLE public.consumed (id int PRIMARY KEY)");
  auto run = scenario.start_run();
  scenario.wait_state(*run, "ready");
  scenario.target().sql(kDatabase, "SELECT pg_create_logical_replication_slot('consumer', 'test_decoding')");
  scenario.source().sql(kDatabase, "INSERT INTO public.consumed VALUES (1)");
  harness::wait_until(Deadline::in(milliseconds(30'000)), "the stream brings it", [&] {
    return scenario.target().value(kDatabase, "SELECT count(*) FROM public.consumed") == "1";
  });
  const auto switched = scenario.tool({"switch", "--verify-gate", "none"});
  REQUIRE_MESSAGE(switched.exit_code == 0, switched.errors);
  scenario.target().sql(kDatabase, "INSERT INTO public.consumed VALUES (2)");

  const auto given = [&] {
    return scenario.target()
        .value(kDatabase,
               "SELECT string_agg(substring(data FROM 'integer.:(\\d+)'), ',') FROM "
               "pg_logical_slot_peek_changes("
               "'consumer', NULL, NULL) WHERE data LIKE 'table public.consumed: INSERT%'")
        .value_or("nothing");
  };
  CHECK(given() == "1,2");  // what the stream brought is given too
  const auto report = scenario.tool({"report", "--format", "json"}).output;
  const std::string before = "whose own changes begin at ";
  const auto at = report.find(before);
  REQUIRE_MESSAGE(at != std::string::npos, report);
  const auto lsn = report.substr(at + before.size(), report.find('"', at) - at - before.size());
  scenario.target().sql(kDatabase, "SELECT pg_replication_slot_advance('consumer', '" + lsn + "')");
  CHECK(given() == "2");
  scenario.stop_run(*run);
}
