#include "replication/stream/publication.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"
#include "tests/integration/stream/stream_env.h"

using namespace replication;
using namespace stream_test;

namespace {

constexpr const char* kName = "pub \"1\"";
constexpr const char* kQuoted = "\"pub \"\"1\"\"\"";

std::string published(postgres::Connection& connection) {
  return connection.one_value(
      "SELECT string_agg(schemaname || '.' || tablename, ',' ORDER BY schemaname, tablename) "
      "FROM pg_publication_tables WHERE pubname = $1",
      postgres::Params{kName});
}

}  // namespace

TEST_CASE("a publication lists the tables and the marker, and a second call changes nothing") {
  Database database;
  auto connection = database.sql();
  stream::ensure_publication(connection, kName, database.tables());
  const auto before = published(connection);
  CHECK(before == "Odd \"Schema\".select,pgcutover.marker");
  const auto oid = connection.one_value("SELECT oid FROM pg_publication");
  stream::ensure_publication(connection, kName, database.tables());
  CHECK(published(connection) == before);
  CHECK(connection.one_value("SELECT oid FROM pg_publication") == oid);
  stream::drop_publication(connection, kName);
  stream::drop_publication(connection, kName);
  CHECK(connection.one_value("SELECT count(*) FROM pg_publication") == "0");
}

TEST_CASE("another list of tables under the same name is refused, and named") {
  Database database;
  auto connection = database.sql();
  stream::ensure_publication(connection, kName, database.tables());
  database.exec("CREATE TABLE public.new_one (id int PRIMARY KEY)");
  CHECK_THROWS_WITH_AS(stream::ensure_publication(connection, kName, database.tables()),
                       doctest::Contains("it lacks \"public\".\"new_one\""), base::StateError);
  database.exec(std::string("ALTER PUBLICATION ") + kQuoted + " ADD TABLE public.new_one");
  stream::ensure_publication(connection, kName, database.tables());
  auto without = database.tables();
  std::erase_if(without, [](const catalog::Table& table) { return table.name == "new_one"; });
  CHECK_THROWS_WITH_AS(stream::ensure_publication(connection, kName, without),
                       doctest::Contains("it has \"public\".\"new_one\" too much"), base::StateError);
}

TEST_CASE("a publication that leaves out a part of the same tables is refused") {
  Database database;
  auto connection = database.sql();
  stream::ensure_publication(connection, kName, database.tables());
  database.exec(std::string("ALTER PUBLICATION ") + kQuoted + " SET (publish = 'insert, update, truncate')");
  CHECK_THROWS_WITH_AS(stream::ensure_publication(connection, kName, database.tables()),
                       doctest::Contains("leaves out deletes"), base::StateError);
  database.exec(std::string("ALTER PUBLICATION ") + kQuoted +
                " SET (publish = 'insert, update, delete, truncate')");
  if (connection.server_major() >= 15) {
    database.exec(std::string("ALTER PUBLICATION ") + kQuoted + " SET TABLE pgcutover.marker, " + kTable +
                  " WHERE (\"Id\" <> 'x')");
    CHECK_THROWS_WITH_AS(stream::ensure_publication(connection, kName, database.tables()),
                         doctest::Contains("it filters rows"), base::StateError);
    database.exec(std::string("ALTER PUBLICATION ") + kQuoted + " SET TABLE pgcutover.marker, " + kTable +
                  " (\"Id\")");
    CHECK_THROWS_WITH_AS(stream::ensure_publication(connection, kName, database.tables()),
                         doctest::Contains("it lists columns"), base::StateError);
  }
  if (connection.server_major() >= 13) {
    stream::drop_publication(connection, kName);
    stream::ensure_publication(connection, kName, database.tables());
    database.exec(std::string("ALTER PUBLICATION ") + kQuoted + " SET (publish_via_partition_root = true)");
    CHECK_THROWS_WITH_AS(stream::ensure_publication(connection, kName, database.tables()),
                         doctest::Contains("partition root"), base::StateError);
  }
}

TEST_CASE(
    "children of plain inheritance and partitions are published exactly once, under what catalog lists") {
  Database database;
  database.exec("CREATE TABLE public.parent (id int PRIMARY KEY)");
  database.exec("CREATE TABLE public.child (PRIMARY KEY (id)) INHERITS (public.parent)");
  database.exec("CREATE TABLE public.split (id int PRIMARY KEY) PARTITION BY RANGE (id)");
  database.exec("CREATE TABLE public.split_1 PARTITION OF public.split FOR VALUES FROM (0) TO (10)");
  auto connection = database.sql();
  stream::ensure_publication(connection, kName, database.tables());
  stream::ensure_publication(connection, kName, database.tables());
  const auto tables = published(connection);
  CHECK(tables.find("public.child,public.parent") != std::string::npos);
  CHECK(tables.find("public.split_1") != std::string::npos);
}
