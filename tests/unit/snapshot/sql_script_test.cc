#include "replication/snapshot/sql_script.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"

namespace {

using namespace replication::snapshot;
using Texts = std::vector<std::string>;

std::set<std::string> roles_of(std::string_view sql) {
  std::set<std::string> roles;
  collect_roles(sql, roles);
  return roles;
}
using Roles = std::set<std::string>;

TEST_CASE("statements about publications and subscriptions are known by the object's name") {
  const auto name = [](std::string_view sql) {
    const auto object = stream_object_name(sql);
    return object ? (object->subscription ? "s " : "p ") + object->name : std::string("none");
  };
  CHECK(name("CREATE PUBLICATION All_Of WITH (publish = 'insert');") == "p all_of");
  CHECK(name("ALTER PUBLICATION \"a \"\"B; c\" ADD TABLE ONLY s.t (id) WHERE ((id > 3));") == "p a \"B; c");
  CHECK(name("COMMENT ON SUBSCRIPTION \"Feed\" IS 'PUBLICATION x';") == "s Feed");
  CHECK(name("SECURITY LABEL FOR dummy ON PUBLICATION p IS 'secret';") == "p p");
  CHECK(name("CREATE SUBSCRIPTION feed CONNECTION 'host=h' PUBLICATION a;") == "s feed");
  CHECK(name("CREATE TABLE publication (subscription int);") == "none");
  CHECK(name("COMMENT ON TABLE publication IS 'x';") == "none");
  CHECK(name("ALTER TABLE publication ADD subscription int;") == "none");
}

TEST_CASE("statements end at semicolons and comments around them are dropped") {
  CHECK(split_statements("") == Texts{});
  CHECK(split_statements("-- nothing; here\n/* nor /* here; */ ; */\n") == Texts{});
  CHECK(split_statements("SELECT 1;\n-- Name: t; Type: TABLE\nSELECT /* ; */ 2;") ==
        Texts{"SELECT 1;", "SELECT /* ; */ 2;"});
}

TEST_CASE("a semicolon inside quotes of any kind is text") {
  const Texts statements{
      "COMMENT ON TABLE t IS 'a;b''c;';",
      "COMMENT ON TABLE t IS E'a\\';b\\\\';",
      "CREATE TABLE \"a;\"\"b\" (x text DEFAULT U&'\\0441;');",
      "CREATE FUNCTION f() RETURNS text AS $$ SELECT ';'; $$;",
      "CREATE FUNCTION g() RETURNS text AS $_$ SELECT $$;$$; $1; $_$;",
      "COMMENT ON TABLE e IS 'ends with a backslash\\';",
      "ALTER TABLE a$b ALTER c SET DEFAULT 'x;';",
  };
  std::string script;
  for (const auto& statement : statements) {
    script += statement + "\n\n--\n-- Name: it's; Type: COMMENT\n--\n\n";
  }
  CHECK(split_statements(script) == statements);
}

TEST_CASE("rules with several actions and SQL function bodies are one statement") {
  const Texts statements{
      "CREATE RULE r AS ON UPDATE TO t DO ALSO ( INSERT INTO a VALUES (1); DELETE FROM b; );",
      "CREATE FUNCTION f(i integer) RETURNS text LANGUAGE sql\n BEGIN ATOMIC\n SELECT CASE WHEN (i > 0) THEN "
      "'a' ELSE CASE "
      "WHEN true THEN ';' END END;\n SELECT ( SELECT CASE WHEN true THEN 1 END );\nEND;",
      "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); END;",
      "CREATE FUNCTION public.begin() RETURNS integer AS 'select 1;' LANGUAGE sql;",
      "SELECT 1;",
  };
  std::string script;
  for (const auto& statement : statements) {
    script += statement + "\n";
  }
  CHECK(split_statements(script) == statements);
}

TEST_CASE("psql's restrict lines are dropped, any other psql command is refused") {
  CHECK(split_statements("--\n\\restrict abc\n\nSELECT 1;\n\\unrestrict abc\n") == Texts{"SELECT 1;"});
  CHECK(split_statements("SELECT '\n\\! rm x\n';") == Texts{"SELECT '\n\\! rm x\n';"});
  CHECK_THROWS_AS(split_statements("\\! date\nSELECT 1;"), replication::base::Error);
  CHECK_THROWS_AS(split_statements("SELECT \\restrict a\n1;"), replication::base::Error);
}

TEST_CASE("a script cut at any byte is either refused or gives only whole statements") {
  const std::string script =
      "SET a = 1;\n/* x /* y */ */ CREATE RULE r AS ON INSERT TO t DO ALSO ( SELECT 1; SELECT 'x;'; );\n"
      "CREATE FUNCTION f() RETURNS text AS $a$ b;$ $a$;\nCOMMENT ON TABLE \"t;\" IS E'\\';';\n"
      "CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END;\n";
  const auto whole = split_statements(script);
  REQUIRE(whole.size() == 5);
  int accepted = 0;
  for (std::size_t length = 0; length <= script.size(); ++length) {
    Texts part;
    try {
      part = split_statements(std::string_view(script).substr(0, length));
    } catch (const replication::base::Error&) {
      continue;
    }
    ++accepted;
    REQUIRE(part.size() <= whole.size());
    CHECK(std::equal(part.begin(), part.end(), whole.begin()));
  }
  CHECK(accepted >= 6);
}

TEST_CASE("settings go with the statements that follow them") {
  const auto items = read_script(
      "SET statement_timeout = 0;\nSET transaction_timeout = 0;\n"
      "SELECT pg_catalog.set_config('search_path', '', false);\nSET default_tablespace = 'fast';\n"
      "CREATE TABLE a (i int);\nSET default_tablespace = '';\nCREATE TABLE b (i int);");
  REQUIRE(items.size() == 2);
  CHECK(items[0].sql == "CREATE TABLE a (i int);");
  CHECK(items[0].settings ==
        "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n"
        "SET default_tablespace = 'fast';\n");
  CHECK(items[1].settings ==
        "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n"
        "SET default_tablespace = '';\n");
  CHECK(items[0].tablespace == "fast");
  CHECK(items[1].tablespace.empty());
  CHECK(read_script("SET default_tablespace = \"Fast one\";\nCREATE TABLE a (i int);")[0].tablespace ==
        "Fast one");
}

TEST_CASE("a column's pg_attver isn't carried over, its other options are") {
  const auto items = read_script(
      "ALTER TABLE ONLY a.\"b c\" ALTER COLUMN d SET (pg_attver=22154896);\n"
      "ALTER TABLE ONLY a.b ALTER COLUMN d SET (pg_attver=1, n_distinct=3);\n"
      "ALTER TABLE ONLY a.b ALTER COLUMN d SET (n_distinct=-0.5, pg_attver=1);\n"
      "ALTER TABLE ONLY a.b ALTER COLUMN pg_attver SET (n_distinct=3);\n"
      "COMMENT ON TABLE a.b IS 'SET (pg_attver=1)';");
  REQUIRE(items.size() == 4);
  CHECK(items[0].sql == "ALTER TABLE ONLY a.b ALTER COLUMN d SET (n_distinct=3);");
  CHECK(items[1].sql == "ALTER TABLE ONLY a.b ALTER COLUMN d SET (n_distinct=-0.5);");
  CHECK(items[2].sql == "ALTER TABLE ONLY a.b ALTER COLUMN pg_attver SET (n_distinct=3);");
  CHECK(items[3].sql == "COMMENT ON TABLE a.b IS 'SET (pg_attver=1)';");
}

TEST_CASE("a statement under another role carries the change of role with it") {
  const auto items = read_script(
      "SET SESSION AUTHORIZATION \"web;\";\nGRANT SELECT ON t TO a;\nRESET SESSION AUTHORIZATION;\nGRANT "
      "SELECT ON u TO a;");
  REQUIRE(items.size() == 2);
  CHECK(items[0].sql ==
        "SET SESSION AUTHORIZATION \"web;\";\nGRANT SELECT ON t TO a;\nRESET SESSION AUTHORIZATION;");
  CHECK(items[1].sql == "GRANT SELECT ON u TO a;");
  CHECK(roles_of(items[0].sql) == Roles{"a", "web;"});
}

TEST_CASE("roles are found where owners, grants and policies name them") {
  CHECK(roles_of("ALTER TABLE public.t OWNER TO shop;") == Roles{"shop"});
  CHECK(roles_of("ALTER FUNCTION public.f(x text) OWNER TO \"A \"\"b\";") == Roles{"A \"b"});
  CHECK(roles_of("GRANT SELECT(a),UPDATE(b) ON TABLE t TO web WITH GRANT OPTION;") == Roles{"web"});
  CHECK(roles_of("REVOKE ALL ON FUNCTION f(integer) FROM PUBLIC;") == Roles{});
  CHECK(roles_of("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s GRANT SELECT ON TABLES  TO b;") ==
        Roles{"a", "b"});
  CHECK(roles_of("CREATE POLICY p ON t FOR SELECT TO x, \"Y\" USING ((a = 'TO z'));") == Roles{"x", "Y"});
  CHECK(roles_of("CREATE TABLE t (a text DEFAULT 'x OWNER TO y');") == Roles{});
}

TEST_CASE("only statements that build an index are worth a session of their own") {
  CHECK(builds_index("CREATE INDEX i ON t USING btree (a);"));
  CHECK(builds_index("CREATE UNIQUE INDEX i ON ONLY t USING btree (a);"));
  CHECK(builds_index("ALTER TABLE ONLY \"a b\".t\n    ADD CONSTRAINT \"t key\" PRIMARY KEY (a);"));
  CHECK(builds_index("ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING gist (a WITH &&);"));
  CHECK_FALSE(builds_index("ALTER TABLE t ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;"));
  CHECK_FALSE(builds_index("ALTER INDEX i ATTACH PARTITION j;"));
  CHECK_FALSE(builds_index("CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION f();"));
  CHECK(comments_on_constraint("COMMENT ON CONSTRAINT c ON t IS 'x';"));
  CHECK_FALSE(comments_on_constraint("COMMENT ON TABLE t IS 'x';"));
}

TEST_CASE("what a newer pg_dump writes out is left out for servers that don't know it") {
  const std::string identity =
      "ALTER TABLE u.t ALTER COLUMN logged ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME u.logged ";
  CHECK(for_server(identity + "LOGGED START WITH 1);", 15) == identity + "LOGGED START WITH 1);");
  CHECK(for_server(identity + "LOGGED START WITH 1);", 14) == identity + " START WITH 1);");
  CHECK(for_server(identity + "START WITH 1);", 14) == identity + "START WITH 1);");
  const std::string check = "ALTER TABLE t ADD CONSTRAINT generated CHECK (logged);";
  CHECK(for_server(check, 13) == check);

  const std::string begin =
      "CREATE SUBSCRIPTION s CONNECTION 'application_name='', streaming = off''' PUBLICATION p ";
  const auto full = begin + "WITH (connect = false, slot_name = 's', streaming = off, run_as_owner = true);";
  CHECK(for_server(full, 16) == full);
  CHECK(for_server(full, 14) == begin + "WITH (connect = false, slot_name = 's', streaming = off);");
  CHECK(for_server(full, 13) == begin + "WITH (connect = false, slot_name = 's');");
}

TEST_CASE("a headline is one line, short, and ends at a whole character") {
  CHECK(headline("ALTER TABLE t\n ADD x;") == "ALTER TABLE t");
  const auto line = headline("COMMENT ON TABLE t IS '" + std::string(96, 'a') + "\xC3\xA4\xC3\xA4';");
  CHECK(line.size() <= 123);
  CHECK(line.ends_with("a..."));
}

TEST_CASE("roles are renamed where a statement names one, all at once, and nowhere else") {
  const replication::catalog::RoleMap map({{"a", "b"}, {"b", "c d"}, {"A \"x", "it's"}, {"public_", "p"}});
  const auto renamed = [&](std::string_view sql) { return rename_roles(sql, map); };
  CHECK(renamed("ALTER TABLE public.a OWNER TO a;") == "ALTER TABLE public.a OWNER TO \"b\";");
  CHECK(renamed("ALTER SCHEMA a OWNER TO \"A \"\"x\";") == "ALTER SCHEMA a OWNER TO \"it's\";");
  CHECK(renamed("GRANT SELECT(a) ON TABLE b TO b WITH GRANT OPTION;") ==
        "GRANT SELECT(a) ON TABLE b TO \"c d\" WITH GRANT OPTION;");
  CHECK(renamed("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA a REVOKE ALL ON TABLES  FROM b;") ==
        "ALTER DEFAULT PRIVILEGES FOR ROLE \"b\" IN SCHEMA a REVOKE ALL ON TABLES  FROM \"c d\";");
  CHECK(renamed("CREATE POLICY a ON a TO b, x, a, PUBLIC USING ((a = b));") ==
        "CREATE POLICY a ON a TO \"c d\", \"x\", \"b\", PUBLIC USING ((a = b));");
  CHECK(renamed("CREATE USER MAPPING FOR a SERVER a OPTIONS (\"user\" 'a');") ==
        "CREATE USER MAPPING FOR \"b\" SERVER a OPTIONS (\"user\" 'a');");
  CHECK(renamed("CREATE USER MAPPING FOR public SERVER a;") == "CREATE USER MAPPING FOR public SERVER a;");
  CHECK(renamed("CREATE FUNCTION a() RETURNS text\n    LANGUAGE sql\n    SET role TO 'A \"x'\n    AS $$ SET "
                "role TO "
                "'a' $$;") ==
        "CREATE FUNCTION a() RETURNS text\n    LANGUAGE sql\n    SET role TO 'it''s'\n    AS $$ SET role TO "
        "'a' $$;");
  CHECK(renamed("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET role TO 'none' AS '1';") ==
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET role TO 'none' AS '1';");
  CHECK(renamed("SET SESSION AUTHORIZATION a;\nGRANT ALL ON TABLE t TO b;\nRESET SESSION AUTHORIZATION;") ==
        "SET SESSION AUTHORIZATION \"b\";\nGRANT ALL ON TABLE t TO \"c d\";\nRESET SESSION AUTHORIZATION;");
  CHECK(renamed("GRANT ALL ON TABLE t TO CURRENT_USER;") == "GRANT ALL ON TABLE t TO CURRENT_USER;");
  CHECK(renamed("COMMENT ON TABLE a IS 'OWNER TO a';") == "COMMENT ON TABLE a IS 'OWNER TO a';");
  CHECK_THROWS_WITH(renamed("ALTER TABLE t OWNER TO p;"),
                    "role p can't be brought to the other side: its name is that of public_ there");
}

TEST_CASE("a map of roles is one to one, has an inverse, and comes back from its record") {
  using replication::catalog::RoleMap;
  using Names = std::map<std::string, std::string>;
  const RoleMap map({{"a", "b"}, {"b", "a"}, {"x", "y"}, {"same", "same"}});
  CHECK(map.at("a") == "b");
  CHECK(map.at("b") == "a");
  CHECK(map.at("z") == "z");
  CHECK(map.at("same") == "same");
  CHECK_FALSE(map.find("y"));
  CHECK(map.inverse().at("y") == "x");
  CHECK_FALSE(map.inverse().find("x"));
  CHECK(map.inverse().inverse() == map);
  CHECK(map.flat() == R"({"a","b","b","a","x","y"})");
  CHECK(RoleMap::from_flat({"a", "b", "b", "a", "x", "y"}) == map);
  CHECK(map.arrays().first == R"({"a","b","x","y"})");
  CHECK(map.arrays().second == R"({"b","a","y",""})");
  CHECK(RoleMap().flat() == "{}");
  CHECK_THROWS_AS(RoleMap(Names{{"a", "a"}, {"b", "a"}}), replication::base::UsageError);
  CHECK_THROWS_AS(RoleMap(Names{{"a", std::string(64, 'x')}}), replication::base::UsageError);
  CHECK_THROWS_AS(RoleMap(Names{{"a", "public"}}), replication::base::UsageError);
}

}  // namespace
