// A database with every kind of object, as an application's history leaves it behind.
//
// Each section runs as one text on servers of the versions it names: "--@ 12" (and later), "--@ 12-14"; "--@
// globals" makes roles, in any database.
#pragma once

namespace torture {

inline constexpr const char* kDatabaseSql = R"sql(
--@ globals
SET password_encryption = 'scram-sha-256';
CREATE ROLE torture_owner;
CREATE ROLE torture_group NOLOGIN;
CREATE ROLE "Torture ""App" LOGIN CONNECTION LIMIT 50 VALID UNTIL '2099-01-01 00:00:00+00' PASSWORD 'app-plain-password';
CREATE ROLE torture_reader LOGIN NOINHERIT CREATEDB PASSWORD 'reader-plain-password';
CREATE ROLE torture_member LOGIN IN ROLE torture_group;
CREATE ROLE torture_setting;
CREATE ROLE torture_policy;
GRANT torture_group TO "Torture ""App" WITH ADMIN OPTION;
ALTER ROLE torture_reader SET statement_timeout = '77s';
ALTER ROLE torture_reader SET search_path = app, "Big Shop", public;
COMMENT ON ROLE torture_group IS 'a group; with rights';

--@ 12
-- Settings of the database, and of roles in it.
ALTER DATABASE torture SET search_path = "$user", app, "Big Shop", public;
ALTER DATABASE torture SET work_mem = '5MB';
ALTER DATABASE torture SET "torture.flag" = 'it''s "on"';
ALTER ROLE torture_setting IN DATABASE torture SET statement_timeout = '33s';
ALTER ROLE "Torture ""App" IN DATABASE torture SET search_path = app;
ALTER ROLE torture_reader IN DATABASE torture SET role = torture_setting;
ALTER ROLE torture_setting IN DATABASE torture SET DateStyle = 'German, DMY';
COMMENT ON DATABASE torture IS 'a database; with a comment';
GRANT CREATE ON DATABASE torture TO torture_owner;
REVOKE TEMPORARY ON DATABASE torture FROM PUBLIC;
GRANT TEMPORARY ON DATABASE torture TO torture_group;

--@ 12
-- Schemas, rights and default rights.
CREATE SCHEMA app AUTHORIZATION torture_owner;
CREATE SCHEMA "Big Shop";
CREATE SCHEMA "sch.ema; --";
CREATE SCHEMA empty_one;
COMMENT ON SCHEMA "Big Shop" IS E'line one\nline two; with ''quotes'' and \\ backslash';
GRANT USAGE ON SCHEMA app TO "Torture ""App" WITH GRANT OPTION;
GRANT USAGE, CREATE ON SCHEMA "Big Shop" TO torture_group;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner IN SCHEMA app GRANT SELECT ON TABLES TO torture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner GRANT USAGE ON SEQUENCES TO torture_group WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner GRANT USAGE ON SCHEMAS TO torture_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner IN SCHEMA app GRANT USAGE ON TYPES TO torture_reader;

--@ 12
-- Extensions, in schemas of their own and with rights of their members changed.
CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION pg_trgm SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
CREATE EXTENSION btree_gist SCHEMA ext;
CREATE EXTENSION postgres_fdw SCHEMA ext;
COMMENT ON EXTENSION hstore IS 'our hstore';
REVOKE EXECUTE ON FUNCTION ext.similarity(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ext.similarity(text, text) TO torture_reader;

--@ 12
-- Foreign servers (nothing is reached).
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'far');
CREATE USER MAPPING FOR torture_reader SERVER far OPTIONS (user 'far_reader', password 'far-plain-password');
CREATE FOREIGN TABLE app.far_table (id int OPTIONS (column_name 'ident'), note text) SERVER far OPTIONS (table_name 'x');
GRANT USAGE ON FOREIGN SERVER far TO torture_group;
CREATE FOREIGN DATA WRAPPER own_wrapper OPTIONS (a '1');

--@ 12
-- Types.
CREATE TYPE app.mood AS ENUM ('sad', 'it''s; ok', 'ha "ppy"');
ALTER TYPE app.mood ADD VALUE 'between' AFTER 'sad';
ALTER TYPE app.mood OWNER TO torture_owner;
CREATE DOMAIN app.positive AS integer DEFAULT 1 CONSTRAINT positive_check CHECK (VALUE > 0);
CREATE DOMAIN app.posnn AS app.positive NOT NULL;
CREATE DOMAIN app.email AS ext.citext CHECK (VALUE ~ '@');
ALTER DOMAIN app.positive ADD CONSTRAINT below CHECK (VALUE < 1000000) NOT VALID;
COMMENT ON DOMAIN app.positive IS 'above zero';
COMMENT ON CONSTRAINT positive_check ON DOMAIN app.positive IS 'a check of a domain';
CREATE TYPE app.pair AS (a integer, "b c" text COLLATE "C");
COMMENT ON COLUMN app.pair."b c" IS 'of a composite';
CREATE TYPE app.nested AS (p app.pair, m app.mood[]);
CREATE FUNCTION app.float_diff(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2';
CREATE TYPE app.float_range AS RANGE (subtype = float8, subtype_diff = app.float_diff);
CREATE TYPE app.shell;
CREATE TYPE app.base;
CREATE FUNCTION app.base_in(cstring) RETURNS app.base LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION app.base_out(app.base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE app.base (INPUT = app.base_in, OUTPUT = app.base_out, LIKE = integer, CATEGORY = 'U', DEFAULT = '7');
REVOKE USAGE ON TYPE app.mood FROM PUBLIC;
GRANT USAGE ON TYPE app.mood TO torture_group;

--@ 14
CREATE TYPE app.int_range AS RANGE (subtype = int8, multirange_type_name = app.int_ranges);

--@ 12
-- Collations, conversions, text search.
CREATE COLLATION app.c_like (LOCALE = 'C');
CREATE COLLATION "Big Shop"."Posix!" FROM "POSIX";
COMMENT ON COLLATION app.c_like IS 'like C';
CREATE CONVERSION app.utf8_to_latin1 FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE TEXT SEARCH DICTIONARY app.stemmer (TEMPLATE = snowball, LANGUAGE = english, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION app.english_like (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION app.english_like ALTER MAPPING FOR asciiword WITH app.stemmer, simple;
CREATE TEXT SEARCH PARSER app.parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
  LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE app.template (INIT = dsimple_init, LEXIZE = dsimple_lexize);

--@ 12
-- Functions, procedures, aggregates, operators, casts.
CREATE FUNCTION app.add(a integer, b integer DEFAULT 5, VARIADIC rest integer[] DEFAULT '{}') RETURNS integer
  LANGUAGE sql IMMUTABLE PARALLEL SAFE LEAKPROOF COST 7 AS $f$ SELECT a + b + coalesce(array_length(rest, 1), 0); $f$;
CREATE FUNCTION app.rows_of(n int) RETURNS SETOF app.pair LANGUAGE plpgsql ROWS 17 SET search_path = app, pg_temp
  SECURITY DEFINER AS $body$
BEGIN  -- a semicolon; and a $$ inside
  RETURN QUERY SELECT i, 'x' || i FROM generate_series(1, n) i;
END; $body$;
ALTER FUNCTION app.rows_of(int) OWNER TO torture_owner;
CREATE FUNCTION app.as_another() RETURNS text LANGUAGE sql SET role TO torture_setting
  AS $f$ SELECT 'SET role TO ''torture_member''; ALTER x OWNER TO torture_member;' $f$;
CREATE FUNCTION app.as_table(IN x int, OUT y int, INOUT z text) LANGUAGE sql AS 'SELECT x, z';
CREATE FUNCTION app.polymorphic(anyelement) RETURNS anyarray LANGUAGE sql AS 'SELECT ARRAY[$1]';
CREATE PROCEDURE app.do_it(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; END $$;
CREATE AGGREGATE app.my_sum (integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = safe);
CREATE AGGREGATE app.my_percentile (float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
  FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION app.pair_equal(app.pair, app.pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.a = $2.a';
CREATE OPERATOR app.=== (LEFTARG = app.pair, RIGHTARG = app.pair, FUNCTION = app.pair_equal, COMMUTATOR = OPERATOR(app.===),
  RESTRICT = eqsel, JOIN = eqjoinsel, HASHES);
COMMENT ON OPERATOR app.=== (app.pair, app.pair) IS 'equal by a';
CREATE OPERATOR FAMILY app.backwards USING btree;
CREATE FUNCTION app.backwards_cmp(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR CLASS app.int_backwards FOR TYPE integer USING btree FAMILY app.backwards AS
  OPERATOR 1 > (integer, integer), OPERATOR 2 >= (integer, integer), OPERATOR 3 = (integer, integer),
  OPERATOR 4 <= (integer, integer), OPERATOR 5 < (integer, integer), FUNCTION 1 app.backwards_cmp(integer, integer);
CREATE FUNCTION app.pair_text(app.pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1.a || $1."b c"';
CREATE CAST (app.pair AS text) WITH FUNCTION app.pair_text(app.pair) AS ASSIGNMENT;
CREATE CAST (app.base AS integer) WITHOUT FUNCTION;
COMMENT ON CAST (app.base AS integer) IS 'same bits';
REVOKE EXECUTE ON FUNCTION app.add(integer, integer, integer[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.add(integer, integer, integer[]) TO torture_reader WITH GRANT OPTION;
CREATE FUNCTION app."Od d; name"("A ""b" text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION app.calls_add(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT app.add(i, 1)';

--@ 14
CREATE FUNCTION app.atomic(i int) RETURNS text LANGUAGE sql
  BEGIN ATOMIC SELECT CASE WHEN i > 0 THEN 'a;' ELSE 'b' END; SELECT (SELECT CASE WHEN true THEN 'x' END); END;
CREATE PROCEDURE app.atomic_p() LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE FUNCTION app.returning(i int) RETURNS int LANGUAGE sql IMMUTABLE RETURN i + 1;

--@ 12
-- Sequences.
CREATE SEQUENCE app.numbers AS smallint INCREMENT -3 MINVALUE -500 MAXVALUE 30 START 20 CACHE 7 CYCLE;
SELECT nextval('app.numbers'), nextval('app.numbers');
CREATE SEQUENCE "Big Shop"."Se q";
GRANT USAGE, UPDATE ON SEQUENCE app.numbers TO torture_reader;
COMMENT ON SEQUENCE app.numbers IS 'backwards';

--@ 12
-- Tables: columns of every kind, dropped ones in between, settings a column can have.
CREATE TABLE app.customer (
  dropped_1 text,
  id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5 CACHE 3),
  email app.email NOT NULL,
  name varchar(200) COLLATE "C" DEFAULT 'no;body',
  mood app.mood DEFAULT 'sad',
  n app.posnn DEFAULT 1,
  pair app.pair,
  nested app.nested,
  span app.float_range,
  doc jsonb DEFAULT '{"a": "''"}',
  hs ext.hstore,
  tags text[] DEFAULT ARRAY['x', 'y;z'],
  matrix int[][],
  at timestamptz DEFAULT now(),
  bits bit varying(9),
  dropped_2 int,
  raw bytea,
  net inet,
  money numeric(12, 3),
  base app.base,
  total bigint GENERATED ALWAYS AS (app.calls_add(100) + 1) STORED,
  CONSTRAINT customer_pkey PRIMARY KEY (id),
  CONSTRAINT customer_email_key UNIQUE (email) DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT money_check CHECK (money IS NULL OR money > -5),
  CONSTRAINT span_excl EXCLUDE USING gist (n WITH =, span WITH &&) WHERE (n > 10)
) WITH (fillfactor = 80, autovacuum_enabled = true, toast.autovacuum_enabled = true);
ALTER TABLE app.customer DROP COLUMN dropped_1, DROP COLUMN dropped_2;
ALTER TABLE app.customer ALTER COLUMN name SET STATISTICS 777;
ALTER TABLE app.customer ALTER COLUMN name SET STORAGE EXTERNAL;
ALTER TABLE app.customer ALTER COLUMN doc SET STORAGE MAIN;
ALTER TABLE app.customer ALTER COLUMN mood SET (n_distinct = -0.25, n_distinct_inherited = 4);
ALTER TABLE app.customer OWNER TO torture_owner;
COMMENT ON TABLE app.customer IS E'-- Name: customer; Type: TABLE\n\\restrict\n''; DROP TABLE x';
COMMENT ON COLUMN app.customer.email IS 'where to write';
COMMENT ON CONSTRAINT customer_pkey ON app.customer IS 'the key';
COMMENT ON CONSTRAINT money_check ON app.customer IS 'a check';
INSERT INTO app.customer (email, name, mood, n, pair, nested, span, hs, matrix, at, bits, raw, net, money, base)
  SELECT 'c' || i || '@x', repeat('naïve ☃ ', i % 20), (ARRAY['sad', 'between', 'it''s; ok', NULL])[i % 4 + 1]::app.mood, i % 9 + 1,
    row(i, 'p;' || i)::app.pair, row(row(i, NULL), ARRAY['sad']::app.mood[])::app.nested, app.float_range(i, i + 0.5),
    'a=>1'::ext.hstore, ARRAY[[i, 2], [3, NULL]], '2026-01-01 UTC'::timestamptz + i * '1 hour'::interval, B'1011',
    decode(md5(i::text), 'hex'), '10.0.0.1', i / 7.0, (i % 5)::text::app.base FROM generate_series(1, 500) i;
UPDATE app.customer SET name = NULL WHERE id % 50 = 0;
DELETE FROM app.customer WHERE id % 35 = 0;
GRANT SELECT (id, email), UPDATE (name) ON app.customer TO "Torture ""App" WITH GRANT OPTION;
GRANT INSERT, DELETE, TRIGGER ON app.customer TO torture_group;
GRANT SELECT ON app.customer TO PUBLIC;
SET SESSION AUTHORIZATION "Torture ""App";
GRANT UPDATE (name) ON app.customer TO torture_reader;
RESET SESSION AUTHORIZATION;

--@ 14
DO $$ BEGIN
  EXECUTE 'ALTER TABLE app.customer ALTER COLUMN raw SET COMPRESSION lz4';
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
ALTER TABLE app.customer ALTER COLUMN name SET COMPRESSION pglz;

--@ 12
CREATE TABLE app."Order" (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, customer bigint, parent int, note text,
  CONSTRAINT order_customer FOREIGN KEY (customer) REFERENCES app.customer ON DELETE SET NULL ON UPDATE CASCADE,
  CONSTRAINT order_parent FOREIGN KEY (parent) REFERENCES app."Order" DEFERRABLE INITIALLY DEFERRED);
INSERT INTO app."Order" (customer, parent, note) SELECT (SELECT min(id) FROM app.customer), NULL, E'n\t\\' || i FROM generate_series(1, 300) i;
UPDATE app."Order" SET parent = 1 WHERE id > 1;
COMMENT ON CONSTRAINT order_customer ON app."Order" IS 'of a foreign key; remembered';
CREATE TABLE app.not_valid (id int PRIMARY KEY, customer bigint, n int);
INSERT INTO app.not_valid VALUES (1, 999999, -4), (2, NULL, 5);
ALTER TABLE app.not_valid ADD CONSTRAINT nv_customer FOREIGN KEY (customer) REFERENCES app.customer NOT VALID;
ALTER TABLE app.not_valid ADD CONSTRAINT nv_check CHECK (n > 0) NOT VALID;
COMMENT ON CONSTRAINT nv_check ON app.not_valid IS 'a check that is not valid';
-- A foreign key that the source takes for valid, and its own rows violate.
CREATE TABLE app.liar (id int PRIMARY KEY, customer bigint CONSTRAINT liar_customer REFERENCES app.customer);
SET session_replication_role = replica;
INSERT INTO app.liar VALUES (1, 888888), (2, NULL);
RESET session_replication_role;
CREATE TABLE app.full_match (a int, b int, c int PRIMARY KEY);
CREATE TABLE app.full_to (x int, y int, PRIMARY KEY (x, y));
INSERT INTO app.full_to VALUES (1, 2);
INSERT INTO app.full_match VALUES (1, 2, 3), (NULL, NULL, 4);
ALTER TABLE app.full_match ADD FOREIGN KEY (a, b) REFERENCES app.full_to (x, y) MATCH FULL;

--@ 12
-- Indexes of every kind.
CREATE INDEX order_partial ON app."Order" (customer) WHERE note IS NOT NULL;
CREATE INDEX order_expr ON app."Order" ((id + 1), lower(note) text_pattern_ops DESC NULLS LAST) WITH (fillfactor = 70);
ALTER INDEX app.order_expr ALTER COLUMN 1 SET STATISTICS 77;
CREATE UNIQUE INDEX order_include ON app."Order" (id, customer) INCLUDE (note);
CREATE INDEX customer_trgm ON app.customer USING gin (name ext.gin_trgm_ops);
CREATE INDEX customer_doc ON app.customer USING gin (doc jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX customer_span ON app.customer USING gist (span);
CREATE INDEX customer_at ON app.customer USING brin (at) WITH (pages_per_range = 8);
CREATE INDEX customer_hash ON app.customer USING hash (money);
CREATE INDEX customer_spgist ON app.customer USING spgist (net inet_ops);
CREATE INDEX customer_opclass ON app.customer (n app.int_backwards);
CREATE INDEX customer_collated ON app.customer (name COLLATE "POSIX");
COMMENT ON INDEX app.order_partial IS 'of an index';
CREATE TABLE app.identity_by_index (a int NOT NULL, b text);
CREATE UNIQUE INDEX identity_index ON app.identity_by_index (a);
ALTER TABLE app.identity_by_index REPLICA IDENTITY USING INDEX identity_index;
ALTER TABLE app.identity_by_index CLUSTER ON identity_index;
INSERT INTO app.identity_by_index SELECT i, 'b' FROM generate_series(1, 20) i;
CREATE TABLE app.key_include (a int, b text, PRIMARY KEY (a) INCLUDE (b));
CREATE TABLE app.key_from_index (a int NOT NULL, b int);
CREATE UNIQUE INDEX key_from ON app.key_from_index (a);
ALTER TABLE app.key_from_index ADD CONSTRAINT other_name PRIMARY KEY USING INDEX key_from;
CREATE STATISTICS app.order_stats (ndistinct, dependencies) ON customer, parent FROM app."Order";
ALTER STATISTICS app.order_stats OWNER TO torture_owner;
COMMENT ON STATISTICS app.order_stats IS 'of statistics';

--@ 13
ALTER STATISTICS app.order_stats SET STATISTICS 55;

--@ 14
CREATE STATISTICS app.expression_stats ON (id % 7), lower(note) FROM app."Order";
CREATE INDEX customer_multi ON app.customer USING brin (at timestamptz_minmax_multi_ops);

--@ 15
CREATE TABLE app.nulls_equal (id int PRIMARY KEY, a int, b int, CONSTRAINT ne_key UNIQUE NULLS NOT DISTINCT (a));
CREATE UNIQUE INDEX nulls_equal_b ON app.nulls_equal (b) NULLS NOT DISTINCT WHERE id > 5;
INSERT INTO app.nulls_equal VALUES (1, NULL, 1), (2, 2, 1);
CREATE TABLE app.set_null_columns (tenant int, id int, parent int, PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, parent) REFERENCES app.set_null_columns ON DELETE SET NULL (parent));

--@ 12
-- Partitions: several levels, attached ones with another order of columns, a default, names anywhere.
CREATE TABLE app.sale (id bigint NOT NULL, day date NOT NULL, region text NOT NULL, amount numeric DEFAULT 3,
  customer bigint REFERENCES app.customer, CONSTRAINT sale_amount CHECK (amount >= 0), PRIMARY KEY (id, day, region)) PARTITION BY RANGE (day);
CREATE TABLE app.sale_1 PARTITION OF app.sale FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY LIST (region);
CREATE TABLE app.sale_1_north PARTITION OF app.sale_1 (amount DEFAULT 11) FOR VALUES IN ('north', 'it''s') WITH (fillfactor = 60);
CREATE TABLE "Big Shop"."Sale 1 ""rest" PARTITION OF app.sale_1 DEFAULT PARTITION BY HASH (id);
CREATE TABLE "Big Shop".hash_0 PARTITION OF "Big Shop"."Sale 1 ""rest" FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE "Big Shop".hash_1 PARTITION OF "Big Shop"."Sale 1 ""rest" FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE app.sale_2 (region text NOT NULL, gone int, customer bigint, amount numeric CONSTRAINT sale_amount CHECK (amount >= 0),
  day date NOT NULL, id bigint NOT NULL, CONSTRAINT own_check CHECK (region <> 'moon'));
ALTER TABLE app.sale_2 DROP COLUMN gone;
ALTER TABLE app.sale ATTACH PARTITION app.sale_2 FOR VALUES FROM ('2026-02-01') TO (MAXVALUE);
CREATE TABLE app.sale_default PARTITION OF app.sale DEFAULT;
CREATE INDEX sale_amount_index ON app.sale (amount) INCLUDE (region);
CREATE INDEX only_here ON app.sale_2 (region);
CREATE INDEX sale_invalid_root ON ONLY app.sale (region);
INSERT INTO app.sale SELECT i, '2025-12-15'::date + i % 120, (ARRAY['north', 'south', 'it''s'])[i % 3 + 1], i, (SELECT max(id) FROM app.customer)
  FROM generate_series(1, 900) i;
ALTER TABLE app.sale_2 OWNER TO torture_owner;
GRANT SELECT ON app.sale_2 TO torture_reader;
COMMENT ON TABLE app.sale_1 IS 'of a partition';
CREATE TABLE app.by_expression (a int NOT NULL, b text) PARTITION BY LIST ((a % 3));
CREATE TABLE app.by_expression_0 PARTITION OF app.by_expression FOR VALUES IN (0, NULL);
CREATE TABLE app.by_expression_rest PARTITION OF app.by_expression DEFAULT;
INSERT INTO app.by_expression SELECT i, 'x' FROM generate_series(1, 30) i;
CREATE TABLE app.no_partitions (a int PRIMARY KEY) PARTITION BY RANGE (a);
CREATE TABLE app.refers_to_sale (id int PRIMARY KEY, sale bigint, day date, region text,
  CONSTRAINT to_partitioned FOREIGN KEY (sale, day, region) REFERENCES app.sale);
INSERT INTO app.refers_to_sale SELECT id, id, day, region FROM app.sale WHERE id < 50;

--@ 12
-- Inheritance, with columns and checks of several parents.
CREATE TABLE app.parent_a (id int PRIMARY KEY, a text DEFAULT 'a', CONSTRAINT inherited CHECK (id > 0), CONSTRAINT stays CHECK (id < 100000) NO INHERIT);
CREATE TABLE app.parent_b (id int, b text);
CREATE TABLE app.child (c text, PRIMARY KEY (id)) INHERITS (app.parent_a, app.parent_b);
ALTER TABLE app.child ALTER COLUMN a SET DEFAULT 'child';
CREATE TABLE app.child_late (a text, id int NOT NULL, CONSTRAINT inherited CHECK (id > 0), extra int, PRIMARY KEY (id));
ALTER TABLE app.child_late INHERIT app.parent_a;
INSERT INTO app.parent_a VALUES (1), (2);
INSERT INTO app.child VALUES (1, 'a', 'b', 'c');
INSERT INTO app.child_late VALUES ('z', 5, 6);
CREATE TABLE app.typed OF app.pair (PRIMARY KEY (a), "b c" WITH OPTIONS DEFAULT 'typed');
INSERT INTO app.typed VALUES (1);

--@ 12
-- Odd tables and names.
CREATE TABLE app.nothing ();
INSERT INTO app.nothing DEFAULT VALUES;
INSERT INTO app.nothing DEFAULT VALUES;
CREATE TABLE app.only_dropped (a int);
INSERT INTO app.only_dropped VALUES (1), (2), (3);
ALTER TABLE app.only_dropped DROP COLUMN a;
CREATE TABLE app.only_generated (a int GENERATED ALWAYS AS (42) STORED);
INSERT INTO app.only_generated DEFAULT VALUES;
CREATE UNLOGGED TABLE app.unlogged (id serial PRIMARY KEY, v text);
INSERT INTO app.unlogged (v) SELECT 'u' || i FROM generate_series(1, 40) i;
CREATE TABLE "sch.ema; --"."ta""ble ;' .x" ("co""l ;'" serial PRIMARY KEY, "SELECT" text DEFAULT '''', "ünï" int, "%s" int, U&"tab\0009" int);
INSERT INTO "sch.ema; --"."ta""ble ;' .x" ("SELECT", "ünï") SELECT '\.' || i, i FROM generate_series(1, 25) i;
CREATE INDEX "in""dex ;'" ON "sch.ema; --"."ta""ble ;' .x" ("ünï");
CREATE TABLE app.keyless (a int, b text);
INSERT INTO app.keyless VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
CREATE TABLE public."user" ("order" int PRIMARY KEY, "group" text);
INSERT INTO public."user" VALUES (1, 'g');
DO $$ BEGIN
  EXECUTE (SELECT 'CREATE TABLE app.wide (c0 int PRIMARY KEY, ' || string_agg('c' || i || ' int', ', ') || ')' FROM generate_series(1, 1599) i);
  EXECUTE 'INSERT INTO app.wide (c0, c1, c1599) SELECT i, 1, i FROM generate_series(1, 10) i';
END $$;
CREATE TABLE app.long_row (id int PRIMARY KEY, big text);
INSERT INTO app.long_row SELECT i, repeat(md5(i::text), 40000) FROM generate_series(1, 2) i;
CREATE TABLE app.specials (id int PRIMARY KEY, f float8, f4 float4, n numeric, t text, ts timestamp, d date, tz timestamptz, i interval,
  x xml, tsv tsvector, tsq tsquery, u uuid, j json, p point, c "char", r regclass, o oid, cc char(5), mac macaddr, pgl pg_lsn, b box);
INSERT INTO app.specials VALUES (1, 'NaN', '-Infinity', 'NaN', E'\n\r\t\\.\x01', 'infinity', '-infinity', '0044-03-15 BC', '-1 mon 2 days 00:00:00.000001',
  NULL, 'a:1A b:2', 'a & !b', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : 1, "a": 2}', '(1e300,-0)', 'x', NULL, 4294967295, 'ab', '08:00:2b:01:02:03', 'F/FF', '(1,2),(3,4)'),
  (2, 0.1, 1e-40, '1e400'::numeric, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, '', NULL, NULL, NULL);

--@ 12
-- Views and materialized views, on each other and in the wrong order of names.
CREATE VIEW app.z_base WITH (security_barrier) AS SELECT id, email, mood FROM app.customer WHERE n > 1 WITH LOCAL CHECK OPTION;
ALTER VIEW app.z_base ALTER COLUMN mood SET DEFAULT 'sad';
CREATE VIEW app.a_on_z ("Id", mail) AS SELECT id, email FROM app.z_base;
CREATE MATERIALIZED VIEW app.m_zero AS SELECT mood, count(*) AS n FROM app.z_base GROUP BY mood;
CREATE MATERIALIZED VIEW app.a_on_m AS SELECT sum(n) AS n FROM app.m_zero;
CREATE VIEW app.b_between AS SELECT n FROM app.a_on_m;
CREATE MATERIALIZED VIEW app.a_a_last AS SELECT n + 1 AS n FROM app.b_between;
CREATE MATERIALIZED VIEW app.never_filled AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX m_zero_key ON app.m_zero (mood);
CREATE VIEW app.grouped AS SELECT id, email, count(*) FROM app.customer GROUP BY id;
CREATE MATERIALIZED VIEW app.postponed AS SELECT id, email, count(*) AS n FROM app.customer GROUP BY id;
CREATE UNIQUE INDEX ON app.postponed (id);
CREATE RECURSIVE VIEW app.counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 5;
COMMENT ON VIEW app.a_on_z IS 'of a view';
COMMENT ON COLUMN app.a_on_z.mail IS 'of a view''s column';
COMMENT ON MATERIALIZED VIEW app.m_zero IS 'of a matview';
GRANT SELECT (mail) ON app.a_on_z TO torture_reader;
ALTER MATERIALIZED VIEW app.m_zero OWNER TO torture_owner;
GRANT SELECT ON app.z_base TO torture_owner;
REFRESH MATERIALIZED VIEW app.m_zero;
CREATE FUNCTION app.of_table(app."Order") RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.note';
CREATE VIEW app.uses_function AS SELECT app.of_table(o) AS note FROM app."Order" o;
CREATE VIEW app.no_columns AS SELECT FROM app."Order";

--@ 15
CREATE VIEW app.invoker WITH (security_invoker = true) AS SELECT id FROM app.customer;

--@ 12
-- Triggers in every state, rules, policies, event triggers.
CREATE TABLE app.log (what text);
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log VALUES (TG_NAME); RETURN NEW; END; $$;
CREATE TRIGGER t_origin BEFORE INSERT OR UPDATE OF name ON app.customer FOR EACH ROW WHEN (NEW.n > 5) EXECUTE FUNCTION app.touch('a;''b', '2');
CREATE TRIGGER t_disabled AFTER DELETE ON app.customer FOR EACH STATEMENT EXECUTE FUNCTION app.touch();
CREATE TRIGGER t_always AFTER UPDATE ON app.customer REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION app.touch();
CREATE TRIGGER t_replica BEFORE TRUNCATE ON app.customer FOR EACH STATEMENT EXECUTE FUNCTION app.touch();
CREATE CONSTRAINT TRIGGER t_constraint AFTER INSERT ON app."Order" FROM app.customer DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TRIGGER t_instead INSTEAD OF INSERT ON app.grouped FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TRIGGER t_sale AFTER INSERT ON app.sale FOR EACH ROW EXECUTE FUNCTION app.touch();
ALTER TABLE app.customer DISABLE TRIGGER t_disabled;
ALTER TABLE app.customer ENABLE ALWAYS TRIGGER t_always;
ALTER TABLE app.customer ENABLE REPLICA TRIGGER t_replica;
ALTER TABLE app.sale_2 DISABLE TRIGGER t_sale;
COMMENT ON TRIGGER t_origin ON app.customer IS 'of a trigger';
CREATE RULE r_two AS ON DELETE TO app.sale_2 DO ALSO (INSERT INTO app.log VALUES ('a;b'); DELETE FROM app."Order" WHERE false);
CREATE RULE r_instead AS ON UPDATE TO app.a_on_z WHERE OLD."Id" > 5 DO INSTEAD NOTHING;
ALTER TABLE app.sale_2 DISABLE RULE r_two;
COMMENT ON RULE r_two ON app.sale_2 IS 'of a rule';
ALTER TABLE app.customer ENABLE ROW LEVEL SECURITY;
ALTER TABLE app."Order" ENABLE ROW LEVEL SECURITY;
ALTER TABLE app."Order" FORCE ROW LEVEL SECURITY;
CREATE POLICY see ON app.customer AS RESTRICTIVE FOR SELECT TO torture_policy, "Torture ""App" USING (email = 'a;b@c');
CREATE POLICY write ON app."Order" FOR INSERT TO PUBLIC WITH CHECK (id > 0 AND EXISTS (SELECT 1 FROM app.customer c WHERE c.id = customer));
COMMENT ON POLICY see ON app.customer IS 'of a policy';
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no DDL here''; END';
CREATE EVENT TRIGGER e_disabled ON ddl_command_start WHEN TAG IN ('DROP TABLE', 'DROP VIEW') EXECUTE FUNCTION app.on_ddl();
ALTER EVENT TRIGGER e_disabled DISABLE;
CREATE EVENT TRIGGER e_enabled ON ddl_command_end WHEN TAG IN ('CREATE CONVERSION') EXECUTE FUNCTION app.on_ddl();
COMMENT ON EVENT TRIGGER e_enabled IS 'of an event trigger';

--@ 17
CREATE EVENT TRIGGER e_login ON login EXECUTE FUNCTION app.on_ddl();
ALTER EVENT TRIGGER e_login DISABLE;

--@ 13
ALTER TYPE app.base SET (STORAGE = plain);
ALTER VIEW app.a_on_z RENAME COLUMN mail TO "e mail";

--@ 16
ALTER TABLE app.typed ALTER COLUMN "b c" SET STORAGE EXTENDED;

--@ 18
CREATE TABLE app.v18 (id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a * 2) VIRTUAL, span int4range,
  CONSTRAINT a_nn NOT NULL a NOT VALID, CONSTRAINT not_enforced CHECK (a > 5) NOT ENFORCED);
INSERT INTO app.v18 (id, a) VALUES (1, 2);
CREATE TABLE app.temporal (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));

--@ 12
-- Large objects with owners and rights.
SELECT lo_from_bytea(70001, 'first'), lo_from_bytea(70002, decode(repeat('ab', 300000), 'hex')), lo_from_bytea(70003, '');
ALTER LARGE OBJECT 70001 OWNER TO torture_owner;
GRANT SELECT ON LARGE OBJECT 70002 TO torture_reader, PUBLIC;
COMMENT ON LARGE OBJECT 70001 IS 'of a large object';
)sql";

}  // namespace torture
