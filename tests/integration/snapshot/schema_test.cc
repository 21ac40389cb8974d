#include "replication/snapshot/schema.h"

#include <doctest/doctest.h>
#include <sstream>

#include "replication/base/error.h"
#include "replication/base/subprocess.h"
#include "tests/integration/snapshot/pair.h"

namespace {

using namespace snapshot_test;

// What pg_dump says of a database: the one description of a schema that we didn't write ourselves.
std::string dumped(const harness::Cluster& cluster, const base::Stop& stop) {
  const auto info = postgres::ConnInfo::parse(cluster.conninfo("shop"), "dumped");
  const auto result =
      base::run_command({{"pg_dump", "--schema-only", "--exclude-schema=pgcutover", "--no-publications"},
                         info.environment(),
                         {}},
                        base::Deadline::in(base::milliseconds(180'000)), stop);
  REQUIRE(result.exit_code == 0);
  std::string kept;
  std::size_t at = 0;
  while (at < result.output.size()) {
    const auto end = std::min(result.output.find('\n', at), result.output.size());
    const auto line = result.output.substr(at, end - at);
    if (!line.starts_with("\\") && line.find(" SET (pg_attver=") == std::string::npos &&
        !line.starts_with("-- Dumped")) {
      kept += line + '\n';
    }
    at = end + 1;
  }
  return kept;
}

// "" where equal; else the first line that differs, on both sides.
std::string first_difference(const std::string& a, const std::string& b) {
  std::istringstream left(a), right(b);
  std::string x, y;
  for (;;) {
    const bool more_left = static_cast<bool>(std::getline(left, x));
    const bool more_right = static_cast<bool>(std::getline(right, y));
    if (!more_left && !more_right) {
      return "";
    }
    if (more_left != more_right || x != y) {
      return "source: " + x + "\ntarget: " + y;
    }
  }
}

constexpr const char* kRoles =
    "CREATE ROLE shop_owner; CREATE ROLE \"Web \"\"App\" LOGIN; CREATE ROLE reader; GRANT shop_owner TO "
    "postgres";

void make_schema(const harness::Cluster& source) {
  source.sql("shop", R"(
    GRANT USAGE ON SCHEMA app TO "Web ""App";
    CREATE TYPE app.mood AS ENUM ('sad', 'it''s; ok');
    CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
    CREATE TYPE app.pair AS (a int, b text);
    CREATE EXTENSION citext;
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := now(); RETURN NEW; END; $$;
    CREATE SEQUENCE app.numbers INCREMENT 5 CYCLE MAXVALUE 5000;
    CREATE TABLE app.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email citext UNIQUE, at timestamptz,
      mood app.mood DEFAULT 'sad', n app.positive, CONSTRAINT late CHECK (n < 1000));
    ALTER TABLE app.customer DROP CONSTRAINT late;
    INSERT INTO app.customer (email, n) SELECT i || '@x', i FROM generate_series(1, 2000) i;
    ALTER TABLE app.customer ADD CONSTRAINT late CHECK (n < 1000) NOT VALID;
    CREATE TABLE app."Order" (id int PRIMARY KEY, customer bigint REFERENCES app.customer, span int4range,
      parent int REFERENCES app."Order" DEFERRABLE INITIALLY DEFERRED, EXCLUDE USING gist (span WITH &&));
    CREATE INDEX order_expr ON app."Order" ((id + 1)) WHERE customer > 5;
    ALTER INDEX app.order_expr ALTER COLUMN 1 SET STATISTICS 77;
    CREATE STATISTICS app.order_stats ON id, customer FROM app."Order";
    COMMENT ON CONSTRAINT "Order_customer_fkey" ON app."Order" IS 'a foreign key; remembered';
    COMMENT ON CONSTRAINT "Order_pkey" ON app."Order" IS 'the key';
    COMMENT ON TABLE app."Order" IS E'-- Name: x; Type: TABLE\n\\restrict\n''';
    CREATE TABLE app.sale (id int, day date NOT NULL, customer bigint REFERENCES app.customer,
      PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE app.sale_1 PARTITION OF app.sale FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE app.sale_2 PARTITION OF app.sale DEFAULT;
    CREATE INDEX ON app.sale (customer);
    ALTER TABLE app.sale_1 CLUSTER ON sale_1_customer_idx;
    CREATE TABLE "we""ird"."t ;'" ("a""b" int PRIMARY KEY, "SELECT" text);
    CREATE VIEW app.grouped AS SELECT id, email, count(*) FROM app.customer GROUP BY id;
    CREATE MATERIALIZED VIEW app.totals AS SELECT count(*) AS n FROM app.customer;
    CREATE MATERIALIZED VIEW app.on_totals AS SELECT n FROM app.totals;
    CREATE MATERIALIZED VIEW app.postponed AS SELECT id, email, count(*) AS n FROM app.customer GROUP BY id;
    CREATE UNIQUE INDEX ON app.totals (n);
    CREATE UNIQUE INDEX ON app.postponed (id);
    CREATE TRIGGER touch BEFORE UPDATE ON app.customer FOR EACH ROW EXECUTE FUNCTION app.touch();
    ALTER TABLE app.customer DISABLE TRIGGER touch;
    CREATE RULE r AS ON DELETE TO app.sale_2 DO ALSO (INSERT INTO app.sale_1 VALUES (1, '2026-01-01');
      DELETE FROM app."Order" WHERE false);
    ALTER TABLE app.customer ENABLE ROW LEVEL SECURITY;
    CREATE POLICY see ON app.customer FOR SELECT TO "Web ""App" USING (email = 'a;b');
    CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION app.on_ddl();
    ALTER TABLE app.customer OWNER TO shop_owner;
    GRANT SELECT (id), UPDATE ON app.customer TO "Web ""App" WITH GRANT OPTION;
    SET SESSION AUTHORIZATION "Web ""App"; GRANT UPDATE ON app.customer TO reader; RESET SESSION AUTHORIZATION;
    ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA app GRANT SELECT ON TABLES TO reader;
    ALTER SCHEMA public OWNER TO shop_owner;
    REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO reader;
    COMMENT ON SCHEMA public IS 'ours';
    CREATE PUBLICATION some_publication FOR TABLE app.sale_1;
    CREATE TABLE pgcutover.of_ours (i int);
  )");
  if (source.major() >= 14) {
    source.sql("shop", R"(
    CREATE FUNCTION app.atomic(i int) RETURNS text LANGUAGE sql
      BEGIN ATOMIC SELECT CASE WHEN i > 0 THEN 'a;' ELSE 'b' END; SELECT (SELECT CASE WHEN true THEN 'x' END); END;
    CREATE PROCEDURE app.p() LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;
    )");
  }
}

TEST_CASE("a schema of every kind of object arrives exactly, and a second run changes nothing") {
  Pair pair;
  pair.source.sql("postgres", kRoles);
  pair.target.sql("postgres", kRoles);
  make_schema(pair.source);
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", {}, pair.stop);
  archive.restore_pre_data(pair.target_info(), {});
  archive.restore_pre_data(pair.target_info(), {});
  CHECK(pair.target.value("shop",
                          "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
                          "WHERE relnamespace = 'app'::regnamespace") == "0");
  copy_tables(pair.copy_options(), pair.catalog().tables, pair.stop);
  archive.restore_post_data(pair.target_info(), {}, 3);
  archive.restore_post_data(pair.target_info(), {}, 3);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == "0");

  auto target = pair.target.connect("shop");
  const auto catalog = pair.catalog();
  CHECK(snapshot::ensure_foreign_keys(target, catalog.foreign_keys).empty());
  CHECK(snapshot::ensure_foreign_keys(target, catalog.foreign_keys).empty());
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pgcutover.deferred_statement") == "0");
  CHECK(std::stoi(pair.target.value("shop", "SELECT count(*) FROM pgcutover.restored").value()) > 50);
  const auto before = dumped(pair.source, pair.stop);
  CHECK(before.size() > 8'000);
  const auto after = dumped(pair.target, pair.stop);
  CHECK(after.size() > before.size() * 9 / 10);
  if (pair.source.major() == pair.target.major()) {  // views are written down differently by other versions
    CHECK(first_difference(before, after) == "");
  }
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_publication") == "0");
  CHECK_FALSE(pair.target.value("shop", "SELECT to_regclass('pgcutover.of_ours')"));

  CHECK(catalog.matviews.size() == 3);
  snapshot::refresh_matviews(target, catalog.matviews);
  CHECK(pair.target.value("shop", "SELECT n FROM app.on_totals") == "2000");
  CHECK(pair.target.value("shop", "SELECT count(*) FROM app.postponed") == "2000");
}

TEST_CASE("a restore that failed goes on with the statement that failed") {
  Pair pair;
  pair.source.sql("shop",
                  "CREATE TABLE app.a (i int PRIMARY KEY); CREATE TABLE app.b (i int PRIMARY KEY);"
                  "CREATE TABLE app.c (i int); CREATE INDEX c_i ON app.c (i);"
                  "CREATE RULE r AS ON DELETE TO app.c DO NOTHING");
  pair.target.sql("shop", "CREATE SCHEMA app; CREATE TABLE app.b (other text)");
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", {}, pair.stop);
  try {
    archive.restore_pre_data(pair.target_info(), {});
    FAIL("nothing was thrown");
  } catch (const base::Error& error) {
    CHECK(error.message() == "restoring CREATE SCHEMA app;: schema \"app\" already exists");
    CHECK(error.hint().find("drop it") != std::string::npos);
    CHECK(error.server() == "target");
  }
  pair.target.sql("shop", "DROP SCHEMA app CASCADE");
  const snapshot::SchemaArchive again(pair.tools(), pair.source_info(), "", {}, pair.stop);
  again.restore_pre_data(pair.target_info(), {});
  CHECK(pair.target.value("shop", "SELECT to_regclass('app.c')") == "app.c");

  // An index in the way: those before and beside it are made, and kept.
  pair.target.sql("shop", "CREATE TABLE app.c_i ()");
  CHECK_THROWS_AS(again.restore_post_data(pair.target_info(), {}, 1), base::Error);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_rules WHERE schemaname = 'app'") == "0");
  pair.target.sql("shop", "DROP TABLE app.c_i");
  const auto first =
      pair.target.value("shop", "SELECT coalesce(max(oid), 0) FROM pg_class WHERE relname = 'a_pkey'");
  again.restore_post_data(pair.target_info(), {}, 2);
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_indexes WHERE schemaname = 'app'") == "3");
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pg_rules WHERE schemaname = 'app'") == "1");
  if (first != "0") {
    CHECK(pair.target.value("shop", "SELECT oid FROM pg_class WHERE relname = 'a_pkey'") == first);
  }
}

TEST_CASE("roles that the target lacks are all named, with the statements that make them") {
  Pair pair;
  pair.source.sql("postgres", kRoles);
  pair.source.sql(
      "shop",
      "CREATE TABLE app.t (i int); ALTER TABLE app.t OWNER TO shop_owner; GRANT SELECT ON app.t TO PUBLIC;"
      "GRANT SELECT ON app.t TO \"Web \"\"App\"");
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", {}, pair.stop);
  try {
    archive.restore_pre_data(pair.target_info(), {});
    FAIL("nothing was thrown");
  } catch (const base::Error& error) {
    CHECK(error.message().ends_with(": \"Web \"\"App\", \"shop_owner\""));
    CHECK(error.hint().find("CREATE ROLE \"shop_owner\";") != std::string::npos);
  }
  CHECK_FALSE(pair.target.value("shop", "SELECT to_regnamespace('app')"));
}

TEST_CASE("tables that the filter leaves out are not made, whatever their names") {
  Pair pair;
  pair.source.sql("shop",
                  "CREATE TABLE app.keep (i int); CREATE TABLE app.\"K*eep\" (i int); CREATE TABLE "
                  "app.\"k.x\"\"\" (i int)");
  catalog::TableFilter filter;
  filter.exclude = {"app.k.x*", "app.K?eep"};
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", filter, pair.stop);
  archive.restore_pre_data(pair.target_info(), {});
  CHECK(pair.target.value("shop",
                          "SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = "
                          "'app'::regnamespace AND relkind = 'r'") == "keep");
}

TEST_CASE("views follow the filter like tables") {
  Pair pair;
  pair.source.sql(
      "shop",
      "CREATE TABLE app.gone (i int); CREATE VIEW app.on_gone AS SELECT * FROM app.gone; CREATE MATERIALIZED "
      "VIEW app.gone_too AS SELECT * FROM app.on_gone; CREATE TABLE app.stays (i int); CREATE VIEW app.kept "
      "AS "
      "SELECT * FROM app.stays");
  catalog::TableFilter filter;
  filter.exclude = {"app.*gone*"};
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", filter, pair.stop);
  archive.restore_pre_data(pair.target_info(), {});
  CHECK(
      pair.target.value("shop",
                        "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relnamespace = "
                        "'app'::regnamespace") == "kept,stays");
}

TEST_CASE(
    "an extension's configuration table and sequence come with the schema, foreign keys to it after the "
    "rows") {
  Pair pair;
  // An extension with such a table, made on the target by CREATE EXTENSION as well.
  const std::string install =
      "CREATE TABLE public.settings (k text PRIMARY KEY, v text, stock boolean); INSERT INTO public.settings "
      "VALUES ('a', 'stock', true); CREATE SEQUENCE public.numbers; ALTER EXTENSION citext ADD TABLE "
      "public.settings; ALTER EXTENSION citext ADD SEQUENCE public.numbers; UPDATE pg_extension SET "
      "extconfig "
      "= ARRAY['public.settings'::regclass::oid, 'public.numbers'::regclass::oid], extcondition = "
      "ARRAY['WHERE NOT stock', ''] WHERE extname = 'citext'";
  pair.source.sql("shop", "CREATE EXTENSION citext; " + install);
  pair.source.sql(
      "shop",
      "INSERT INTO public.settings VALUES ('b', E'it''s; \\nmine', false), ('c', NULL, false); "
      "SELECT setval('public.numbers', 77); CREATE TABLE public.uses (k text CONSTRAINT to_settings "
      "REFERENCES public.settings ON DELETE CASCADE); INSERT INTO public.uses VALUES ('a'), ('c')");
  pair.target.sql(
      "shop",
      "CREATE FUNCTION pgcutover.install() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN IF "
      "to_regclass('public.settings') IS NULL THEN SET LOCAL search_path = public, pg_catalog; " +
          install +
          "; END IF; END $f$; CREATE EVENT TRIGGER install ON ddl_command_end WHEN TAG IN ('CREATE "
          "EXTENSION') EXECUTE FUNCTION pgcutover.install()");
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", {}, pair.stop);
  archive.restore_pre_data(pair.target_info(), {});
  archive.restore_pre_data(pair.target_info(), {});
  pair.check_same("public.settings", 3);
  CHECK(pair.target.value("shop", "SELECT nextval('public.numbers')") == "78");
  auto target = pair.target.connect("shop");
  target.exec("INSERT INTO public.uses VALUES ('a'), ('c')");
  CHECK(snapshot::ensure_foreign_keys(target, pair.catalog().foreign_keys).empty());
  const auto key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'to_settings'";
  CHECK(pair.target.value("shop", key) == pair.source.value("shop", key));
  CHECK(pair.target.value("shop", key).value_or("").ends_with("ON DELETE CASCADE"));
}

TEST_CASE("an extension that somebody else made on the target stops no restore by its comment") {
  Pair pair;
  for (const auto* cluster : {&pair.source, &pair.target}) {
    cluster->sql("shop",
                 "CREATE EXTENSION citext; CREATE ROLE plain LOGIN; ALTER DATABASE shop OWNER TO plain");
  }
  pair.source.sql(
      "shop",
      "ALTER SCHEMA app OWNER TO plain; ALTER SCHEMA \"we\"\"ird\" OWNER TO plain; CREATE TABLE app.t (c "
      "public.citext); ALTER TABLE app.t OWNER TO plain; COMMENT ON EXTENSION citext IS 'ours'");
  pair.target.sql(
      "shop", "GRANT ALL ON SCHEMA pgcutover TO plain; GRANT ALL ON ALL TABLES IN SCHEMA pgcutover TO plain");
  const auto info = postgres::ConnInfo::parse(pair.target.conninfo("shop", "plain"), "target");
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", {}, pair.stop);
  archive.restore_pre_data(info, {});
  CHECK(pair.target.value("shop", "SELECT to_regclass('app.t')"));
  CHECK(pair.target.value("shop", "SELECT count(*) FROM pgcutover.restored WHERE statement LIKE '%/1'") !=
        "0");
  archive.restore_pre_data(info, {});
}

TEST_CASE("what lies in a tablespace that the target lacks goes to the default one") {
  Pair pair;
  auto session = pair.source.connect("shop");
  session.exec("SET allow_in_place_tablespaces = on");
  session.exec("CREATE TABLESPACE \"Fast one\" LOCATION ''");
  session.exec("CREATE TABLESPACE on_both LOCATION ''");
  auto other = pair.target.connect("shop");
  other.exec("SET allow_in_place_tablespaces = on");
  other.exec("CREATE TABLESPACE on_both LOCATION ''");
  session.exec(
      "CREATE TABLE app.t (i int PRIMARY KEY USING INDEX TABLESPACE \"Fast one\") TABLESPACE on_both; CREATE "
      "INDEX "
      "t_both ON app.t (i) TABLESPACE on_both; CREATE TABLE app.u (i int) TABLESPACE \"Fast one\"");
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), "", {}, pair.stop);
  archive.restore_pre_data(pair.target_info(), {});
  archive.restore_post_data(pair.target_info(), {}, 1);
  CHECK(pair.target.value(
            "shop",
            "SELECT string_agg(relname || ' ' || coalesce(spcname, '-'), ', ' ORDER BY relname) FROM "
            "pg_class c LEFT JOIN pg_tablespace s ON s.oid = reltablespace WHERE relnamespace = "
            "'app'::regnamespace") == "t on_both, t_both on_both, t_pkey -, u -");
}

TEST_CASE("the archive shows the schema of the snapshot it was given") {
  Pair pair;
  pair.source.sql("shop", "CREATE TABLE app.before (i int)");
  const HeldSnapshot held(pair.source);
  pair.source.sql("shop", "CREATE TABLE app.after (i int)");
  const snapshot::SchemaArchive archive(pair.tools(), pair.source_info(), held.name, {}, pair.stop);
  archive.restore_pre_data(pair.target_info(), {});
  CHECK(pair.target.value("shop", "SELECT to_regclass('app.before')"));
  CHECK_FALSE(pair.target.value("shop", "SELECT to_regclass('app.after')"));
  // Untouched rights of "public" stay what they were, whatever the target's version begins with.
  const auto public_rights =
      "SELECT coalesce(string_agg(privilege_type, ',' ORDER BY privilege_type), '') FROM pg_namespace n, "
      "aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a WHERE nspname = 'public' AND a.grantee = 0";
  CHECK(pair.target.value("shop", public_rights) == pair.source.value("shop", public_rights));
}

TEST_CASE("a foreign key that rows violate stays not valid and is named") {
  Pair pair;
  for (const auto* cluster : {&pair.source, &pair.target}) {
    cluster->sql("shop",
                 "CREATE SCHEMA IF NOT EXISTS app; CREATE TABLE app.\"A b\" (i int PRIMARY KEY); CREATE "
                 "TABLE app.c (i int, j int, k int);"
                 "INSERT INTO app.\"A b\" VALUES (1); INSERT INTO app.c VALUES (1, 7, 7)");
  }
  pair.source.sql(
      "shop",
      "SET session_replication_role = replica; ALTER TABLE app.c ADD CONSTRAINT good FOREIGN KEY (i) "
      "REFERENCES app.\"A b\";"
      "ALTER TABLE app.c ADD CONSTRAINT \"b\"\"ad\" FOREIGN KEY (j) REFERENCES app.\"A b\" NOT VALID;"
      "ALTER TABLE app.c ADD CONSTRAINT never FOREIGN KEY (k) REFERENCES app.\"A b\" NOT VALID;"
      "UPDATE pg_constraint SET convalidated = true WHERE conname = 'b\"ad'");
  const auto keys = pair.catalog().foreign_keys;
  REQUIRE(keys.size() == 3);
  auto target = pair.target.connect("shop");
  for (int round = 0; round < 2; ++round) {
    CHECK(snapshot::ensure_foreign_keys(target, keys) ==
          std::vector<std::string>{"\"app\".\"c\".\"b\"\"ad\""});
    CHECK(pair.target.value("shop",
                            "SELECT string_agg(conname || ' ' || convalidated, ', ' ORDER BY conname) FROM "
                            "pg_constraint WHERE contype = 'f'") == "b\"ad false, good true, never false");
  }
  pair.target.sql("shop", "UPDATE app.c SET j = 1");
  CHECK(snapshot::ensure_foreign_keys(target, keys).empty());
}

TEST_CASE("programs that are missing or of another version are refused with a remedy") {
  const base::Stop stop;
  CHECK(snapshot::SchemaTools::locate("", 12, stop).major >= 12);
  for (const auto& [bindir, major] : {std::pair("/nowhere", 12), std::pair("", 99)}) {
    try {
      snapshot::SchemaTools::locate(bindir, major, stop);
      FAIL("nothing was thrown");
    } catch (const base::Error& error) {
      CHECK(error.hint().find("--pg-bindir") != std::string::npos);
    }
  }
}

}  // namespace
