// Names, shapes and constraints.
#include "tests/integration/known_bugs/world.h"

namespace known_bugs {

std::vector<Case> tables() {
  return {
      {"tables and columns with quotes, backslashes, dots and spaces; a name that is itself quoted "
       "(Debezium)",
       R"(CREATE TABLE "back\slash" ("id\" int PRIMARY KEY, "\" text); CREATE TABLE "a.b" ("c.d" int PRIMARY KEY, " " text);
          CREATE TABLE "Qu""ot'ed" ("""quoted""" int PRIMARY KEY, "it's" text, "$1" text, "%I" text, "é☃" int);
          CREATE TABLE "keyless ""\" ("\\" int, """" text); CREATE TABLE "{" ("," int PRIMARY KEY, "}" text, "(" int))",
       {R"(INSERT INTO "back\slash" VALUES ($n, 'a'), ($n + 1, 'b'); UPDATE "back\slash" SET "\" = 'x' WHERE "id\" = $n)",
        R"(INSERT INTO "a.b" VALUES ($n, 'a'); UPDATE "a.b" SET "c.d" = $n + 1 WHERE "c.d" = $n)",
        R"(INSERT INTO "Qu""ot'ed" VALUES ($n, 'a', 'b', 'c', 1); UPDATE "Qu""ot'ed" SET "it's" = '''', "é☃" = 2)",
        R"(INSERT INTO "keyless ""\" VALUES (1, '"'), (1, '"'), (2, '\'); DELETE FROM "keyless ""\" WHERE ctid = (SELECT
           min(ctid) FROM "keyless ""\"); UPDATE "keyless ""\" SET """" = 'z' WHERE "\\" = 2)",
        R"(INSERT INTO "{" VALUES ($n, ',', 1), ($n + 1, '{', 2); DELETE FROM "{" WHERE "," = $n)"}},
      {"columns that are named like what statements use themselves",
       "CREATE TABLE t (t int PRIMARY KEY, u int, n int, o int, x int, r int, removed int, id int, v text); "
       "CREATE TABLE "
       "u (t int, u int, n int, o int, x int, r int, removed int); CREATE TABLE removed (r int, t int UNIQUE "
       "DEFERRABLE "
       "NOT NULL); CREATE TABLE \"select\" (\"order\" int PRIMARY KEY, \"group\" int, \"user\" int, "
       "\"default\" int, \"ONLY\" "
       "int); CREATE TABLE pgcutover (marker int PRIMARY KEY, pg_catalog int, old int, new int)",
       {"INSERT INTO t SELECT $n + g, g, g, g, g, g, g, g, 'v' FROM generate_series(1, 4) g; INSERT INTO u "
        "SELECT 1, 2, 3, 4, "
        "5, 6, $n FROM generate_series(1, 3); INSERT INTO removed VALUES (1, $n), (2, $n + 1); INSERT INTO "
        "\"select\" VALUES "
        "($n, 1, 2, 3, 4); INSERT INTO pgcutover VALUES ($n, 1, 2, 3)",
        "UPDATE t SET r = -r, t = t + 50 WHERE t > $n + 2; UPDATE t SET u = 0, removed = 7",
        "UPDATE u SET x = 0 WHERE ctid = (SELECT min(ctid) FROM u WHERE removed = $n); DELETE FROM u WHERE "
        "ctid = (SELECT "
        "max(ctid) FROM u WHERE removed = $n)",
        "UPDATE removed SET t = t + 1; UPDATE \"select\" SET \"default\" = \"order\"; UPDATE pgcutover SET "
        "old = new",
        "DELETE FROM t WHERE t = $n + 1; DELETE FROM removed WHERE t = $n + 1"}},
      {"a table without columns, one with none but generated or dropped ones (PostgreSQL 15.6)",
       "CREATE TABLE z (); CREATE TABLE d (a int); INSERT INTO d VALUES (1), (2); ALTER TABLE d DROP COLUMN "
       "a; INSERT INTO z "
       "DEFAULT VALUES; CREATE TABLE g (a int GENERATED ALWAYS AS (42) STORED)",
       {"INSERT INTO z DEFAULT VALUES; INSERT INTO z DEFAULT VALUES; INSERT INTO g DEFAULT VALUES",
        "INSERT INTO d DEFAULT VALUES",
        "DELETE FROM z WHERE ctid = (SELECT min(ctid) FROM z); DELETE FROM d WHERE ctid = (SELECT max(ctid) "
        "FROM d)",
        "INSERT INTO d DEFAULT VALUES; INSERT INTO d DEFAULT VALUES"}},
      {"tables that are only a key",
       "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE two (a int, b text, PRIMARY KEY (b, a)); CREATE "
       "TABLE i (id int "
       "GENERATED ALWAYS AS IDENTITY PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9)",
       {"UPDATE t SET id = id",
        "UPDATE t SET id = -id WHERE id = (SELECT max(id) FROM t); INSERT INTO t VALUES ($n)",
        "INSERT INTO two VALUES ($n, 'a'), ($n, 'b'); UPDATE two SET b = 'c' WHERE a = $n AND b = 'a'; "
        "INSERT INTO i DEFAULT "
        "VALUES",
        "DELETE FROM two WHERE b = 'b'; UPDATE two SET a = a; DELETE FROM t WHERE id = $n; INSERT INTO t "
        "VALUES ($n)"}},
      {"a key of 32 columns",
       "DO $d$ BEGIN EXECUTE (SELECT 'CREATE TABLE t (' || string_agg('k' || g || CASE g % 3 WHEN 0 THEN ' "
       "int' WHEN 1 THEN ' "
       "text' ELSE ' numeric' END, ', ') || ', v int, PRIMARY KEY (' || string_agg('k' || g, ', ' ORDER BY "
       "-g) || '))' FROM "
       "generate_series(1, 32) g); EXECUTE (SELECT 'INSERT INTO t SELECT ' || string_agg('r', ', ') || ', 0 "
       "FROM "
       "generate_series(1, 9) r' FROM generate_series(1, 32) g); END $d$",
       {"UPDATE t SET v = v + $n",
        "UPDATE t SET k7 = 'x$n', k8 = k8 * 1.0 WHERE k3 < 4; DELETE FROM t WHERE k3 = 9",
        "INSERT INTO t SELECT * FROM t WHERE false; UPDATE t SET k32 = k32 + 1"}},
      {"1,600 columns, with and without a key",
       "DO $d$ BEGIN EXECUTE (SELECT 'CREATE TABLE t (c0 int PRIMARY KEY, ' || string_agg('c' || g || ' "
       "int', ', ') || ')' FROM "
       "generate_series(1, 1599) g); EXECUTE 'CREATE TABLE k AS SELECT * FROM t'; EXECUTE 'INSERT INTO t "
       "(c0, c1599) SELECT g, g "
       "FROM generate_series(1, 5) g'; EXECUTE 'INSERT INTO k SELECT * FROM t'; END $d$",
       {"UPDATE t SET c1599 = $n, c0 = c0 + $n",
        "UPDATE k SET c7 = $n WHERE c0 < 4; INSERT INTO k (c3) VALUES ($n), ($n)",
        "DELETE FROM k WHERE ctid = (SELECT max(ctid) FROM k)"}},
      {"foreign keys to itself and in a circle, checked at the end",
       "CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t ON DELETE CASCADE); CREATE TABLE a (id "
       "int PRIMARY KEY, b "
       "int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE INITIALLY DEFERRED); ALTER "
       "TABLE a ADD FOREIGN "
       "KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED",
       {"INSERT INTO t SELECT $n + g, NULLIF($n + g / 2, $n) FROM generate_series(1, 20) g; DELETE FROM t "
        "WHERE id = $n + 2",
        "INSERT INTO a VALUES ($n, $n); INSERT INTO b VALUES ($n, $n)",
        "UPDATE t SET parent = id WHERE parent IS NULL",
        "UPDATE a SET b = NULL WHERE id = $n; DELETE FROM b WHERE id = $n; INSERT INTO b VALUES ($n + 1, "
        "$n)"}},
      {"unique values change hands in one transaction, in a ring",
       "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, big text); INSERT INTO t SELECT g, g, repeat('b', "
       "9000) FROM "
       "generate_series(1, 12) g; ALTER TABLE t ALTER big SET STORAGE EXTERNAL; UPDATE t SET big = big || id",
       {"UPDATE t SET u = -1 WHERE id = 1; UPDATE t SET u = u - 1 WHERE id = 2; UPDATE t SET u = 2 WHERE id "
        "= 3; UPDATE t SET u = 3 "
        "WHERE id = 1",
        "UPDATE t SET u = -u; UPDATE t SET u = CASE id WHEN 1 THEN 1 WHEN 2 THEN 2 WHEN 3 THEN 3 ELSE -u END",
        "DELETE FROM t WHERE id = 5; INSERT INTO t VALUES (1000 + $n, 5, '$n'); UPDATE t SET u = 100000 + $n "
        "WHERE id = 1000 + $n; "
        "INSERT INTO t VALUES (5, 5, 'five')"}},
      {"partial and expression uniques and exclusion change hands in one batch",
       "CREATE TABLE p (id int PRIMARY KEY, v text, active boolean); CREATE UNIQUE INDEX ON p (v) WHERE "
       "active; CREATE UNIQUE "
       "INDEX ON p (lower(v), (id / 1000)) WHERE NOT active; CREATE TABLE x (id int PRIMARY KEY, room int, "
       "at int4range, EXCLUDE "
       "USING gist (room WITH =, at WITH &&)); INSERT INTO p VALUES (1, 'a', true), (2, 'a', false); INSERT "
       "INTO x VALUES (1, 1, "
       "'[1,5)'), (2, 1, '[5,9)')",
       {"UPDATE p SET active = false WHERE id = 1 AND $n < 0; DELETE FROM p WHERE id = 2; UPDATE p SET "
        "active = false WHERE id = 1; "
        "INSERT INTO p VALUES (2, 'a', true)",
        "UPDATE p SET v = 'b' WHERE id = 2; UPDATE p SET active = true WHERE id = 1; UPDATE p SET active = "
        "false, v = 'A' WHERE id = "
        "2; INSERT INTO p VALUES ($n, 'n$n', true)",
        "UPDATE x SET at = '[20,25)' WHERE id = 1; UPDATE x SET at = '[1,5)' WHERE id = 2; UPDATE x SET at = "
        "'[5,9)' WHERE id = 1",
        "UPDATE x SET room = $n WHERE id = 2; UPDATE x SET at = '[1,5)' WHERE id = 1; UPDATE x SET room = 1, "
        "at = '[5,9)' WHERE id = "
        "2; INSERT INTO x VALUES ($n, $n, 'empty')"}},
      {"NULLS NOT DISTINCT: the one NULL changes hands",
       "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE NULLS NOT DISTINCT); INSERT INTO t VALUES (1, "
       "NULL), (2, 2), (3, 3)",
       {"UPDATE t SET u = 1 WHERE id = 1; UPDATE t SET u = NULL WHERE id = 2; INSERT INTO t VALUES ($n, $n)",
        "UPDATE t SET u = 2 WHERE id = 2; UPDATE t SET u = NULL WHERE id = 1"},
       15},
      {"a key that is DEFERRABLE, shifted by one, duplicated on the way",
       "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text); INSERT INTO t SELECT g, "
       "'v' || g FROM "
       "generate_series(1, 9) g",
       {"UPDATE t SET id = id + 1", "UPDATE t SET id = id - 1; UPDATE t SET v = '$n' WHERE id = 3",
        "INSERT INTO t VALUES (3, 'twin'); UPDATE t SET id = 1000 + $n WHERE id = 3 AND v = '$n'; DELETE "
        "FROM t WHERE id = 4; UPDATE t "
        "SET id = 4 WHERE id = 9; INSERT INTO t VALUES (9, 'nine')"}},
      {"a row that violates a check and a foreign key that are NOT VALID",
       "CREATE TABLE ref (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, n int, r int); INSERT "
       "INTO t VALUES (1, -5, 77), "
       "(2, 1, NULL); ALTER TABLE t ADD CHECK (n > 0) NOT VALID, ADD FOREIGN KEY (r) REFERENCES ref NOT "
       "VALID",
       {"DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES ($n, 1, NULL); UPDATE t SET n = n + 1",
        "--\nALTER TABLE t DISABLE TRIGGER ALL\nINSERT INTO t VALUES ($n + 1, 1, 888)\nALTER TABLE t ENABLE "
        "TRIGGER ALL"}},
      {"rules and triggers that write elsewhere are not run a second time",
       "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE log (what text); CREATE RULE r AS ON INSERT "
       "TO t DO ALSO INSERT INTO "
       "log VALUES ('rule'); CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SET search_path FROM "
       "CURRENT AS $f$ BEGIN "
       "INSERT INTO log VALUES (TG_OP || TG_LEVEL); NEW.v := NEW.v * 10; RETURN NEW; END $f$; CREATE TRIGGER "
       "tr BEFORE UPDATE ON t "
       "FOR EACH ROW EXECUTE FUNCTION touch(); CREATE TRIGGER ts AFTER DELETE ON t FOR EACH STATEMENT "
       "EXECUTE FUNCTION "
       "suppress_redundant_updates_trigger(); ALTER TABLE t DISABLE TRIGGER ts",
       {"INSERT INTO t VALUES ($n, 1), ($n + 1, 2)", "UPDATE t SET v = v + 1 WHERE id = $n",
        "DELETE FROM t WHERE id = $n + 1"}},
  };
}

}  // namespace known_bugs
