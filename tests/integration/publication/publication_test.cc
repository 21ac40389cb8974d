// Our publication is changed by somebody else while a migration streams, and put back as if nothing had been.
#include "tests/integration/schema_changes/stage.h"

using namespace schema_changes;

namespace {

constexpr const char* kTables =
    "CREATE TABLE one (id int PRIMARY KEY, note text); INSERT INTO one SELECT g, 'old' FROM "
    "generate_series(1, "
    "20) g; CREATE TABLE two (id int PRIMARY KEY, note text); INSERT INTO two SELECT * FROM one; CREATE "
    "TABLE "
    "loose (n int, note text); INSERT INTO loose SELECT * FROM one;"
    "CREATE TABLE part (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);"
    "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); INSERT INTO part VALUES (1, 1)";

class Tampered : public Stage {
 public:
  explicit Tampered(const std::string& name) : Stage(name, "stop", kTables), name_(name) {}

  std::string publication(bool of_source = true) const {
    return "pgcutover_" + name_ + (of_source ? "_forward" : "_reverse");
  }
  // Each statement is a transaction of its own.
  void on(bool of_source, const std::vector<std::string>& statements) {
    for (const auto& statement : statements) {
      of_source ? source(statement) : target(statement);
    }
  }
  void alter(const std::string& change) { source("ALTER PUBLICATION " + publication() + " " + change); }
  // Everything that is in the stream by now has arrived.
  void wait_arrived() {
    source("INSERT INTO two VALUES (" + std::to_string(++arrived_) + ", 'arrived')");
    wait_same("SELECT count(*) FROM two");
  }
  harness::ToolResult hand_over(const std::string& verb) {
    return tool(verb, {"--verify-gate", "none", "--max-pause", "45s", "--max-lag", "45s"});
  }
  void expect_refused(const std::string& verb, const std::string& table) {
    const auto refused = hand_over(verb);
    CHECK(refused.exit_code != 0);
    CHECK_MESSAGE(has(refused.errors, "was changed by somebody else"), refused.errors);
    CHECK_MESSAGE(has(refused.errors, table), refused.errors);
  }
  void resync(const std::vector<std::string>& tables) {
    std::vector<std::string> arguments;
    for (const auto& table : tables) {
      arguments.insert(arguments.end(), {"--table", table});
    }
    const auto done = tool("resync", arguments);
    CHECK_MESSAGE(done.exit_code == 0, done.errors);
  }

 private:
  std::string name_;
  int arrived_ = 1000;
};

}  // namespace

TEST_CASE("a table that was taken out of our publication and put in again isn't switched before a new copy") {
  Tampered stage("pubtable");
  int id = 100;
  const auto taken_out = [&](const std::vector<std::string>& more = {}) {
    stage.alter("DROP TABLE one");
    stage.on(true, more);
    stage.source("INSERT INTO one VALUES (" + std::to_string(++id) + ", 'lost')");
  };
  const auto put_in = [&] {
    stage.alter("ADD TABLE one");
    stage.source("INSERT INTO one VALUES (" + std::to_string(++id) + ", 'there')");
  };
  const auto copied_again = [&] {
    stage.wait_arrived();
    CHECK(stage.value(false, "SELECT string_agg(note, ',') FROM one WHERE id > 100") == "there");
    stage.expect_refused("switch", "public.one");
    CHECK_FALSE(has(stage.tool("status").output, "public.two"));
    stage.resync({"public.one"});
    stage.wait_status("publication-changed", false);
    stage.source("UPDATE one SET note = 'after' WHERE id > 100");
    stage.wait_same("SELECT string_agg(id || note, ',' ORDER BY id) FROM one");
    stage.source("DELETE FROM one WHERE id > 100");
  };
  // Right before the switch.
  taken_out();
  put_in();
  copied_again();
  // While the run lives and looks; to be written unlogged, which the server refuses of a published table.
  CHECK_THROWS(stage.source("ALTER TABLE one SET UNLOGGED"));
  taken_out({"ALTER TABLE one SET UNLOGGED"});
  stage.source("ALTER TABLE one SET LOGGED");
  put_in();
  stage.wait_status("publication-changed", true);
  copied_again();
  // While no run lives.
  stage.run().terminate();
  CHECK(stage.run().wait(seconds(180)) == 0);
  taken_out();
  put_in();
  stage.run_again();
  copied_again();
  stage.expect_equal();
  const auto there = stage.hand_over("switch");
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
}

