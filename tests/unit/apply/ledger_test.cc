#include "replication/apply/ledger.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"

using namespace replication::apply;
using replication::base::Bug;
using replication::base::Lsn;

TEST_CASE("what was received was written, folded or left out, in each table on its own") {
  Ledger ledger;
  auto& orders = ledger["public.orders"];
  orders = {.received = 10, .filtered = 2, .echoed = 1, .folded = 3, .moved = 1, .rows = 5, .conflicts = 1};
  CHECK_NOTHROW(check_ledger(ledger, Lsn{0x16}));
  CHECK(orders.applied() == 3);
  CHECK(orders.received ==
        orders.applied() + orders.folded + orders.filtered + orders.echoed + orders.conflicts);

  SUBCASE("one lost") {
    --orders.rows;
  }
  SUBCASE("one sent twice") {
    ++orders.rows;
  }
  SUBCASE("one lost here, one too many there: the sum is right") {
    --orders.rows;
    ++ledger["public.items"].rows;
  }
  try {
    check_ledger(ledger, Lsn{0x16});
    FAIL("nothing was noticed");
  } catch (const Bug& bug) {
    const std::string what = bug.message();
    CHECK(what.find("public.") != std::string::npos);
    CHECK(what.find("rows sent") != std::string::npos);
    CHECK(what.find("0/16") != std::string::npos);
  }
}

TEST_CASE("ledgers add up table by table") {
  Ledger ledger{{"a", {.received = 1, .rows = 1}}};
  add(ledger, {{"a", {.received = 2, .filtered = 2}}, {"b", {.received = 4, .rows = 4}}});
  CHECK(ledger["a"].received == 3);
  CHECK(ledger["b"].rows == 4);
  CHECK(sum(ledger).received == 7);
  CHECK(sum(ledger).filtered == 2);
}
