// Values that arrive as others, and rows that aren't found again by them.
#include "tests/integration/known_bugs/world.h"

namespace known_bugs {

std::vector<Case> values() {
  return {
      {"text that looks like something else: null, \\N, \\., quotes, tabs (pgcopydb 933, 976-980)",
       "CREATE TABLE t (id int PRIMARY KEY, v text, w varchar(30)); CREATE TABLE k (v text)",
       {R"(INSERT INTO t SELECT $n + n, v, v FROM unnest(ARRAY['null', 'NULL', '\N', '', '"', '\', '\.', E'\t', E'\n\r\n',
           '''', '$1', '%s', '{}', '(,)', '()', ' ', E'\b\f\v', E'\\x41', ';--', 'true', 'é☃' || chr(65535), '{"a":NULL}'])
           WITH ORDINALITY AS x(v, n); INSERT INTO k SELECT v FROM t WHERE id > $n; INSERT INTO k VALUES (NULL))",
        "UPDATE t SET w = NULL WHERE v = 'null' AND id > $n; UPDATE t SET w = 'null' WHERE v = '' AND id > "
        "$n",
        R"(UPDATE k SET v = v || '\' WHERE ctid IN (SELECT ctid FROM k WHERE v IN ('\N', '\', '"') LIMIT 2))",
        R"(DELETE FROM k WHERE ctid IN (SELECT ctid FROM k WHERE v = '\.' OR v IS NULL LIMIT 2))"}},
      {"float precision and negative zero (pgcopydb 976-980)",
       "CREATE TABLE t (f float8 PRIMARY KEY, s real, v int); CREATE TABLE k (f float8, s real, v int)",
       {"INSERT INTO t VALUES (0.1 + 0.2 + $n, 1e-40, 0), (1.0 / 3 + $n, 16777217, 0), (1e308 / $n, -0.0, "
        "0), ($n * "
        "2.2250738585072014e-308, 'NaN', 0)",
        "INSERT INTO k VALUES ('-0', '-0', $n), ('0', '0', $n), ('NaN', 'NaN', $n), ('Infinity', "
        "'-Infinity', $n)",
        "UPDATE t SET v = $n", "UPDATE k SET v = v + 1 WHERE f::text = '-0'",
        "DELETE FROM k WHERE s::text = '0'",
        "UPDATE k SET v = v + 1 WHERE f = 'NaN'; UPDATE k SET f = -f WHERE f::text = '-0'"}},
      {"numeric scale, also in a key",
       "CREATE TABLE t (k numeric PRIMARY KEY, v numeric, w numeric(20, 5)); CREATE TABLE f (v numeric)",
       {"INSERT INTO t VALUES ($n.10, 1.000, 1), ($n.2, 1e300, 'NaN'), ($n.30000, -0.0, 0.00001)",
        "UPDATE t SET v = v * 1.0 WHERE k = $n.1; UPDATE t SET k = 1.00 * k WHERE k = $n.2; DELETE FROM t "
        "WHERE k = "
        "$n.3; INSERT INTO t VALUES ($n.3, 0.10, NULL)",
        "INSERT INTO f VALUES (1.0), (1.00), (1), (1.000)",
        "DELETE FROM f WHERE ctid = (SELECT min(ctid) FROM f WHERE v::text = '1.00')",
        "UPDATE f SET v = 2.50 WHERE ctid = (SELECT min(ctid) FROM f WHERE v::text = '1')"}},
      {"numeric infinity",
       "CREATE TABLE t (k numeric PRIMARY KEY, v numeric)",
       {"INSERT INTO t VALUES ($n, 'Infinity'), ($n + 1, '-Infinity')", "UPDATE t SET v = -v"},
       14},
      {"times at the edge: 24:00, infinity, years BC, intervals that are equal and differ",
       "CREATE TABLE t (id int PRIMARY KEY, a timetz, b time, c timestamp, d timestamptz, e date, f "
       "interval, g "
       "interval second(2)); CREATE TABLE k (f interval, a timetz)",
       {"INSERT INTO t VALUES ($n, '24:00:00+05:30', '24:00', 'infinity', '-infinity', '4713-01-01 BC', '1 "
        "mon', '1.005 "
        "s'), ($n + 1, '24:00:00-15:59:59', '23:59:59.999999', '0044-03-15 12:00 BC', '0001-12-31 "
        "23:59:59.999999+00 BC', "
        "'5874897-12-31', '-1 mon +30 days -24:00:00.000001', '0'), ($n + 2, '00:00+00', '0:0', "
        "'294276-12-31 "
        "23:59:59.999999', '1900-01-01 00:00:00 Europe/Amsterdam', 'infinity', '178000000 years', NULL)",
        "INSERT INTO k VALUES ('1 mon', '12:00+01'), ('30 days', '11:00+00'), ('720:00', '24:00+00'), ('29 "
        "days 24:00', "
        "'23:00-01')",
        "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k WHERE f::text = '30 days')",
        "UPDATE k SET a = '01:00' WHERE ctid = (SELECT min(ctid) FROM k WHERE f::text = '720:00:00')",
        "UPDATE t SET f = f * 2, b = '12:00' WHERE id >= $n AND id < $n + 2"}},
      {"intervals without end",
       "CREATE TABLE t (id int PRIMARY KEY, i interval)",
       {"INSERT INTO t VALUES ($n, 'infinity'), ($n + 1, '-infinity')", "UPDATE t SET i = -i"},
       17},
      {"money fractions (Debezium)",
       "CREATE TABLE t (id int PRIMARY KEY, m money); CREATE TABLE k (m money)",
       {"INSERT INTO t VALUES ($n, 1234567.89), ($n + 1, -0.01), ($n + 2, '-92233720368547758.08'); INSERT "
        "INTO k VALUES "
        "(0.10), (0.1), (0.11)",
        "UPDATE t SET m = m / 3 WHERE id = $n", "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k)"}},
      {"arrays with bounds, of several dimensions, empty, of NULLs and of the text NULL",
       "CREATE TYPE pair AS (x int, y text); CREATE DOMAIN pos AS int CHECK (VALUE > 0); CREATE DOMAIN ints "
       "AS int[];"
       "CREATE TABLE t (id int PRIMARY KEY, a int[], b text[], c pair[], d ints, e pos[]); CREATE TABLE k (a "
       "text[])",
       {R"(INSERT INTO t VALUES ($n, '[0:2]={1,NULL,3}', '{NULL,"NULL","","a,b","\"q\"","\\","{}"," x "}',
           ARRAY[ROW(1, 'a,"b\'), ROW(NULL, NULL), NULL]::pair[], '[-2:-1][3:4]={{1,2},{3,4}}', '{1,NULL}'),
           ($n + 1, '{}', '{}', '{}', '{}', '{}'), ($n + 2, '{{{1}},{{2}}}', '{{a,NULL}}', NULL, NULL, NULL))",
        R"(INSERT INTO k VALUES ('{NULL}'), ('{"NULL"}'), ('[2:2]={NULL}'), ('{}'), (NULL))",
        R"(DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k WHERE a::text = '{"NULL"}'))",
        "UPDATE k SET a = '{x}' WHERE ctid = (SELECT min(ctid) FROM k WHERE a::text = '[2:2]={NULL}')",
        "UPDATE t SET a[7] = 7, b[2] = NULL, d = NULL WHERE id = $n; UPDATE t SET c = c || ROW(5, "
        "'$n')::pair WHERE id = $n "
        "+ 1"}},
      {"a composite that is NULL and one whose fields all are",
       "CREATE TYPE pair AS (x int, y text); CREATE TYPE outer_pair AS (p pair, n int); CREATE TABLE t (id "
       "int PRIMARY "
       "KEY, p pair, o outer_pair); CREATE TABLE k (p pair, o outer_pair)",
       {"INSERT INTO t VALUES ($n, NULL, NULL), ($n + 1, ROW(NULL, NULL), ROW(NULL, NULL)), ($n + 2, "
        "ROW(NULL, ''), "
        "ROW(ROW(NULL, NULL), NULL)); INSERT INTO k SELECT p, o FROM t WHERE id >= $n",
        "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k WHERE p::text = '(,)')",
        "UPDATE k SET o = NULL WHERE ctid = (SELECT min(ctid) FROM k WHERE p::text IS NULL)",
        "UPDATE t SET p = NULL WHERE p::text = '(,)'; UPDATE t SET p = ROW(NULL, NULL) WHERE id = $n"}},
      {"domains of domains, with functions that need a search_path (Debezium)",
       "CREATE TABLE allowed (v text PRIMARY KEY); INSERT INTO allowed VALUES ('a'), ('b');"
       "CREATE FUNCTION in_allowed(text) RETURNS boolean LANGUAGE sql SET search_path FROM CURRENT AS "
       "'SELECT $1 IN "
       "(SELECT v FROM allowed)'; CREATE FUNCTION short(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS "
       "'SELECT "
       "length($1) < 9'; CREATE DOMAIN one AS text CHECK (short(VALUE)); CREATE DOMAIN two AS one CHECK "
       "(in_allowed(VALUE)); CREATE DOMAIN three AS two NOT NULL DEFAULT 'a';"
       "CREATE TABLE t (id three, n int, l two[], PRIMARY KEY (id, n))",
       {"INSERT INTO t VALUES ('a', $n, '{a,b}'), ('b', $n, NULL)",
        "UPDATE t SET id = 'b', n = n + 1 WHERE id = 'a' AND n "
        "= $n; DELETE FROM t WHERE n = $n"}},
      {"odd labels of an enum, in keys and arrays",
       R"(CREATE TYPE e AS ENUM ('a', '', 'A', 'NULL', ' b ', '"', '\', '{', ',', 'it''s; --', 'é'); CREATE TABLE t (k e
          PRIMARY KEY, l e[], v int); INSERT INTO t SELECT x, ARRAY[x, NULL], 0 FROM unnest(enum_range(NULL::e)) x)",
       {"UPDATE t SET v = $n", R"(DELETE FROM t WHERE k IN ('', '"', 'NULL', '\'))",
        R"(INSERT INTO t SELECT x, enum_range(NULL::e), $n FROM unnest(ARRAY['', '"', 'NULL', '\']::e[]) x)"}},
      {"keys that are equal and differ: citext",
       "CREATE TABLE t (k citext PRIMARY KEY, v int); CREATE TABLE f (a citext, v int); INSERT INTO t SELECT "
       "'Key' || g, 0 "
       "FROM generate_series(1, 5) g",
       {"UPDATE t SET k = upper(k::text) WHERE k = 'kEY1'; UPDATE t SET v = $n WHERE k = 'KeY1'",
        "DELETE FROM t WHERE k = 'key2'; INSERT INTO t VALUES ('KEY2', $n)",
        "INSERT INTO t VALUES ('n$n', 0); UPDATE t SET k = 'N$n' WHERE k = 'n$n'; DELETE FROM t WHERE k = "
        "'N$n'; INSERT INTO "
        "t VALUES ('n$n', 1)",
        "UPDATE t SET k = 'key1' WHERE k = 'KEY1'; INSERT INTO f VALUES ('a', 1), ('A', 1), ('a', 1)",
        "UPDATE f SET v = 2 WHERE ctid = (SELECT min(ctid) FROM f WHERE a::text = 'A' AND v = 1)"}},
      {"keys that are equal and differ: a nondeterministic collation (PostgreSQL 012_collation)",
       "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE "
       "TABLE t (k text "
       "COLLATE ci PRIMARY KEY, v int, u text COLLATE ci UNIQUE); INSERT INTO t SELECT 'key' || g, 0, 'u' || "
       "g FROM "
       "generate_series(1, 5) g; CREATE TABLE f (k text COLLATE ci, v int); INSERT INTO f VALUES ('a', 1), "
       "('A', 1)",
       {"UPDATE t SET k = upper(k) WHERE k = 'KEY1'; UPDATE t SET v = $n WHERE k = 'kEy1'",
        "DELETE FROM t WHERE k = 'Key2'; INSERT INTO t VALUES ('KEY2', $n, 'U2')",
        "UPDATE t SET u = 'x' WHERE k = 'key3'; UPDATE t SET u = 'U3' WHERE k = 'key4'; UPDATE t SET u = "
        "'U4' WHERE k = "
        "'key3'; UPDATE t SET k = lower(k) WHERE k = 'KEY1'",
        "UPDATE t SET u = 'y' WHERE k = 'key3'; UPDATE t SET u = 'u4' WHERE k = 'key4'; UPDATE t SET u = "
        "'u3' WHERE k = "
        "'key3'",
        "UPDATE f SET v = v + 1 WHERE k COLLATE \"C\" = 'A'"}},
      {"char padding, \"char\", names, bits (values that comparison pads or cuts)",
       "CREATE TABLE t (k char(5) PRIMARY KEY, c \"char\", n name, b bit(3), vb varbit(9), o oid); CREATE "
       "TABLE f (k "
       "char(5), b varbit)",
       {"INSERT INTO t VALUES ('a', 'x', 'n', B'101', B'', 4294967295), (' $n', '', '', B'000', B'1', 0), "
        "('$n', E'\\n', "
        "repeat('n', 63), NULL, NULL, NULL)",
        "UPDATE t SET c = '\"' WHERE k = 'a'; UPDATE t SET k = 'b' WHERE k = 'a'; DELETE FROM t WHERE k = "
        "'b'",
        "INSERT INTO f VALUES ('a', B'1'), ('a ', B'10'), ('', B''), (NULL, NULL)",
        "DELETE FROM f WHERE ctid = (SELECT min(ctid) FROM f WHERE b = B'10')",
        "UPDATE f SET k = 'z' WHERE ctid = (SELECT min(ctid) FROM f WHERE b = B'')"}},
      {"types without equality under FULL: json, xml, points (native replication stops)",
       "CREATE TABLE t (j json, p point, b box, x text, q polygon, a json[]); INSERT INTO t SELECT '{\"a\" : "
       "1, \"a\":2}', "
       "'(1,2)', '(1,2),(3,4)', 'x', '((0,0),(1,1))', ARRAY['1'::json] FROM generate_series(1, 6)",
       {"UPDATE t SET x = '$n' WHERE ctid = (SELECT min(ctid) FROM t)",
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)",
        "INSERT INTO t VALUES ('{\"a\": 1}', '(1e300,-0)', NULL, '$n', NULL, '{}'), ('null', NULL, NULL, "
        "'$n', NULL, NULL)",
        "UPDATE t SET j = '{\"a\":1}' WHERE j::text = '{\"a\": 1}'; UPDATE t SET p = '(0,0)' WHERE x = '$n' "
        "AND p IS NULL"}},
      {"xml that is a document, xml that isn't, and xmloption set to document",
       "CREATE TABLE t (id int PRIMARY KEY, x xml); CREATE TABLE k (x xml, v int)",
       {"INSERT INTO t VALUES ($n, 'a<b/>c'), ($n + 1, '<!DOCTYPE a><a/>'), ($n + 2, '<?xml "
        "version=\"1.0\"?><a>é</a>'); "
        "INSERT INTO k SELECT x, $n FROM t WHERE id >= $n AND id <> $n + 1",
        "UPDATE k SET v = v + 1", "UPDATE t SET x = NULL WHERE id = $n + 1"}},
      {"json text, jsonb numbers and duplicate keys are kept",
       R"(CREATE TABLE t (id int PRIMARY KEY, j json, b jsonb, h hstore); CREATE TABLE k (b jsonb, h hstore))",
       {R"(INSERT INTO t VALUES ($n, ' { "b":1,  "a" : 1.10, "a":2 } ', '{"n": 1.10, "e": 1e3, "u": "\u0001\"\\", "z":
           null}', 'a=>NULL, b=>"NULL", "c,\""=>""'), ($n + 1, '"x"', 'null', ''))",
        R"(INSERT INTO k VALUES ('{"a": 1.0}', 'a=>1'), ('{"a": 1.00}', 'a=>1'), ('{"a": 1}', 'a=>1'))",
        R"(DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k WHERE b::text = '{"a": 1.00}'))",
        "UPDATE t SET b = jsonb_set(coalesce(b, '{}'), '{n}', '2.0') WHERE id = $n"}},
      {"ranges: empty, unbounded, of a subtype with its own comparison",
       "CREATE TYPE fr AS RANGE (subtype = float8); CREATE TABLE t (id int PRIMARY KEY, r int4range, n "
       "numrange, s "
       "tstzrange, f fr, e text, EXCLUDE USING gist (r WITH &&)); CREATE TABLE k (n numrange)",
       {"INSERT INTO t VALUES ($n, int4range($n, $n + 5, '(]'), '(1.0,1.10]', '[infinity,]', '[-0,0]', ''), "
        "($n + 1, 'empty', "
        "'empty', '(,)', '[NaN,]', '')",
        "UPDATE t SET r = int4range($n + 10, $n + 20) WHERE id = $n; INSERT INTO t (id, r) VALUES ($n + 2, "
        "int4range($n, $n + "
        "5))",
        "INSERT INTO k VALUES ('[1.0,2]'), ('[1.00,2]'), ('empty'), (NULL)",
        "DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k WHERE n::text = '[1.00,2]')"}},
      {"multiranges",
       "CREATE TABLE t (id int PRIMARY KEY, m int4multirange, n nummultirange); CREATE TABLE k (n "
       "nummultirange)",
       {"INSERT INTO t VALUES ($n, '{[1,3),[5,9)}', '{}'), ($n + 1, NULL, '{(,1.0],[2.50,)}'); INSERT INTO k "
        "VALUES ('{}'), "
        "('{[1.0,2]}')",
        "UPDATE t SET m = m + '{[3,5)}' WHERE id = $n; DELETE FROM k WHERE ctid = (SELECT max(ctid) FROM k)"},
       14},
      {"bytes of every value, empty and large",
       "CREATE TABLE t (k bytea PRIMARY KEY, v bytea); CREATE TABLE f (v bytea)",
       {"INSERT INTO t SELECT decode(lpad(to_hex($n + g), 8, '0'), 'hex') || '\\x005c'::bytea, "
        "decode(string_agg(lpad(to_hex(i), "
        "2, '0'), ''), 'hex') FROM generate_series(1, 3) g, generate_series(0, 255) i GROUP BY g; INSERT "
        "INTO f VALUES ('\\x'), "
        "('\\x00'), ('\\x5c'), (NULL)",
        "UPDATE t SET v = ''; DELETE FROM f WHERE ctid = (SELECT min(ctid) FROM f WHERE v = '\\x5c')"}},
  };
}

}  // namespace known_bugs