TEST_CASE(
    "a table that was taken out, or in by half, is put in whole by a new copy, also one that is cut off") {
  Tampered stage("pubhalf");
  stage.alter("DROP TABLE one, loose");
  if (server(true).major() >= 15) {
    stage.alter("ADD TABLE one WHERE (id < 50), loose (n)");
  }
  stage.on(true, {"INSERT INTO one VALUES (100, 'lost')", "INSERT INTO loose VALUES (100, 'lost')"});
  stage.wait_status("publication-changed", true);
  stage.wait_arrived();
  CHECK(stage.value(false, "SELECT count(*) FROM one WHERE id = 100") == "0");
  for (const char* fault : {"publication.noted:kill", "publication.put:kill"}) {
    CAPTURE(fault);
    stage.run_again(fault);
    CHECK(stage.tool("resync", {"--table", "public.one", "--no-wait"}).exit_code == 0);
    stage.run().wait(seconds(180));
    stage.run_again();
    stage.wait_same("SELECT count(*) FROM one");
    stage.source("INSERT INTO one VALUES (200 + (SELECT count(*) FROM one), 'after')");
    stage.wait_same("SELECT count(*) FROM one");
    stage.expect_refused("switch", "public.loose");
    stage.alter("DROP TABLE one");
    stage.source("INSERT INTO one VALUES (300 + (SELECT count(*) FROM one), 'lost')");
  }
  stage.resync({"public.one", "public.loose"});
  stage.wait_status("publication-changed", false);
  stage.expect_equal();
  CHECK(stage.value(true,
                    "SELECT count(*) FROM pg_publication_rel WHERE prpubid = (SELECT oid FROM "
                    "pg_publication WHERE pubname = '" +
                        stage.publication() + "')") ==
        stage.value(false,
                    "SELECT count(*) + 1 FROM pgcutover.published WHERE side = 'source' AND mark <> ''"));
}

TEST_CASE("a publication that left out a kind of change for a while concerns every table") {
  Tampered stage("pubkinds");
  stage.alter("SET (publish = 'insert')");
  stage.source("DELETE FROM loose WHERE n = 1");
  stage.alter("SET (publish = 'insert, update, delete, truncate')");
  stage.wait_status("publication-changed", true);
  stage.wait_arrived();
  CHECK(stage.value(false, "SELECT count(*) FROM loose") == "20");
  stage.alter("SET (publish = 'insert')");  // still so when they are copied again
  for (const char* table : {"public.one", "public.two", "public.loose", "public.part"}) {
    stage.expect_refused("switch", table);
    stage.resync({table});
  }
  stage.source("DELETE FROM loose WHERE n = 2");
  stage.wait_same("SELECT count(*) FROM loose");
  stage.wait_status("publication-changed", false);
  stage.expect_equal();
  const auto there = stage.hand_over("switch");
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
}

TEST_CASE("a publication that was made again ends the stream, whoever put back what it had") {
  Tampered stage("pubagain");
  stage.run().terminate();
  CHECK(stage.run().wait(seconds(180)) == 0);
  stage.on(true, {"DROP PUBLICATION " + stage.publication(), "INSERT INTO one VALUES (100, 'lost')",
                  "CREATE PUBLICATION " + stage.publication() +
                      " FOR TABLE one, two, loose, part_1, pgcutover.marker" +
                      (server(true).major() >= 13 ? ", part" : "")});
  Tool again(stage.arguments("run", {}));
  CHECK(again.wait(seconds(180)) == 8);
  CHECK_MESSAGE(has(again.errors(), "to be copied again: public.loose, public.one"), again.errors());
  const auto refused = stage.hand_over("switch");
  CHECK(refused.exit_code != 0);
  const auto cancelled = stage.tool("cancel", {"--yes"});
  CHECK_MESSAGE(cancelled.exit_code == 0, cancelled.errors);
}

TEST_CASE(
    "a change between the gates and the fence undoes the switch; on the target it blocks the way back") {
  Tampered stage("pubpause");
  stage.run_again("switch.before-hold:stop@1,switch.before-hold:stop@2");
  for (const bool of_source : {true, false}) {
    CAPTURE(of_source);
    Tool asked(
        stage.arguments("switch", {"--verify-gate", "none", "--max-pause", "45s", "--max-lag", "45s"}));
    stage.run().wait_frozen(seconds(180));
    stage.on(of_source, {"ALTER PUBLICATION " + stage.publication(of_source) + " DROP TABLE one",
                         "ALTER PUBLICATION " + stage.publication(of_source) + " ADD TABLE one"});
    stage.run().thaw();
    CHECK(asked.wait(seconds(180)) == 6);
    CHECK_MESSAGE(has(asked.errors(), "was changed while the switch began"), asked.errors());
    CHECK(stage.value(true, "SELECT state FROM pgcutover.fence") == "open");
    if (of_source) {
      stage.resync({"public.one"});
    }
  }
  const auto there = stage.hand_over("switch");
  CHECK_MESSAGE(there.exit_code == 0, there.errors);
  stage.on(false, {"ALTER PUBLICATION " + stage.publication(false) + " DROP TABLE one",
                   "INSERT INTO one VALUES (100, 'lost')",
                   "ALTER PUBLICATION " + stage.publication(false) + " ADD TABLE one",
                   "INSERT INTO one VALUES (101, 'there')"});
  harness::wait_until(seconds(180), "what came after is there",
                      [&] { return stage.value(true, "SELECT count(*) FROM one WHERE id = 101") == "1"; });
  CHECK(stage.value(true, "SELECT count(*) FROM one WHERE id = 100") == "0");
  stage.expect_refused("rollback", "public.one");
  stage.source("INSERT INTO one VALUES (100, 'lost')");
  CHECK(stage.tool("verify").exit_code == 0);
  const auto back = stage.tool("rollback", {"--verify-gate", "none", "--max-pause", "45s", "--max-lag", "45s",
                                            "--accept", "publication-changed"});
  CHECK_MESSAGE(back.exit_code == 0, back.errors);
  stage.wait_status("publication-changed", false);  // its own publication was looked after
}

