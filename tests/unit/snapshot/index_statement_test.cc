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
