// `pgcutover sequences bump` where somebody else holds a sequence or its table with an open transaction: a
// wait that nobody queues behind, and an end that says who it is.
#include <doctest/doctest.h>
#include <memory>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "tests/harness/text.h"
#include "tests/harness/wait.h"
#include "tests/integration/sequences/verb_pair.h"

namespace {

using harness::has;
using replication::base::Deadline;
using replication::base::milliseconds;
using verb::cluster;
using verb::Pair;
using verb::value;

std::unique_ptr<harness::Tool> start_bump(const Pair& pair) {
  return std::make_unique<harness::Tool>(
      std::vector<std::string>{"sequences", "bump", "--yes", "--source", cluster().conninfo(pair.source()),
                               "--target", cluster().conninfo(pair.target()), "--interval", "100ms"});
}

// A session of somebody else, with its transaction open.
replication::postgres::Connection holder(const std::string& database, const std::string& sql) {
  auto session = cluster().connect(database);
  session.exec("SET application_name = 'a migration tool'");
  session.exec("BEGIN");
  session.exec(sql);
  return session;
}

void wait_refused_lock(const std::string& database, const Deadline& deadline) {
  harness::wait_until(deadline, "the bump waits for a lock", [&] {
    return value("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + database +
                                 "' AND application_name LIKE 'pgcutover%' AND wait_event_type = 'Lock'") !=
           "0";
  });
}

TEST_CASE("a bump waits for a sequence that somebody alters, nobody waits for it, and it ends with them") {
  const Pair pair;
  pair.both("CREATE SEQUENCE a; CREATE SEQUENCE held; CREATE SEQUENCE z; SELECT nextval('a'), nextval('z')");
  const auto deadline = Deadline::in(milliseconds(180'000));
  auto session = holder(pair.source(), "ALTER SEQUENCE held CACHE 2");
  const auto bump = start_bump(pair);
  wait_refused_lock(pair.source(), deadline);
  // The others, that the bump takes in the same breath. An ALTER waits for whoever holds a lock, and every
  // nextval would for the ALTER.
  auto other = cluster().connect(pair.source());
  other.exec("SET statement_timeout = 20000");
  for (int i = 0; i < 2; ++i) {
    other.exec("ALTER SEQUENCE a CACHE " + std::to_string(i + 1));
    other.exec("SELECT nextval('a'), nextval('z')");
  }
  CHECK(value(pair.source(), "SELECT last_value FROM z") == "3");  // nothing is set before all can be
  session.exec("COMMIT");
  CHECK_MESSAGE(bump->wait(deadline) == 0, bump->errors());
  for (const auto& database : {pair.source(), pair.target()}) {
    CHECK(value(database, "SELECT count(*) FROM pgcutover.sequence_ledger") == "6");
  }
  CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
}

TEST_CASE(
    "a bump that can't get its locks names what is locked and who holds it; the next call completes it") {
  struct Held {
    const char* lock;
    bool on_source;
    const char* named;
  };
  const std::vector<Held> all{
      {"ALTER SEQUENCE t_id_seq CACHE 2", true, "public.t_id_seq by pid "},
      {"ALTER SEQUENCE t_id_seq CACHE 2", false, "public.t_id_seq by pid "},
      {"DROP SEQUENCE loose", true, "public.loose by pid "},
      {"LOCK TABLE t IN ACCESS EXCLUSIVE MODE", false, "public.t by pid "},
  };
  std::vector<std::unique_ptr<Pair>> pairs;
  std::vector<std::unique_ptr<harness::Tool>> bumps;
  std::vector<replication::postgres::Connection> sessions;
  for (const auto& held : all) {  // side by side: each one uses its patience up
    pairs.push_back(std::make_unique<Pair>());
    const auto& pair = *pairs.back();
    pair.both("CREATE TABLE t (id serial PRIMARY KEY); CREATE SEQUENCE loose; INSERT INTO t DEFAULT VALUES");
    sessions.push_back(holder(held.on_source ? pair.source() : pair.target(), held.lock));
    bumps.push_back(start_bump(pair));
  }
  const auto deadline = Deadline::in(milliseconds(180'000));
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const auto& pair = *pairs[i];
    CHECK(bumps[i]->wait(deadline) == 1);
    const auto errors = bumps[i]->errors();
    CHECK_MESSAGE(has(errors, all[i].named), errors);
    CHECK_MESSAGE(has(errors, "a migration tool, idle in transaction"), errors);
    CHECK_MESSAGE(has(errors, all[i].on_source ? "(source)" : "(target)"), errors);
    sessions[i].exec("ROLLBACK");
    // What was set on the source before is behind the next pair of ranges.
    cluster().sql(pair.source(), "INSERT INTO t SELECT FROM generate_series(1, 40)");
    const auto again = pair.tool({"bump", "--yes"});
    CHECK_MESSAGE(again.exit_code == 0, again.errors);
    for (const auto& database : {pair.source(), pair.target()}) {
      cluster().sql(database, "INSERT INTO t SELECT FROM generate_series(1, 40)");
    }
    CHECK(value(pair.source(), "SELECT string_agg(id::text, ',') FROM t WHERE id > 1") !=
          value(pair.target(), "SELECT string_agg(id::text, ',') FROM t WHERE id > 1"));
    CHECK(has(pair.tool({"bump", "--yes"}).output, "nothing to set"));
  }
}

}  // namespace
