#include "sequences/headroom.h"

#include <chrono>
#include <doctest/doctest.h>
#include <limits>

#include "sequences/ledger.h"
#include "sequences/rate.h"
#include "tests/unit/sequences/random.h"

namespace sequences {
namespace {

constexpr auto kMax = std::numeric_limits<std::int64_t>::max();

Sequence at(std::int64_t last_value, std::int64_t maximum = kMax, std::int64_t increment = 1) {
  Sequence sequence;
  sequence.schema = "public";
  sequence.name = "s";
  sequence.last_value = last_value;
  sequence.is_called = true;
  sequence.increment = increment;
  sequence.minimum = increment > 0 ? 1 : -maximum;
  sequence.maximum = increment > 0 ? maximum : -1;
  return sequence;
}

Demand demand(double rate, std::int64_t sessions = 0) {
  return {{{{"public", "s"}, rate}}, sessions};
}

Range range(std::string server, bool opens, std::int64_t start, std::optional<std::int64_t> until,
            std::int64_t handed_out = 0) {
  Range one;
  one.schema = "public";
  one.name = "s";
  one.server = std::move(server);
  one.opens = opens;
  one.start = start;
  one.until = until;
  one.handed_out = handed_out;
  return one;
}

TEST_CASE("the need is rate times both windows times safety, and the cache of every session") {
  auto sequence = at(0);
  sequence.cache = 1000;
  const HeadroomRule rule{.window_seconds = 600, .rollback_window_seconds = 3000, .safety = 2};
  CHECK(needed_increments(sequence, demand(10, 7), kMax, rule) == 10 * 3600 * 2 + 7000);
  CHECK(needed_increments(sequence, demand(0.001), kMax, rule) == 10'000);  // the floor
  CHECK(needed_increments(sequence, demand(0.001), 32'767, rule) == 327);   // that fits the type
  CHECK(needed_increments(sequence, demand(0), 5, rule) == 1);
  CHECK(needed_increments(sequence, demand(1e300), kMax, rule) == std::numeric_limits<std::uint64_t>::max());
  CHECK(needed_increments(sequence, demand(10), kMax, HeadroomRule{.fixed = 5}) == 5);
}

TEST_CASE("a need that doesn't fit is refused with the numbers and a remedy, and cut for who accepts it") {
  auto sequence = at(2'000'000'000);
  sequence.column_limit = std::numeric_limits<std::int32_t>::max();
  sequence.used_by = {"public.profile.id"};
  const auto plan = plan_bumps({sequence}, {at(1)}, demand(1000), HeadroomRule{});
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-overflow");
  CHECK(plan.findings[0].severity == base::Severity::blocks);
  CHECK(plan.findings[0].message.find("180000000 values (1000 ids/s x (3600 s + 86400 s) x 2") !=
        std::string::npos);
  CHECK(plan.findings[0].message.find("147483647 values left before its limit 2147483647") !=
        std::string::npos);
  CHECK(plan.findings[0].remedy.find("rollback-window") != std::string::npos);
  REQUIRE(plan.bumps.size() == 1);
  CHECK(plan.bumps[0].clipped);
  CHECK(plan.bumps[0].source_value < std::numeric_limits<std::int32_t>::max());
}

TEST_CASE("a cycling sequence gets no headroom, and a finding that says why") {
  auto sequence = at(5, 10);
  sequence.cycle = true;
  const auto plan = plan_bumps({sequence}, {sequence}, demand(1), HeadroomRule{});
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-cycles");
  CHECK(plan.bumps.at(0).source_value == 5);
}

TEST_CASE("with both sides live a sequence nobody has used gets two ranges as well") {
  auto unused = at(1);
  unused.is_called = false;
  const auto bump =
      plan_bumps({unused}, {unused}, demand(0), HeadroomRule{.fixed = 100}, Traffic::both_sides).bumps.at(0);
  CHECK(bump.is_called);
  CHECK(bump.target_value == 101);
  CHECK(bump.source_value == 201);
  CHECK(bump.source_end == 301);
}

TEST_CASE("ids that are further in the data than the sequence says count") {
  auto sequence = at(10);
  sequence.highest = 5000;
  CHECK(plan_bumps({sequence}, {at(10)}, demand(0), HeadroomRule{.fixed = 10}).bumps.at(0).target_value ==
        5010);
}

TEST_CASE("two looks give the rate in increments a second, in either direction") {
  RateObserver observer;
  const base::Clock::time_point begin{};
  CHECK(observer.look({at(100, kMax, 10)}, begin).empty());
  CHECK(observer.look({at(600, kMax, 10)}, begin + std::chrono::seconds(5)).at({"public", "s"}) ==
        doctest::Approx(10));
  CHECK(observer.look({at(600, kMax, 10)}, begin + std::chrono::seconds(10)).empty());
  CHECK(
      observer.look({at(300, kMax, 10)}, begin + std::chrono::seconds(15)).empty());  // somebody set it back
  auto down = at(-100, kMax, -2);
  observer.look({down}, begin + std::chrono::seconds(20));
  down.last_value = -140;
  CHECK(observer.look({down}, begin + std::chrono::seconds(30)).at({"public", "s"}) == doctest::Approx(2));
}

TEST_CASE("a jump that no nextval made is no use, and one whose nextvals are reported late is") {
  RateObserver observer;
  const base::Clock::time_point begin{};
  const Name name{"public", "s"};
  int second = 0;
  const auto rate = [&](std::int64_t last_value, std::int64_t reads, std::int64_t cache = 1) {
    auto sequence = at(last_value);
    sequence.cache = cache;
    const auto rates = observer.look({sequence}, begin + std::chrono::seconds(second += 10), {{name, reads}});
    const auto found = rates.find(name);
    return found == rates.end() ? 0.0 : found->second;
  };
  rate(0, 0);
  CHECK(rate(1000, 1003) == doctest::Approx(100));
  CHECK(rate(1'000'001'000, 1010) == 0);  // setval
  CHECK(rate(1'000'001'100, 1113) == doctest::Approx(10));
  CHECK(rate(1'000'001'100, 1120) == 0);  // our own looks
  SUBCASE("a long transaction") {
    RateObserver fresh;
    observer = fresh;
    rate(0, 0);
    CHECK(rate(5000, 2) < 1);
    CHECK(rate(5000, 5012) == doctest::Approx(500));
    CHECK(rate(5000, 10'000) == 0);
  }
  SUBCASE("a cache") {
    CHECK(rate(1'000'002'100, 1121, 1000) == doctest::Approx(100));
  }
  SUBCASE("the counters were reset") {
    CHECK(rate(1'000'001'200, 3) == doctest::Approx(10));
  }
}

TEST_CASE("ranges that meet are seen, in either direction, with and without an end") {
  CHECK(overlap(range("source", false, 10, 30), range("target", true, 20, 40)));
  CHECK(overlap(range("source", false, 10, std::nullopt), range("target", true, 20, 40)));
  CHECK_FALSE(overlap(range("source", false, 40, std::nullopt), range("target", true, 20, 40)));
  CHECK_FALSE(overlap(range("source", false, 40, 60), range("target", true, 20, 40)));
  auto down = range("source", false, -10, -30);
  auto other = range("target", true, -30, -50);
  down.increment = other.increment = -1;
  CHECK_FALSE(overlap(down, other));
  other.start = -29;
  CHECK(overlap(down, other));
}

TEST_CASE("with both sides live a range holds the caches of the sessions, also where it is fixed") {
  auto sequence = at(0);
  sequence.cache = 1000;
  const HeadroomRule fixed{.fixed = 10};
  const auto live = [&](std::int64_t sessions) {
    return plan_bumps({sequence}, {sequence}, demand(0, sessions), fixed, Traffic::both_sides);
  };
  CHECK(live(0).bumps.at(0).target_value == 10'000);
  CHECK(live(20).bumps.at(0).target_value == 21'000);
  CHECK(plan_bumps({sequence}, {sequence}, demand(0), fixed).bumps.at(0).target_value == 10);
  sequence.maximum = 5000;
  CHECK(live(0).findings.at(0).id == "sequence-overflow");
}

TEST_CASE("an id is attributed to the side whose range has it, over a switch and a rollback") {
  std::vector<Range> ledger{range("target", true, 200, 300, 100),
                            range("source", false, 300, std::nullopt, 100)};
  const auto side = [&](std::int64_t value) { return attribute(ledger, "public", "s", value); };
  CHECK(side(100) == "source");  // from before the switch
  CHECK(side(150) == "");        // nobody's
  CHECK(side(200) == "");
  CHECK(side(201) == "target");
  CHECK(side(300) == "target");
  CHECK(side(301) == "source");
  ledger.push_back(range("source", true, 400, 500, 250));
  ledger.push_back(range("target", false, 500, std::nullopt, 250));
  CHECK(side(250) == "target");
  CHECK(side(350) == "");  // the source never handed these out: its range was replaced by the next
  CHECK(side(450) == "source");
  CHECK(side(501) == "target");
  CHECK(side(1) == "source");
  CHECK(attribute(ledger, "public", "other", 1) == "");
}

TEST_CASE("half of a range warns, four fifths ask for another, and outside of it is an alarm") {
  const auto mine = range("target", true, 1000, 2000);
  CHECK(usage(mine, at(1499), 10, true).state == RangeState::fine);
  const auto half = usage(mine, at(1500), 10, true);
  CHECK(half.state == RangeState::half_used);
  CHECK(half.used_share == doctest::Approx(0.5));
  CHECK(half.seconds_left == doctest::Approx(50));
  CHECK(usage(mine, at(1800), 0, true).state == RangeState::nearly_used);
  CHECK(usage(mine, at(2001), 0, true).state == RangeState::used_up);
  CHECK(usage(mine, at(3000), 0, true).state == RangeState::used_up);
  CHECK(usage(mine, at(3001), 0, true).state == RangeState::outside);
  CHECK(usage(mine, at(999), 0, true).state == RangeState::outside);
  const auto parked = range("source", false, 2000, std::nullopt);
  CHECK(usage(parked, at(2000), 0, false).state == RangeState::fine);
  CHECK(usage(parked, at(2001), 0, false).state == RangeState::outside);
}

TEST_CASE("a closed side is set behind the open side's range once, and further when 80 % are used") {
  const HeadroomRule rule{.fixed = 1000};
  std::vector<Range> ledger{range("target", true, 1100, 2100, 100)};
  auto closed = at(100);
  const auto plan = [&](std::int64_t open_at) {
    return plan_closed({at(open_at)}, {closed}, ledger, "target", demand(0), rule);
  };
  REQUIRE(plan(1103).size() == 1);
  CHECK(plan(1103)[0].source_value == 2100);
  closed.last_value = 2100;
  CHECK(plan(1103).empty());  // twice is once
  CHECK(plan(1800).empty());
  REQUIRE(plan(1900).size() == 1);
  CHECK(plan(1900)[0].source_value == 2900);
  CHECK(plan(1900)[0].target_value == 1100);
  closed.last_value = 2900;
  ledger.push_back(range("target", true, 1100, 2900, 1100));
  CHECK(plan(1900).empty());
  ledger.clear();
  closed = at(1);
  closed.is_called = false;
  REQUIRE(plan(7).size() == 1);  // nobody had used it before the switch: its first range
  CHECK(plan(7)[0].source_value == 1007);
}

TEST_CASE(
    "however an open side uses its ranges, the closed one is never behind, never set back, and planned "
    "once") {
  Random pick;
  INFO(pick.seed_text());
  for (int round = 0; round < 2'000; ++round) {
    const bool up = pick(0, 1) == 0;
    const std::int64_t step = pick(1, 50);
    const std::int64_t reach = pick(0, 1) == 0 ? 32'767 : 2'147'483'647;
    const HeadroomRule rule{.fixed = pick(0, 1) == 0 ? 0 : pick(1, 3'000)};
    const auto at_least = [up](std::int64_t value, std::int64_t than) {
      return up ? value >= than : value <= than;
    };
    auto open = at(up ? 1 : -1, reach, up ? step : -step);
    auto closed = open;
    closed.is_called = pick(0, 1) == 0;
    std::vector<Range> ledger;
    const auto plan = [&] { return plan_closed({open}, {closed}, ledger, "target", demand(0), rule); };
    for (int look = 0; look < 20; ++look) {
      // By a part of the headroom, or far past it; in whole steps, not beyond the limit.
      const auto left = (reach - std::abs(open.last_value)) / step;
      open.last_value +=
          open.increment * std::min<std::int64_t>(left, pick(0, pick(0, 3) == 0 ? 30'000 : 900));
      const auto before = closed;
      for (const auto& bump : plan()) {
        closed.last_value = bump.source_value;
        closed.is_called = bump.is_called;
        ledger.push_back(range("target", true, bump.target_value, bump.source_value));
        ledger.back().increment = bump.increment;
      }
      CAPTURE(open.last_value);
      CAPTURE(closed.last_value);
      CHECK(plan().empty());
      CHECK(at_least(closed.last_value, before.last_value));
      CHECK(at_least(closed.last_value, open.last_value));
      CHECK(at_least(up ? reach : -reach, closed.last_value));
      REQUIRE_FALSE(ledger.empty());
      CHECK(at_least(closed.last_value, *ledger.back().until));
    }
  }
}

TEST_CASE("what a crash or a setval took back counts as handed out, and is set again before its side opens") {
  const std::vector<Range> ledger{range("source", false, 2100, std::nullopt),
                                  range("target", true, 1100, 2100, 100)};
  auto reset = at(1);
  reset.is_called = false;
  const auto counted = [&](Sequence sequence, const std::string& server) {
    std::vector<Sequence> all{std::move(sequence)};
    count_abandoned(all, ledger, server);
    return all[0].highest;
  };
  CHECK(counted(reset, "target") == 2100);
  CHECK(counted(at(700), "target") == 2100);
  CHECK(counted(reset, "source") == 2100);  // no end is known: at least its start
  CHECK_FALSE(counted(at(1100), "target"));
  CHECK_FALSE(counted(at(2100), "source"));
  CHECK_FALSE(counted(at(5), "elsewhere"));
  auto known = reset;
  known.highest = 9000;
  CHECK(counted(known, "target") == 9000);

  const auto lost = lost_values({reset}, ledger, "target");
  REQUIRE(lost.size() == 1);
  CHECK(lost[0].target_value == 1100);
  CHECK(lost[0].source_value == 2100);
  CHECK(lost[0].from == 100);
  CHECK(lost_values({at(1100)}, ledger, "target").empty());
  CHECK(lost_values({reset}, ledger, "source").empty());  // the last hand-over didn't open that one
}

TEST_CASE("a sequence that forgot its ids is no unused one, and an unlogged one is refused with a remedy") {
  auto closing = at(1);
  closing.is_called = false;
  auto opening = closing;
  closing.unlogged = true;
  closing.highest = 1;  // the one that it would hand out next
  const auto plan = plan_bumps({closing}, {opening}, 50);
  REQUIRE(plan.bumps.size() == 1);
  CHECK(plan.bumps[0].is_called);
  CHECK(plan.bumps[0].target_value == 51);
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-unlogged");
  CHECK(plan.findings[0].severity == base::Severity::blocks);
  CHECK(plan.findings[0].remedy == "ALTER SEQUENCE \"public\".\"s\" SET LOGGED on both sides");
}

TEST_CASE("no random pair of live sides gets ranges that overlap, move backwards or leave the limits") {
  Random pick;
  INFO(pick.seed_text());
  for (int round = 0; round < 20'000; ++round) {
    const std::int64_t step = pick(1, 50);
    const std::int64_t reach = pick(0, 1) == 0 ? 32'767 : 2'147'483'647;
    const bool up = pick(0, 1) == 0;
    Sequence source = at(0, reach, up ? step : -step);
    Sequence target = source;
    source.last_value = (up ? 1 : -1) * pick(1, reach);
    target.last_value = (up ? 1 : -1) * pick(1, reach);
    const auto rates = demand(static_cast<double>(pick(0, 2000)) / 10, pick(0, 100));
    const auto plan = plan_bumps({source}, {target}, rates, HeadroomRule{}, Traffic::both_sides);
    const auto& bump = plan.bumps.at(0);
    const auto at_least = [up](std::int64_t value, std::int64_t than) {
      return up ? value >= than : value <= than;
    };
    CAPTURE(source.last_value);
    CAPTURE(target.last_value);
    CAPTURE(source.increment);
    CHECK(at_least(bump.target_value, source.last_value));
    CHECK(at_least(bump.target_value, target.last_value));
    CHECK(at_least(bump.source_value, bump.target_value));
    REQUIRE(bump.source_end);
    CHECK(at_least(*bump.source_end, bump.source_value));
    CHECK(at_least(up ? reach : -reach, *bump.source_end));
    const bool refused = !plan.findings.empty() && plan.findings[0].severity == base::Severity::blocks;
    CHECK(bump.clipped == refused);
    if (!refused) {
      const auto need = needed_increments(source, rates, 0, HeadroomRule{});  // without the floor
      CHECK(static_cast<std::uint64_t>(std::abs(*bump.source_end - bump.source_value)) >=
            need * static_cast<std::uint64_t>(step));
    }
  }
}

}  // namespace
}  // namespace sequences
