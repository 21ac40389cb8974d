#include "replication/apply/duplicates.h"

#include <doctest/doctest.h>

#include "tests/integration/apply/stage.h"

using namespace apply_stage;

TEST_CASE("rows that break a constraint which isn't enforced while changes are applied are found") {
  Stage stage("duplicates");
  stage.target(
      "CREATE TABLE d (id int PRIMARY KEY DEFERRABLE, \"u X\" text, n int, UNIQUE (\"u X\", n) DEFERRABLE);"
      "CREATE TABLE x (r int4range, grp int, live bool, EXCLUDE USING gist (r WITH &&) WHERE (live) "
      "DEFERRABLE);"
      "CREATE TABLE p (id int, part int, UNIQUE (id, part) DEFERRABLE) PARTITION BY LIST (part);"
      "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);"
      "CREATE TABLE plain (id int PRIMARY KEY)");
  std::vector<replication::catalog::Table> tables;
  for (const std::string name : {"d", "x", "p", "plain"}) {
    tables.emplace_back();
    tables.back().schema = "public";
    tables.back().name = name;
  }
  auto connection = target_server().connect("duplicates");
  const auto find = [&] {
    std::string text;
    for (const auto& duplicate : apply::find_duplicates(connection, tables, soon())) {
      text += duplicate.table + " " + duplicate.constraint + " " + duplicate.key + " " +
              std::to_string(duplicate.rows) + "\n";
    }
    return text;
  };
  stage.target(
      "INSERT INTO d VALUES (1, 'a', 1), (2, NULL, 1), (3, NULL, 1); INSERT INTO p VALUES (1, 1);"
      "INSERT INTO x VALUES ('[1,5)', 1, true), ('[5,9)', 1, true), ('[2,3)', 1, false)");
  CHECK(find().empty());
  stage.target(
      "SET session_replication_role = replica; INSERT INTO d VALUES (1, 'b', 1), (1, 'a', 1);"
      "INSERT INTO x VALUES ('[4,6)', 2, true); INSERT INTO p VALUES (1, 1)");
  CHECK(find() ==
        "public.d d_pkey (1) 3\n"
        "public.d d_u X_n_key (a,1) 2\n"
        "public.x x_r_excl (\"[1,5)\") 2\n"
        "public.x x_r_excl (\"[5,9)\") 2\n"
        "public.p p_id_part_key (1,1) 2\n");
}