TEST_CASE("what doesn't lose a row is no change of the publication") {
  Tampered stage("pubsame");
  const auto marks = "SELECT md5(string_agg(t::text, ',' ORDER BY relid)) FROM pgcutover.published t";
  const auto before = stage.value(false, marks);
  stage.on(true, {"VACUUM FREEZE pg_publication_rel", "VACUUM FULL pg_publication_rel",
                  "VACUUM FULL pg_publication", "COMMENT ON PUBLICATION " + stage.publication() + " IS 'x'"});
  // While it has no identity the table's rows can't be changed, only added.
  stage.source("ALTER TABLE one REPLICA IDENTITY NOTHING");
  CHECK_THROWS(stage.source("UPDATE one SET note = 'lost'"));
  stage.source("INSERT INTO one VALUES (100, 'there')");
  stage.source("ALTER TABLE one REPLICA IDENTITY DEFAULT");
  stage.source("UPDATE one SET note = 'there too'");
  // Our own: a new partition, and a table that is dropped.
  stage.on(false, {"CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20)"});
  stage.on(true, {"CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20)",
                  "INSERT INTO part VALUES (2, 11)"});
  server(true).restart();
  stage.run_again();
  harness::wait_until(seconds(180), "the partition is published by itself", [&] {
    return server(true).major() < 13 ||
           stage.value(false, "SELECT count(*) FROM pgcutover.published WHERE name = 'part_2' AND sure") ==
               "1";
  });
  stage.wait_same("SELECT string_agg(id || note, ',' ORDER BY id) FROM one");
  CHECK(stage.value(false, marks + std::string(" WHERE name <> 'part_2'")) == before);
  CHECK_FALSE(has(stage.tool("status").output, "publication-changed"));
}

TEST_CASE("a partition that is replaced or dropped while it is taken in is no trouble") {
  Tampered stage("pubswap");
  if (server(true).major() < 13) {
    MESSAGE("before 13 a new partition isn't taken in by itself");
    return;
  }
  for (int i = 2; i < 6; ++i) {
    const auto name = "part_" + std::to_string(i);
    const auto bounds = " FOR VALUES FROM (" + std::to_string(i) + "0) TO (" + std::to_string(i + 1) + "0)";
    const auto create = "CREATE TABLE " + name + " PARTITION OF part" + bounds;
    stage.target(create);
    auto session = server(true).connect("pubswap");
    session.exec(create);
    session.exec("BEGIN; LOCK TABLE " + name);
    harness::wait_until(seconds(180), "it is being published", [&] {
      return stage.value(true,
                         "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = "
                         "'ShareRowExclusiveLock'") != "0";
    });
    if (i == 3) {
      session.exec("DROP TABLE " + name + "; COMMIT");
      continue;
    }
    session.exec("DROP TABLE " + name + "; " + create + "; INSERT INTO part VALUES (2, " + std::to_string(i) +
                 "1); COMMIT");
    harness::wait_until(seconds(180), "it is published", [&] {
      return stage.value(false, "SELECT count(*) FROM pgcutover.published WHERE sure AND name = '" + name +
                                    "' AND relid = " +
                                    stage.value(true, "SELECT '" + name + "'::regclass::oid")) == "1";
    });
  }
  stage.wait_same("SELECT string_agg(id || ' ' || day, ',' ORDER BY day, id) FROM part");
  CHECK(stage.value(false, "SELECT count(*) FROM pgcutover.published WHERE trouble <> ''") == "0");
  CHECK_FALSE(has(stage.tool("status").output, "publication-changed"));
  CHECK(stage.run().running());
  // DROP TABLE isn't in the stream.
  stage.source("DROP TABLE part_4");
  const auto refused = stage.hand_over("switch");
  CHECK_MESSAGE(refused.exit_code == 3, refused.errors);
  CHECK_MESSAGE(has(refused.errors, "partition public.part_4 isn't on the source any more"), refused.errors);
  stage.target("DROP TABLE part_4; DROP TABLE part_3");
  const auto done = stage.hand_over("switch");
  CHECK_MESSAGE(done.exit_code == 0, done.errors);
  stage.wait_same("SELECT string_agg(id || ' ' || day, ',' ORDER BY day, id) FROM part");
}
