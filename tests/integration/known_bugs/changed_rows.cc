// What happens to rows: unchanged values, keys, identities, TRUNCATE, equal rows, partitions, transactions.
#include "tests/integration/known_bugs/world.h"

namespace known_bugs {

std::vector<Case> changed_rows() {
  return {
      {"an unchanged large value of a row that the same batch inserted (ingestr 805, PeerDB 3790)",
       "CREATE TABLE t (id int PRIMARY KEY, n int, big text, small text);"
       "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
       {"INSERT INTO t VALUES ($n, 0, repeat('a', 9000), 's'), ($n + 1, 0, repeat('b', 9000), 's')",
        "UPDATE t SET n = n + 1 WHERE id >= $n",
        "INSERT INTO t VALUES ($n + 2, 0, repeat('c', 9000), NULL); UPDATE t SET n = 5, small = 'x' WHERE id "
        "= "
        "$n + 2; UPDATE t SET n = 6 WHERE id = $n + 2; DELETE FROM t WHERE id = $n + 1; INSERT INTO t VALUES "
        "($n "
        "+ 1, 7, repeat('d', 9000), 's'); UPDATE t SET n = 8 WHERE id = $n + 1"}},
      {"an unchanged large value under REPLICA IDENTITY FULL (xtdb 5542, materialize 8371, spice 11293)",
       "CREATE TABLE t (id int PRIMARY KEY, n int, big text); CREATE TABLE k (n int, big text);"
       "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE k REPLICA IDENTITY FULL; ALTER TABLE t ALTER big "
       "SET "
       "STORAGE EXTERNAL; ALTER TABLE k ALTER big SET STORAGE EXTERNAL;"
       "INSERT INTO t SELECT g, 0, repeat(md5(g::text), 300) FROM generate_series(1, 5) g;"
       "INSERT INTO k SELECT 0, repeat(md5((g / 2)::text), 300) FROM generate_series(1, 5) g",
       {"UPDATE t SET n = $n", "UPDATE k SET n = $n",
        "INSERT INTO k VALUES ($n + 1, repeat('z', 9000)); UPDATE k SET n = n + 1 WHERE n > $n",
        "UPDATE t SET id = id + 1000 WHERE id = (SELECT max(id) FROM t)",
        "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k)"}},
      {"an unchanged large value of a row whose key changes (Debezium, reselect after a key change)",
       "CREATE TABLE t (id int PRIMARY KEY, n int, big text, list numeric[], doc jsonb);"
       "ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t ALTER list SET STORAGE EXTERNAL;"
       "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL;"
       "INSERT INTO t SELECT g, g, repeat(md5(g::text), 200), (SELECT array_agg(i / 7.0) FROM "
       "generate_series(1, 900) i), (SELECT jsonb_object_agg(i::text, md5(i::text)) FROM generate_series(1, "
       "200) "
       "i) FROM generate_series(1, 9) g",
       {"UPDATE t SET id = id + $n WHERE n < 5", "UPDATE t SET n = -n WHERE n >= 5",
        "UPDATE t SET id = -id WHERE n IN (1, 2); UPDATE t SET id = 7 - id WHERE n IN (1, 2)",
        "UPDATE t SET n = -n WHERE n < -4"}},
      {"a large value that is the key (identity sent because it is stored outside the row)",
       "CREATE TABLE t (k text PRIMARY KEY, v int); ALTER TABLE t ALTER k SET STORAGE EXTERNAL;"
       "INSERT INTO t SELECT left(repeat(md5(g::text), 80), 2300), g FROM generate_series(1, 6) g",
       {"UPDATE t SET v = v + $n", "UPDATE t SET k = left(k, 2290) || 'r$n' WHERE v % 2 = 0",
        "DELETE FROM t WHERE v = (SELECT max(v) FROM t)", "INSERT INTO t VALUES (repeat('$n', 700), 0)"}},
      {"a value that reads 'unchanged-toast-datum' (pgcopydb 350, 710, 877)",
       "CREATE TABLE t (id int PRIMARY KEY, v text, n int)",
       {"INSERT INTO t VALUES ($n, 'unchanged-toast-datum', 0)", "UPDATE t SET n = 1 WHERE id = $n"}},
      {"SET id = DEFAULT of an identity ALWAYS column (pgcopydb 844, 941, 976; pgstream 753)",
       "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, big text);"
       "CREATE TABLE o (k int PRIMARY KEY, id int GENERATED ALWAYS AS IDENTITY UNIQUE, v text);"
       "CREATE TABLE k (id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT -2), v text);"
       "INSERT INTO t (v) SELECT 'v' FROM generate_series(1, 5); INSERT INTO o SELECT g FROM "
       "generate_series(1, "
       "5) g; INSERT INTO k (v) SELECT 'v' FROM generate_series(1, 5) g",
       {"INSERT INTO t (v, big) VALUES ('a$n', repeat('x', 9000)); INSERT INTO k (v) VALUES ('b')",
        "UPDATE t SET id = DEFAULT WHERE id = (SELECT max(id) FROM t)",
        "UPDATE o SET id = DEFAULT, v = '$n' WHERE k IN (2, 3); UPDATE t SET v = 'w$n' WHERE id = (SELECT "
        "max(id) "
        "FROM t)",
        "UPDATE k SET id = DEFAULT WHERE ctid = (SELECT min(ctid) FROM k)",
        "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (-$n, 'own')"}},
      {"generated columns between others (pgcopydb 496, 664; pglogical 466)",
       "CREATE TABLE t (a int GENERATED ALWAYS AS (id * 2) STORED, id int PRIMARY KEY, v text, b text "
       "GENERATED "
       "ALWAYS AS (upper(v)) STORED, w text); INSERT INTO t (id, v) VALUES (1, 'x'), (2, NULL)",
       {"INSERT INTO t (id, v, w) VALUES ($n, 'new', 'w'), ($n + 1, NULL, NULL)",
        "UPDATE t SET v = 'y$n' WHERE id < 3; UPDATE t SET id = id + 50 WHERE id = $n",
        "DELETE FROM t WHERE id = $n + 1; UPDATE t SET w = NULL WHERE id > 3"}},
      {"generated columns under FULL, with and without a key",
       "CREATE TABLE k (a int, g int GENERATED ALWAYS AS (a + 1) STORED, b text); CREATE TABLE t (id int "
       "PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED, b text); ALTER TABLE t REPLICA IDENTITY "
       "FULL; INSERT INTO k (a, b) SELECT g % 3, 'x' FROM generate_series(1, 9) g; INSERT INTO t (id) SELECT "
       "generate_series(1, 9)",
       {"UPDATE k SET b = '$n' WHERE ctid = (SELECT min(ctid) FROM k); UPDATE t SET b = '$n', id = id + $n",
        "DELETE FROM k WHERE ctid = (SELECT max(ctid) FROM k)"}},
      {"TRUNCATE ONLY of a partition and of a parent (pgcopydb 700, 856, 949)",
       "CREATE TABLE p (id int, r text) PARTITION BY LIST (r); CREATE TABLE p_a PARTITION OF p FOR VALUES IN "
       "('a'); CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b'); CREATE TABLE p_rest PARTITION OF p "
       "DEFAULT;"
       "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);"
       "INSERT INTO p SELECT g, chr(96 + g % 3 + 1) FROM generate_series(1, 30) g",
       {"INSERT INTO parent VALUES ($n); INSERT INTO child VALUES ($n), ($n + 1)", "TRUNCATE ONLY p_b",
        "INSERT INTO p VALUES ($n, 'b'), ($n + 1, 'z')", "TRUNCATE ONLY parent",
        "TRUNCATE p_a; INSERT INTO p VALUES ($n, 'a')",
        "TRUNCATE p; INSERT INTO p VALUES ($n + 2, 'a'), ($n, 'q')", "INSERT INTO parent VALUES ($n + 9)"}},
      {"TRUNCATE of several tables, CASCADE, RESTART IDENTITY, rolled back in part",
       "CREATE TABLE a (id serial PRIMARY KEY); CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY PRIMARY "
       "KEY, "
       "a int REFERENCES a); CREATE TABLE c (b int REFERENCES b); CREATE TABLE other (id int PRIMARY KEY);"
       "INSERT INTO a SELECT FROM generate_series(1, 9); INSERT INTO b (a) SELECT id FROM a;"
       "INSERT INTO c SELECT id FROM b",
       {"INSERT INTO other VALUES ($n)", "TRUNCATE a, other RESTART IDENTITY CASCADE",
        "INSERT INTO a SELECT FROM generate_series(1, 5); INSERT INTO b (a) SELECT id FROM a",
        "--\nBEGIN\nINSERT INTO other VALUES ($n + 1)\nSAVEPOINT s\nTRUNCATE other, c\nROLLBACK TO "
        "s\nINSERT INTO other VALUES ($n + 2)\nTRUNCATE c\nINSERT INTO c SELECT id FROM b\nCOMMIT"}},
      {"TRUNCATE of a large table, and under session_replication_role (pglogical 207, 327)",
       "CREATE TABLE l (id int PRIMARY KEY, v text); CREATE TABLE r (id int PRIMARY KEY);"
       "INSERT INTO l SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g",
       {"TRUNCATE l", "INSERT INTO l SELECT g, repeat('y', 100) FROM generate_series(1, 3000 + $n) g",
        "--\nSET session_replication_role = replica\nINSERT INTO r VALUES ($n)\nTRUNCATE r, l\n"
        "INSERT INTO r VALUES ($n + 1)",
        "INSERT INTO l SELECT g, repeat('z', 100) FROM generate_series(1, 3000 + $n) g"}},
      {"a trigger that handles an exception, ENABLE ALWAYS (PostgreSQL 100_bugs: origin reset)",
       "CREATE TABLE log (what text, at int); CREATE TABLE t (id int PRIMARY KEY, v int);"
       "CREATE FUNCTION caught() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $f$ BEGIN "
       "BEGIN "
       "PERFORM 1 / (NEW.v - NEW.v); EXCEPTION WHEN division_by_zero THEN INSERT INTO log VALUES ('caught', "
       "NEW.id); END; RETURN NEW; END $f$;"
       "CREATE TRIGGER tr BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION caught();"
       "ALTER TABLE t ENABLE ALWAYS TRIGGER tr; INSERT INTO t VALUES (1, 1)",
       {"INSERT INTO t VALUES ($n, 1), ($n + 1, 2)", "UPDATE t SET v = v + 1"}},
      {"columns added with a constant default, rows never rewritten, under FULL (PostgreSQL 15.6)",
       "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT g % 3, 'b' "
       "FROM "
       "generate_series(1, 12) g; ALTER TABLE t ADD COLUMN d int DEFAULT 5, ADD COLUMN e text DEFAULT 'x y', "
       "ADD "
       "COLUMN f int[] NOT NULL DEFAULT '{1,NULL}'; CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k "
       "VALUES (1), "
       "(2); ALTER TABLE k ADD COLUMN d int DEFAULT 5",
       {"UPDATE t SET b = '$n' WHERE ctid = (SELECT min(ctid) FROM t WHERE d = 5 AND a = 1)",
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 2)", "UPDATE k SET id = id + $n",
        "UPDATE t SET d = DEFAULT, e = NULL WHERE a = 0; INSERT INTO t (a) VALUES (2)"}},
      {"dropped columns under FULL (PostgreSQL 15.3)",
       "CREATE TABLE t (gone int, a int, b text, gone2 text, c int); ALTER TABLE t REPLICA IDENTITY FULL;"
       "INSERT INTO t SELECT 1, g, 'b', 'x', g FROM generate_series(1, 5) g; ALTER TABLE t DROP COLUMN gone, "
       "DROP "
       "COLUMN gone2; INSERT INTO t VALUES (6, 'n', 6)",
       {"UPDATE t SET c = $n WHERE a % 2 = 0",
        "DELETE FROM t WHERE a = 1; INSERT INTO t VALUES (1, '$n', NULL)"}},
      {"equal rows under FULL (walshadow 114)",
       "CREATE TABLE t (a int, b text); CREATE TABLE nulls (a int, b text); INSERT INTO t SELECT 1, 'x' FROM "
       "generate_series(1, 10); INSERT INTO nulls SELECT NULL FROM generate_series(1, 10)",
       {"INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, 'x')",
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)",
        "UPDATE t SET b = 'y' WHERE ctid IN (SELECT ctid FROM t WHERE b = 'x' LIMIT 2)",
        "UPDATE t SET b = 'x' WHERE ctid IN (SELECT ctid FROM t WHERE b = 'y' LIMIT 1); INSERT INTO t VALUES "
        "(1, "
        "'y'); DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE b = 'y' LIMIT 1)",
        "UPDATE nulls SET a = $n WHERE ctid = (SELECT min(ctid) FROM nulls WHERE a IS NULL)",
        "DELETE FROM nulls WHERE a = $n; INSERT INTO nulls VALUES (NULL, NULL), (NULL, '')"}},
      {"equal rows whose arrays and numbers were computed, not read (their images differ, their text "
       "doesn't)",
       "CREATE TABLE t (a int[], f float8, v int); INSERT INTO t SELECT '{NULL,2}', 0, g FROM "
       "generate_series(1, 30) "
       "g; UPDATE t SET a[1] = 1, f = 'inf'::float8 - 'inf'::float8",
       {"UPDATE t SET v = v + 1000 WHERE v = (SELECT min(v) FROM t)",
        "DELETE FROM t WHERE v = (SELECT min(v) FROM t)",
        "INSERT INTO t VALUES ('{NULL,3}', 1, $n + 5000); UPDATE t SET a[1] = 1, f = f - 1 WHERE v = $n + "
        "5000",
        "UPDATE t SET f = -f WHERE v = $n + 5000"}},
      {"REPLICA IDENTITY NOTHING: the application's own UPDATE doesn't fail (an outage elsewhere)",
       "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY NOTHING; CREATE TABLE k (id int "
       "PRIMARY KEY, v "
       "int); ALTER TABLE k REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (1, 'a'), (1, 'a'); INSERT INTO k "
       "VALUES "
       "(1, 1), (2, 2)",
       {"UPDATE t SET b = '$n' WHERE ctid = (SELECT min(ctid) FROM t)", "UPDATE k SET v = v + 1",
        "DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t); INSERT INTO t VALUES ($n, 'n'), ($n, 'n')"}},
      {"an index as identity, beside indexes with expressions and included columns (pgcopydb 946; 100_bugs)",
       "CREATE TABLE t (a int NOT NULL, b text NOT NULL, c text); CREATE UNIQUE INDEX t_i ON t (b, a) "
       "INCLUDE (c);"
       "CREATE UNIQUE INDEX t_e ON t ((a + 1), lower(b)); ALTER TABLE t REPLICA IDENTITY USING INDEX t_i;"
       "INSERT INTO t SELECT g, 'b' || g, 'c' FROM generate_series(1, 9) g",
       {"UPDATE t SET c = 'd$n'", "UPDATE t SET b = 'n' || b WHERE a < 4; DELETE FROM t WHERE a = 9",
        "INSERT INTO t VALUES (9, '$n', NULL)"}},
      {"several rows move between partitions in one statement, also without a key",
       "CREATE TABLE p (id int, r int, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r); CREATE TABLE p_0 "
       "PARTITION "
       "OF p FOR VALUES IN (0); CREATE TABLE p_1 (v text, gone int, r int NOT NULL, id int NOT NULL); ALTER "
       "TABLE p_1 "
       "DROP COLUMN gone; ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES IN (1); CREATE TABLE p_rest "
       "PARTITION OF p "
       "DEFAULT PARTITION BY HASH (id); CREATE TABLE p_r0 PARTITION OF p_rest FOR VALUES WITH (MODULUS 2, "
       "REMAINDER "
       "0); CREATE TABLE p_r1 PARTITION OF p_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
       "CREATE TABLE k (a int, v text) PARTITION BY RANGE (a); CREATE TABLE k_1 PARTITION OF k FOR VALUES "
       "FROM "
       "(MINVALUE) TO (50); CREATE TABLE k_2 PARTITION OF k FOR VALUES FROM (50) TO (MAXVALUE);"
       "INSERT INTO p SELECT g, g % 4, 'v' || g FROM generate_series(1, 40) g; INSERT INTO k SELECT g % 5, "
       "NULL FROM "
       "generate_series(1, 20) g",
       {"UPDATE p SET r = (r + 1) % 4", "UPDATE p SET r = 1 - r, v = 'm$n' WHERE r IN (0, 1)",
        "UPDATE p SET id = id + 1000 WHERE id = (SELECT min(id) FROM p)",
        "UPDATE k SET a = 100 - a WHERE a IN (1, 2, "
        "98, 99)",
        "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k_1) AND tableoid = 'k_1'::regclass"}},
      {"a transaction of 20,000 rows with savepoints that were rolled back",
       "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE k (id int, v text)",
       {"--\nBEGIN\nDELETE FROM t\nINSERT INTO t SELECT g, 'a' FROM generate_series(1, 10000) g\nSAVEPOINT "
        "a\nUPDATE t "
        "SET v = 'undone'\nDELETE FROM t WHERE id < 5000\nROLLBACK TO a\nINSERT INTO t SELECT g, 'b' FROM "
        "generate_series(10001, 20000) g\nSAVEPOINT b\nINSERT INTO k VALUES ($n, 'kept')\nRELEASE "
        "b\nSAVEPOINT "
        "c\nINSERT INTO k VALUES ($n, 'undone')\nROLLBACK TO c\nUPDATE t SET v = '$n' WHERE id % 7 = "
        "0\nCOMMIT",
        "--\nBEGIN\nINSERT INTO k VALUES ($n, 'never')\nROLLBACK"}},
      {"more subtransactions than a backend remembers (PostgreSQL 15.1: decoding from inside one)",
       "CREATE TABLE t (id int, v int)",
       {"DO $d$ BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO t VALUES (i, $n); IF i % 3 = 0 THEN RAISE "
        "EXCEPTION "
        "'undone'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $d$"}},
      {"transactions prepared, committed and rolled back in another order",
       "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')",
       {"--\nBEGIN\nINSERT INTO t VALUES ($n, 'first')\nPREPARE TRANSACTION 'first$n'\nBEGIN\nINSERT INTO t "
        "VALUES ($n "
        "+ 1, 'second')\nPREPARE TRANSACTION 'second$n'\nBEGIN\nINSERT INTO t VALUES ($n + 2, "
        "'never')\nPREPARE "
        "TRANSACTION 'third$n'\nUPDATE t SET v = '$n' WHERE id = 1\nCOMMIT PREPARED 'second$n'\nROLLBACK "
        "PREPARED "
        "'third$n'\nCOMMIT PREPARED 'first$n'\nUPDATE t SET v = v || 'x' WHERE id >= $n"}},
      {"rows of one COPY share a position in the WAL (Debezium dbz#1554)",
       "CREATE TABLE t (a int, b text)",
       {"COPY t (a, b) FROM PROGRAM 'seq 1 3000 | sed \"s/$/\\tcopied/\"'",
        "INSERT INTO t SELECT g, 'multi' FROM generate_series(1, 1000) g"}},
      {"what else is in the WAL: messages, VACUUM FULL, temporary tables, large objects",
       "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE MATERIALIZED "
       "VIEW m AS "
       "SELECT count(*) FROM t",
       {"--\nBEGIN\nSELECT pg_logical_emit_message(true, 'pgcutover', 'x')\nINSERT INTO t VALUES ($n, "
        "'a')\nSELECT pg_logical_emit_message(false, '', repeat('y', 10000))\nINSERT INTO t VALUES ($n + 1, "
        "'b')\nSELECT lo_unlink(lo_create(0))\nCOMMIT",
        "--\nBEGIN\nSELECT pg_logical_emit_message(true, 'alone', 'x')\nROLLBACK", "--\nVACUUM FULL t",
        "CREATE TEMPORARY TABLE tt AS SELECT * FROM t; UPDATE tt SET v = 'x'", "REFRESH MATERIALIZED VIEW m",
        "UPDATE t SET v = v || 'c' WHERE id >= $n"}},
  };
}

}  // namespace known_bugs
