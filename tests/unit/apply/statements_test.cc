#include "replication/apply/statements.h"

#include <doctest/doctest.h>

#include "tests/unit/apply/fixtures.h"

using namespace replication::apply;

TEST_CASE("sets are one statement with one parameter, every name quoted and qualified") {
  auto table = apply_fixtures::table({"id", "a\"b", "Group"}, 1);
  CHECK(
      insert_sql(table) ==
      R"(INSERT INTO "s"."t" ("id", "a""b", "Group") OVERRIDING SYSTEM VALUE SELECT u."id", u."a""b", u."Group" )"
      R"(FROM pg_catalog.unnest($1::"s"."t"[]) AS u)");
  CHECK(delete_sql(table) == R"(DELETE FROM ONLY "s"."t" AS t USING pg_catalog.unnest($1::"s"."t"[]) AS u )"
                             R"(WHERE t."id" OPERATOR("pg_catalog".=) u."id")");
  CHECK(update_sql(table, {}) ==
        R"(UPDATE ONLY "s"."t" AS t SET "a""b" = u."a""b", "Group" = u."Group" )"
        R"(FROM pg_catalog.unnest($1::"s"."t"[]) AS u WHERE t."id" OPERATOR("pg_catalog".=) u."id")");
}

TEST_CASE("a guarded statement counts its rows and fails where there are others than given") {
  const auto table = apply_fixtures::table({"id", "a"}, 1);
  const auto sql = guarded_sql(insert_sql(table), "$2");
  CHECK(sql.starts_with("WITH done AS (INSERT INTO \"s\".\"t\""));
  CHECK(sql.find(" AS u RETURNING 1) SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.=) "
                 "$2::pg_catalog.int8 THEN 0") != std::string::npos);
  // Where there is nothing to set the rows are only looked at.
  const auto keys = apply_fixtures::table({"id", "a"}, 2);
  CHECK(guarded_sql(update_sql(keys, {}), "$2").find("RETURNING") == std::string::npos);
}

TEST_CASE("a row given by its values has a parameter for each column that is sent, and no casts") {
  auto table = apply_fixtures::table({"id", "a", "g", "b"}, 1);
  table.columns[2].generated = true;
  CHECK(value_columns(table, RowPart::all) == std::vector<std::size_t>{0, 1, 3});
  CHECK(insert_sql(table, Given::values) ==
        R"(INSERT INTO "s"."t" ("id", "a", "b") OVERRIDING SYSTEM VALUE SELECT u."id", u."a", u."b" )"
        R"(FROM (SELECT $1 AS "id", $2 AS "a", $3 AS "b") AS u)");
  CHECK(update_sql(table, {false, true, false, false}, Given::values) ==
        R"(UPDATE ONLY "s"."t" AS t SET "b" = u."b" FROM (SELECT $1 AS "id", $2 AS "a", $3 AS "b") AS u )"
        R"(WHERE t."id" OPERATOR("pg_catalog".=) u."id")");
  CHECK(delete_sql(table, Given::values) == R"(DELETE FROM ONLY "s"."t" AS t USING (SELECT $1 AS "id") AS u )"
                                            R"(WHERE t."id" OPERATOR("pg_catalog".=) u."id")");
}

TEST_CASE("columns that were not sent, keys and generated columns are not set") {
  auto table = apply_fixtures::table({"id", "a", "b", "g"}, 1);
  table.columns[3].generated = true;
  const auto sql = update_sql(table, {false, false, true, false});
  CHECK(sql.find(R"(SET "a" = u."a" FROM)") != std::string::npos);
  CHECK(insert_sql(table).find("\"g\"") == std::string::npos);
}

TEST_CASE("what only the target has is never written, and kept where a row is replaced") {
  auto table = apply_fixtures::table({"id", "own", "a"}, 1);
  table.columns[1].source = -1;
  for (const auto& sql : {insert_sql(table), update_sql(table, {}), update_one_sql(table, {})}) {
    CHECK_MESSAGE(sql.find("own") == std::string::npos, sql);
  }
  CHECK(insert_sql(table, Given::values).find("own") == std::string::npos);
  const auto replaced = replace_one_sql(table, {});
  CHECK_MESSAGE(
      replaced.find(R"(("id", "own", "a") OVERRIDING SYSTEM VALUE SELECT n."id", r."own", n."a")") !=
          std::string::npos,
      replaced);
  table.columns[1].generated = true;
  CHECK(replace_one_sql(table, {}).find("own") == std::string::npos);
}

TEST_CASE("an identity ALWAYS column is compared instead of set") {
  auto table = apply_fixtures::table({"id", "a", "n"}, 1);
  table.columns[2].identity = 'a';
  const auto sql = update_sql(table, {});
  CHECK(sql.find("SET \"a\" = u.\"a\" FROM") != std::string::npos);
  CHECK(sql.ends_with("AND t.\"n\" IS NOT DISTINCT FROM u.\"n\""));
}

TEST_CASE("an update with nothing to set counts the rows") {
  const auto table = apply_fixtures::table({"id", "a"}, 2);
  CHECK(update_sql(table, {}).starts_with("SELECT 1 FROM ONLY"));
}

TEST_CASE("without a key one row with the same image is touched, else one with the same text") {
  const auto table = apply_fixtures::table({"a", "b"}, 0, Matching::whole_row);
  CHECK(
      delete_one_sql(table) ==
      R"(DELETE FROM ONLY "s"."t" AS t WHERE t.ctid = COALESCE((SELECT x.ctid FROM ONLY "s"."t" AS x, )"
      R"(pg_catalog.unnest($1::"s"."t"[]) AS o WHERE ROW(x."a", x."b")::pg_catalog.record )"
      R"(OPERATOR(pg_catalog.*=) ROW(o."a", o."b")::pg_catalog.record LIMIT 1), (SELECT x.ctid FROM )"
      R"(ONLY "s"."t" AS x, pg_catalog.unnest($1::"s"."t"[]) AS o WHERE ROW(x."a", x."b")::pg_catalog.text )"
      R"(OPERATOR(pg_catalog.=) ROW(o."a", o."b")::pg_catalog.text LIMIT 1)))");
}

TEST_CASE("a partitioned target is written through its root, a plain one with ONLY") {
  auto plain = apply_fixtures::table({"id"}, 1);
  auto root = plain;
  root.partitioned = true;
  CHECK(delete_sql(root).starts_with("DELETE FROM \"s\".\"t\" AS t"));
  const std::vector<const TargetTable*> tables{&plain, &root};
  CHECK(truncate_sql(tables, {}, true) == "TRUNCATE ONLY \"s\".\"t\", \"s\".\"t\" RESTART IDENTITY");
  const std::vector<std::string> whole{"\"s\".\"p\""};
  CHECK(truncate_sql(tables, whole, false) == "TRUNCATE ONLY \"s\".\"t\", \"s\".\"t\", \"s\".\"p\"");
}
