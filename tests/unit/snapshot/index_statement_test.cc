#include "replication/snapshot/index_statement.h"

#include <doctest/doctest.h>

using replication::snapshot::read_index_statement;

TEST_CASE("an index's table is read from pg_dump's text") {
  const auto plain = read_index_statement("CREATE INDEX accounts_bid ON public.accounts USING btree (bid);");
  REQUIRE(plain);
  CHECK(plain->schema == "public");
  CHECK(plain->table == "accounts");
  CHECK_FALSE(plain->unique);
  CHECK(plain->build.empty());
  const auto quoted =
      read_index_statement("CREATE UNIQUE INDEX \"a b\" ON \"We\"\"ird\".\"Or der\" USING hash (x);");
  REQUIRE(quoted);
  CHECK(quoted->schema == "We\"ird");
  CHECK(quoted->table == "Or der");
  CHECK(quoted->unique);
}

TEST_CASE("a primary key or unique constraint is built and then attached") {
  const auto key =
      read_index_statement("ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a, \"B c\");");
  REQUIRE(key);
  CHECK(key->table == "t");
  CHECK(key->build == "CREATE UNIQUE INDEX t_pkey ON public.t (a, \"B c\");");
  CHECK(key->attach == "ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey;");
  const auto unique = read_index_statement(
      "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u UNIQUE (a) DEFERRABLE INITIALLY DEFERRED;");
  REQUIRE(unique);
  CHECK(unique->attach ==
        "ALTER TABLE ONLY public.t ADD CONSTRAINT u UNIQUE USING INDEX u DEFERRABLE INITIALLY DEFERRED;");
}

TEST_CASE("what isn't the same in two steps is left as it is") {
  for (const char* sql :
       {"ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (a);",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u UNIQUE (a) INCLUDE (b);",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u PRIMARY KEY (a) WITH (fillfactor='70');",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u PRIMARY KEY (a, r WITHOUT OVERLAPS);",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT u EXCLUDE USING gist (r WITH &&);"}) {
    INFO(std::string(sql));
    const auto statement = read_index_statement(sql);
    REQUIRE(statement);
    CHECK(statement->table == "t");
    CHECK(statement->build.empty());
    CHECK(statement->attach.empty());
  }
}

TEST_CASE("nothing else is taken for an index of a table") {
  for (const char* sql :
       {"CREATE INDEX i ON ONLY public.parted USING btree (a);", "CREATE RULE r AS ON INSERT TO t;",
        "ALTER TABLE ONLY public.t CLUSTER ON i;", "ALTER TABLE ONLY public.t REPLICA IDENTITY FULL;",
        "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u(a);",
        "ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;", ""}) {
    INFO(std::string(sql));
    CHECK_FALSE(read_index_statement(sql));
  }
}

TEST_CASE("indexes that keep no rule may wait, and what speaks of them waits with them") {
  using replication::snapshot::ScriptItem;
  const std::vector<std::pair<const char*, bool>> statements = {
      {"ALTER TABLE ONLY s.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);", false},
      {"CREATE INDEX t_at ON s.t USING btree (at);", true},
      {"CREATE UNIQUE INDEX t_mail ON s.t USING btree (mail);", false},
      {"CREATE INDEX \"p \"\"i\" ON ONLY s.p USING btree (at);", true},
      {"CREATE INDEX p1_i ON other.p1 USING btree (at);", true},
      {"ALTER INDEX s.\"p \"\"i\" ATTACH PARTITION other.p1_i;", true},
      {"ALTER INDEX s.p_pkey ATTACH PARTITION other.p1_pkey;", false},
      {"COMMENT ON INDEX s.t_at IS 'x; y';", true},
      {"COMMENT ON INDEX s.t_mail IS 'x';", false},
      {"ALTER TABLE s.t CLUSTER ON t_at;", true},
      {"ALTER TABLE ONLY s.t REPLICA IDENTITY USING INDEX t_mail;", false},
      {"ALTER INDEX s.t_at ALTER COLUMN 1 SET STATISTICS 100;", true},
      {"CREATE TRIGGER g BEFORE UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.f();", false},
  };
  std::vector<ScriptItem> items;
  for (const auto& [sql, secondary] : statements) {
    items.push_back({"", sql});
  }
  const auto may_wait = replication::snapshot::secondary_indexes(items);
  REQUIRE(may_wait.size() == items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    CAPTURE(items[i].sql);
    CHECK(may_wait[i] == statements[i].second);
  }
  CHECK(replication::snapshot::created_index("CREATE INDEX \"a b\" ON ONLY \"S\".t USING btree (x);") ==
        "\"S\".\"a b\"");
}
