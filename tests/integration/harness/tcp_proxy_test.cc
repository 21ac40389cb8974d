#include "tests/harness/tcp_proxy.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "tests/harness/cluster.h"
#include "tests/harness/wait.h"

using harness::Cluster;
using harness::Deadline;
using harness::milliseconds;
using replication::base::Clock;
using replication::base::Error;
namespace postgres = replication::postgres;

namespace {

postgres::Connection connect(const harness::TcpProxy& proxy, milliseconds limit = milliseconds(10'000)) {
  postgres::SessionOptions session;
  session.connect_timeout = limit;
  return postgres::Connection::open(
      postgres::ConnInfo::parse(proxy.conninfo("postgres", "postgres"), "proxy"), session,
      replication::base::Stop::never());
}

}  // namespace

TEST_CASE("a proxy forwards large answers and can delay them") {
  const Cluster cluster({.name = "behind"});
  harness::TcpProxy proxy(cluster.host(), Cluster::kPort);
  auto connection = connect(proxy);
  CHECK(proxy.connections() == 1);
  CHECK(connection.one_value("SELECT repeat('x', 5000000)").size() == 5'000'000);
  CHECK(proxy.bytes_from_server() > 5'000'000);
  proxy.set_delay(milliseconds(100));
  const auto begin = Clock::now();
  connection.exec("SELECT 1");
  CHECK(Clock::now() - begin >= milliseconds(200));  // there and back
}

TEST_CASE("a cut line is a lost connection, and a new one works") {
  const Cluster cluster({.name = "behind"});
  harness::TcpProxy proxy(cluster.host(), Cluster::kPort);
  auto connection = connect(proxy);
  proxy.cut();
  harness::wait_until(Deadline::in(milliseconds(180'000)), "the line is gone",
                      [&] { return proxy.connections() == 0; });
  CHECK_THROWS_AS(connection.exec("SELECT 1"), Error);
  CHECK_FALSE(connection.usable());
  CHECK(connect(proxy).one_value("SELECT 1") == "1");
  proxy.set_refusing(true);
  CHECK_THROWS_AS(connect(proxy), Error);
}

TEST_CASE("a line is cut before an exact byte from the server") {
  const Cluster cluster({.name = "behind"});
  harness::TcpProxy proxy(cluster.host(), Cluster::kPort);
  auto connection = connect(proxy);
  const auto before = proxy.bytes_from_server();
  proxy.cut_after(1000);
  CHECK_THROWS_AS(connection.exec("SELECT repeat('x', 5000)"), Error);
  CHECK(proxy.bytes_from_server() - before == 999);
  CHECK(connect(proxy).one_value("SELECT 2") == "2");
}

TEST_CASE("a silent line starves its client without an end, and delivers afterwards") {
  const Cluster cluster({.name = "behind"});
  harness::TcpProxy proxy(cluster.host(), Cluster::kPort);
  cluster.sql("postgres", "CREATE TABLE t(id int)");
  auto connection = connect(proxy);
  proxy.set_silent(true);
  CHECK_THROWS_AS(connection.exec("INSERT INTO public.t VALUES (1)", Deadline::in(milliseconds(300))), Error);
  CHECK_THROWS_AS(connect(proxy, milliseconds(300)), Error);
  CHECK(cluster.value("postgres", "SELECT count(*) FROM t") == "0");
  proxy.set_silent(false);
  CHECK(connect(proxy).one_value("SELECT 3") == "3");
}
