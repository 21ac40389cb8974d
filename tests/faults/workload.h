// Transactions by chance over tables of every kind of key, as applications of the source run them.
#pragma once

namespace workload {

// In the schema `app`, which is the application's own; `CALL tx()` is one transaction, of one change or of
// thousands. Some fail on a constraint, some raise 'undo'.
inline constexpr const char* kSql = R"(
CREATE SCHEMA app;
CREATE TABLE app.k (id int PRIMARY KEY, v int, big text, u int UNIQUE);
CREATE TABLE app.k2 (a int, b text, v numeric, PRIMARY KEY (a, b));
CREATE TABLE app.f (a int, b text, c float8); ALTER TABLE app.f REPLICA IDENTITY FULL;
CREATE TABLE app.fk (id int NOT NULL, v text, w int); CREATE UNIQUE INDEX ON app.fk (id);
ALTER TABLE app.fk REPLICA IDENTITY FULL;
CREATE TABLE app.ui (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, big text);
CREATE TABLE app.p (id int, r int, v text, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
CREATE TABLE app.p0 PARTITION OF app.p FOR VALUES IN (0);
CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN (1);
CREATE TABLE app.p2 PARTITION OF app.p FOR VALUES IN (2);
CREATE TABLE app.ri (a int, b int NOT NULL, v text); CREATE UNIQUE INDEX rib ON app.ri (b);
ALTER TABLE app.ri REPLICA IDENTITY USING INDEX rib;
CREATE TABLE app.onlyk (a int PRIMARY KEY);
CREATE TABLE app.d (id int PRIMARY KEY, x int, CONSTRAINT du UNIQUE (x) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE app.tr (id int PRIMARY KEY, g int GENERATED ALWAYS AS (v * 2) STORED, v int);
CREATE TABLE app.ref (id int PRIMARY KEY, k int REFERENCES app.onlyk ON DELETE CASCADE ON UPDATE CASCADE);
ALTER TABLE app.k ALTER big SET STORAGE EXTERNAL; ALTER TABLE app.ui ALTER big SET STORAGE EXTERNAL;

CREATE FUNCTION app.big() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT CASE WHEN random() < .5 THEN repeat(md5(random()::text), 100) ELSE md5(random()::text) END $$;

CREATE PROCEDURE app.op(n int) LANGUAGE plpgsql AS $$
DECLARE
  i int := floor(random() * n);
  j int := floor(random() * n);
  o int := floor(random() * 33);
BEGIN
  CASE o
  WHEN 0, 1 THEN INSERT INTO app.k VALUES (i, j, app.big(), CASE WHEN random() < .3 THEN j END);
  WHEN 2, 3 THEN UPDATE app.k SET v = v + 1 WHERE id = i;
  WHEN 4 THEN UPDATE app.k SET id = j WHERE id = i;
  WHEN 5 THEN DELETE FROM app.k WHERE id = i;
  WHEN 6 THEN UPDATE app.k SET u = j WHERE id = i;
  WHEN 7 THEN INSERT INTO app.k2 VALUES (i, (j % 3)::text, random());
  WHEN 8 THEN UPDATE app.k2 SET v = v + 1 WHERE a = i;
  WHEN 9 THEN UPDATE app.k2 SET b = (j % 3)::text WHERE a = i;
  WHEN 10 THEN DELETE FROM app.k2 WHERE a = i;
  WHEN 11, 12 THEN INSERT INTO app.f
    SELECT i % 4, CASE WHEN random() < .3 THEN NULL ELSE 'x' || (j % 2) END,
           CASE WHEN random() < .1 THEN 'NaN'::float8 ELSE i END FROM generate_series(1, 1 + j % 3);
  WHEN 13 THEN UPDATE app.f SET c = c + 1 WHERE a = i % 4 AND random() < .5;
  WHEN 14 THEN DELETE FROM app.f WHERE ctid IN (SELECT ctid FROM app.f ORDER BY random() LIMIT 3);
  WHEN 15 THEN INSERT INTO app.fk VALUES (i, 'v', j);
  WHEN 16 THEN UPDATE app.fk SET w = j WHERE id = i;
  WHEN 17 THEN UPDATE app.fk SET id = j WHERE id = i;
  WHEN 18 THEN DELETE FROM app.fk WHERE id = i;
  WHEN 19 THEN INSERT INTO app.ui (v, big) VALUES (i, app.big());
  WHEN 20 THEN UPDATE app.ui SET v = v + 1 WHERE id % n = i;
  WHEN 21 THEN DELETE FROM app.ui WHERE id % n = i;
  WHEN 22 THEN INSERT INTO app.p VALUES (i, j % 3, 'p');
  WHEN 23 THEN UPDATE app.p SET r = j % 3 WHERE id = i;
  WHEN 24 THEN UPDATE app.p SET v = v || 'x' WHERE id = i AND length(v) < 20;
  WHEN 25 THEN INSERT INTO app.ri VALUES (i, j, 'r') ON CONFLICT DO NOTHING;
  WHEN 26 THEN UPDATE app.ri SET b = j, a = i WHERE b = i;
  WHEN 27 THEN
    INSERT INTO app.onlyk VALUES (i) ON CONFLICT DO NOTHING;
    INSERT INTO app.ref SELECT j, i WHERE NOT EXISTS (SELECT FROM app.ref WHERE id = j);
  WHEN 28 THEN UPDATE app.onlyk SET a = j WHERE a = i;
  WHEN 29 THEN DELETE FROM app.onlyk WHERE a = i;
  WHEN 30 THEN
    INSERT INTO app.d SELECT i, i WHERE NOT EXISTS (SELECT FROM app.d WHERE id = i OR x = i);
    UPDATE app.d SET x = CASE x WHEN i THEN j WHEN j THEN i END WHERE x IN (i, j);
  WHEN 31 THEN
    INSERT INTO app.tr (id, v) VALUES (i, j) ON CONFLICT (id) DO UPDATE SET v = j;
    DELETE FROM app.tr WHERE id = j;
  ELSE
    IF random() < .05 THEN TRUNCATE app.f;
    ELSIF random() < .05 THEN TRUNCATE app.k2, app.fk;
    ELSIF random() < .05 THEN TRUNCATE app.onlyk CASCADE;
    ELSIF random() < .05 THEN TRUNCATE app.p;
    ELSIF random() < .03 THEN TRUNCATE app.ui RESTART IDENTITY;
    END IF;
    DELETE FROM app.p WHERE id = i;
  END CASE;
EXCEPTION WHEN unique_violation OR foreign_key_violation THEN NULL;
END $$;

CREATE PROCEDURE app.tx() LANGUAGE plpgsql AS $$
DECLARE
  changes int := CASE WHEN random() < .02 THEN 3000 WHEN random() < .15 THEN 60 ELSE 1 + floor(random() * 6) END;
  keys int := CASE WHEN random() < .5 THEN 8 ELSE 300 END;  -- few keys meet each other in a batch
BEGIN
  FOR x IN 1..changes LOOP
    CALL app.op(keys);
  END LOOP;
  IF random() < .05 THEN
    RAISE EXCEPTION 'undo';
  END IF;
END $$;

DO $$ BEGIN FOR i IN 1..500 LOOP CALL app.op(300); END LOOP; END $$;
)";

inline constexpr const char* kTables[] = {"k",  "k2", "f",  "fk",    "ui", "p",  "p0",
                                          "p1", "p2", "ri", "onlyk", "d",  "tr", "ref"};

}  // namespace workload
