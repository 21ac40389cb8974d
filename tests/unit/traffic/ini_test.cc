#include "cutover/traffic/ini.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"

using namespace cutover::traffic;
using cutover::plan::Address;
using replication::base::Error;

namespace {

const Address kOld{"/old", "5432", "shop"};
const Address kNew{"10.0.0.2", "6000", "shop_new"};

const std::string kIni =
    "; comment with shop = host=/decoy\n"
    "%include other.ini\n"
    "[databases]\n"
    "other = host=/x\n"
    "  shop =   host=/old  user=app password='a ''b''' pool_size=5  pool_mode=session \r\n"
    "# shop = host=/decoy\n"
    "shop2 = host=/y\n"
    "[pgbouncer]\n"
    "shop = 1\n"
    "listen_port = 6432";

}  // namespace

TEST_CASE("a database's line is found in its section alone, with pgbouncer's defaults") {
  const auto entry = find_entry(kIni, "shop");
  REQUIRE(entry);
  CHECK(entry->address == kOld);
  CHECK(entry->pool_mode == "session");
  CHECK(find_entry(kIni, "other")->address == Address{"/x", "5432", "other"});
  CHECK_FALSE(find_entry(kIni, "sho"));
  CHECK_FALSE(find_entry(kIni, "listen_port"));
  CHECK_FALSE(find_entry("", "shop"));
  CHECK(find_entry("shop = host=a\n", "shop"));  // included from within [databases]
  CHECK_FALSE(find_entry("[pgbouncer]\nshop = host=a\n", "shop"));
  CHECK(find_entry("[databases]\nshop =", "shop")->address == Address{"", "5432", "shop"});
  CHECK(find_entry("\"a \"\"b\" = host = h port= 7 dbname ='x y'", "a \"b")->address ==
        Address{"h", "7", "x y"});
}

TEST_CASE("lines that can't be understood or chosen are refused") {
  CHECK_THROWS_AS(find_entry("shop = host=a\nshop = host=b\n", "shop"), Error);
  CHECK_THROWS_AS(find_entry("shop = host='a\n", "shop"), Error);
  CHECK_THROWS_AS(find_entry("shop = host\n", "shop"), Error);
  CHECK_THROWS_AS(point_entry(kIni, "nosuch", kNew), Error);
  CHECK_THROWS_AS(point_entry(kIni, "shop", Address{"a\nb", "1", "c"}), Error);
}

TEST_CASE("only host, port and dbname of the one line change, the old line stays as a comment") {
  const auto moved = point_entry(kIni, "shop", kNew);
  CHECK(moved ==
        "; comment with shop = host=/decoy\n"
        "%include other.ini\n"
        "[databases]\n"
        "other = host=/x\n"
        ";pgcutover keeps:   shop =   host=/old  user=app password='a ''b''' pool_size=5  pool_mode=session "
        "\r\n"
        "  shop =   host=10.0.0.2  user=app password='a ''b''' pool_size=5  pool_mode=session port=6000 "
        "dbname=shop_new \r\n"
        "# shop = host=/decoy\n"
        "shop2 = host=/y\n"
        "[pgbouncer]\n"
        "shop = 1\n"
        "listen_port = 6432");
  CHECK(find_entry(moved, "shop")->address == kNew);
}

TEST_CASE("moving back restores every byte") {
  for (const std::string& ini : {kIni, std::string("shop = host=/old"), std::string("shop=host=/old\n"),
                                 std::string("[databases]\nshop = host=/old port=5432\n"),
                                 std::string("x = host=a\n\n\nshop\t=\thost=/old\n\n")}) {
    const auto moved = point_entry(ini, "shop", kNew);
    CHECK(moved != ini);
    CHECK(find_entry(moved, "shop")->address == kNew);
    CHECK(point_entry(moved, "shop", kOld) == ini);
  }
}

TEST_CASE("moving to where it points already changes nothing") {
  CHECK(point_entry(kIni, "shop", kOld) == kIni);
  const auto moved = point_entry(kIni, "shop", kNew);
  CHECK(point_entry(moved, "shop", kNew) == moved);
}

TEST_CASE("a third place keeps the first line") {
  const Address third{"third", "1", "z"};
  const auto twice = point_entry(point_entry(kIni, "shop", kNew), "shop", third);
  CHECK(find_entry(twice, "shop")->address == third);
  CHECK(point_entry(twice, "shop", kOld) == kIni);
}

TEST_CASE("addresses with blanks and quotes are written so that they are read back") {
  for (const Address& to :
       {Address{"/run/my db", "5432", "it's"}, Address{"h", "1", "'"}, Address{"h", "1", "a\"b"}}) {
    CHECK(find_entry(point_entry(kIni, "shop", to), "shop")->address == to);
  }
}

TEST_CASE("every value of a doubled parameter is changed") {
  const auto moved = point_entry("shop = host=a host=b port=1 dbname=c\n", "shop", kNew);
  CHECK(moved.find("host=a host=b port=1 dbname=c") == moved.rfind("host=a host=b port=1 dbname=c"));
  CHECK(moved.find("\nshop = host=10.0.0.2 host=10.0.0.2 port=6000 dbname=shop_new\n") != std::string::npos);
}

TEST_CASE("a probe goes below the line and away again without a trace") {
  for (const std::string& ini : {kIni, std::string("shop = host=/old"), std::string("shop = host=/old\n")}) {
    const auto probed = add_probe(ini, "shop", "pgcutover_probe_1");
    CHECK(find_entry(probed, "pgcutover_probe_1"));
    CHECK(find_entry(probed, "shop")->address == kOld);
    CHECK(without_probes(probed).starts_with(ini));
    CHECK(without_probes(probed).size() <= ini.size() + 1);  // a last line without newline has one now
    CHECK(without_probes(add_probe(probed, "shop", "pgcutover_probe_2")) == without_probes(probed));
    CHECK(point_entry(point_entry(probed, "shop", kNew), "shop", kOld) == probed);
  }
  CHECK_THROWS_AS(add_probe(kIni, "nosuch", "pgcutover_probe_1"), Error);
}
