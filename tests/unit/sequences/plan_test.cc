#include <doctest/doctest.h>
#include <limits>
#include <string>

#include "replication/base/error.h"
#include "sequences/sequences.h"
#include "tests/unit/sequences/random.h"

namespace sequences {
namespace {

constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
constexpr auto kMin = std::numeric_limits<std::int64_t>::min();

Sequence used(std::int64_t last_value, std::int64_t increment = 1) {
  Sequence sequence;
  sequence.schema = "public";
  sequence.name = "s";
  sequence.last_value = last_value;
  sequence.is_called = true;
  sequence.increment = increment;
  sequence.minimum = increment > 0 ? 1 : kMin;
  sequence.maximum = increment > 0 ? kMax : -1;
  return sequence;
}

Sequence unused(std::int64_t last_value, std::int64_t increment = 1) {
  auto sequence = used(last_value, increment);
  sequence.is_called = false;
  return sequence;
}

Bump only(const BumpPlan& plan) {
  REQUIRE(plan.bumps.size() == 1);
  return plan.bumps[0];
}

TEST_CASE("the target goes ahead by the headroom and the source by twice as much") {
  const auto plan = plan_bumps({used(100)}, {used(7)}, 50);
  const auto bump = only(plan);
  CHECK(bump.from == 100);
  CHECK(bump.target_value == 150);
  CHECK(bump.source_value == 200);
  CHECK(bump.is_called);
  CHECK_FALSE(bump.clipped);
  CHECK(plan.findings.empty());
}

TEST_CASE("headroom counts increments and follows their direction") {
  const auto up = only(plan_bumps({used(100, 10)}, {used(10, 10)}, 5));
  CHECK(up.target_value == 150);
  CHECK(up.source_value == 200);
  const auto down = only(plan_bumps({used(-100, -10)}, {used(-10, -10)}, 5));
  CHECK(down.target_value == -150);
  CHECK(down.source_value == -200);
}

TEST_CASE("a target that is further ahead stays where it is") {
  const auto bump = only(plan_bumps({used(100)}, {used(5000)}, 50));
  CHECK(bump.target_value == 5000);
  CHECK(bump.source_value == 5050);
}

TEST_CASE("a sequence nobody used is copied unused, without headroom") {
  const auto bump = only(plan_bumps({unused(42)}, {unused(1)}, 50));
  CHECK_FALSE(bump.is_called);
  CHECK(bump.target_value == 42);
  CHECK(bump.source_value == 42);
}

TEST_CASE("a first value set ahead on the target survives an unused source") {
  const auto bump = only(plan_bumps({unused(1)}, {unused(1000)}, 50));
  CHECK_FALSE(bump.is_called);
  CHECK(bump.target_value == 1000);
  CHECK(bump.source_value == 1000);
}

TEST_CASE("an unused source is set behind a target that was used") {
  const auto bump = only(plan_bumps({unused(1)}, {used(500)}, 50));
  CHECK(bump.is_called);
  CHECK(bump.target_value == 500);
  CHECK(bump.source_value == 550);
}

TEST_CASE("an unused source whose first value lies ahead of a used target is copied") {
  const auto bump = only(plan_bumps({unused(1000)}, {used(500)}, 50));
  CHECK_FALSE(bump.is_called);
  CHECK(bump.target_value == 1000);
}

TEST_CASE("a cycling sequence is copied exactly, used or not, even backwards") {
  auto closing = used(10);
  closing.cycle = true;
  auto opening = used(900);
  opening.cycle = true;
  const auto bump = only(plan_bumps({closing}, {opening}, 50));
  CHECK(bump.cycle);
  CHECK(bump.target_value == 10);
  CHECK(bump.source_value == 10);
  CHECK(bump.is_called);
}

TEST_CASE("a smallint near its limit shrinks the headroom and warns") {
  auto sequence = used(32'000);
  sequence.maximum = 32'767;
  const auto plan = plan_bumps({sequence}, {sequence}, 1000);
  const auto bump = only(plan);
  CHECK(bump.clipped);
  CHECK(bump.target_value == 32'255);
  CHECK(bump.source_value == 32'510);
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-near-limit");
  CHECK(plan.findings[0].severity == base::Severity::warns);
  CHECK(plan.findings[0].message.find("767 values left") != std::string::npos);
}

TEST_CASE("the limit of an integer column counts though the sequence is bigint") {
  auto sequence = used(2'147'483'000);
  sequence.column_limit = std::numeric_limits<std::int32_t>::max();
  sequence.used_by = {"public.orders.id"};
  const auto plan = plan_bumps({sequence}, {used(1)}, 1'000'000);
  const auto bump = only(plan);
  CHECK(bump.clipped);
  CHECK(bump.source_value < std::numeric_limits<std::int32_t>::max());
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].message.find("public.orders.id") != std::string::npos);
}

TEST_CASE("a sequence without room blocks") {
  auto sequence = used(32'766);
  sequence.maximum = 32'767;
  const auto plan = plan_bumps({sequence}, {sequence}, 10);
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-exhausted");
  CHECK(plan.findings[0].severity == base::Severity::blocks);
  CHECK(only(plan).target_value == 32'766);
}

TEST_CASE("a sequence at its limit on the opening side only blocks, and the message says which side it is") {
  auto closing = used(5);
  auto opening = used(32'767);
  closing.maximum = opening.maximum = 32'767;
  const auto plan = plan_bumps({closing}, {opening}, 10);
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-exhausted");
  CHECK(plan.findings[0].message ==
        "sequence public.s has 0 values left before its limit 32767, since the side that opens is at 32767 "
        "already");
}

TEST_CASE("a sequence our role may not set blocks by name, and is left alone where that is accepted") {
  for (const bool closes : {true, false}) {
    auto closing = used(5);
    auto opening = used(5);
    (closes ? closing : opening).settable = false;
    const auto plan = plan_bumps({closing}, {opening}, 10);
    CHECK(plan.bumps.empty());
    REQUIRE(plan.findings.size() == 1);
    CHECK(plan.findings[0].id == "sequence-privilege");
    CHECK(plan.findings[0].severity == base::Severity::blocks);
    CHECK((plan.findings[0].message.find("the side that closes") != std::string::npos) == closes);
    CHECK(plan.findings[0].remedy.starts_with("GRANT UPDATE ON SEQUENCE \"public\".\"s\""));
  }
}

TEST_CASE("the ends of 64 bits don't overflow") {
  auto up = used(kMin);
  up.minimum = kMin;
  CHECK(only(plan_bumps({up}, {up}, kMax)).clipped);
  const auto last = only(plan_bumps({used(kMax)}, {used(kMax)}, kMax));
  CHECK(last.target_value == kMax);
  CHECK(last.source_value == kMax);
  const auto down = only(plan_bumps({used(kMin, kMin)}, {used(kMin, kMin)}, kMax));
  CHECK(down.target_value == kMin);
}

TEST_CASE("a sequence missing on the opening side blocks, one that is only there warns") {
  auto other = used(3);
  other.name = "other";
  const auto plan = plan_bumps({used(1)}, {other}, 10);
  CHECK(plan.bumps.empty());
  REQUIRE(plan.findings.size() == 2);
  CHECK(plan.findings[0].id == "sequence-missing");
  CHECK(plan.findings[0].object == "public.s");
  CHECK(plan.findings[0].severity == base::Severity::blocks);
  CHECK(plan.findings[1].id == "sequence-only-there");
  CHECK(plan.findings[1].object == "public.other");
  CHECK(plan.findings[1].severity == base::Severity::warns);
}

TEST_CASE("another increment or cycle option on the other side blocks and is not bumped") {
  const auto plan = plan_bumps({used(1, 1)}, {used(1, 2)}, 10);
  CHECK(plan.bumps.empty());
  REQUIRE_FALSE(plan.findings.empty());
  CHECK(plan.findings[0].id == "sequence-differs");
  CHECK(plan.findings[0].severity == base::Severity::blocks);
  auto cycling = used(1);
  cycling.cycle = true;
  CHECK(plan_bumps({used(1)}, {cycling}, 10).bumps.empty());
}

TEST_CASE("a column that another sequence feeds on the other side blocks, one of that side alone doesn't") {
  auto old_one = used(10);
  auto new_one = used(500);
  new_one.name = "s2";
  auto there = new_one;
  new_one.used_by = {"public.t.id"};
  auto stale = old_one;
  stale.used_by = {"public.t.id", "public.only_there.id"};
  const auto plan = plan_bumps({old_one, new_one}, {stale, there}, 10);
  REQUIRE(plan.findings.size() == 1);
  CHECK(plan.findings[0].id == "sequence-differs");
  CHECK((plan.findings[0].severity == base::Severity::blocks));
  CHECK(plan.findings[0].message ==
        "column public.t.id is fed by public.s2 on the side that closes and by public.s on the side that "
        "opens");
  // Owned by it, with another one's default.
  old_one.used_by = {"public.t.id"};
  CHECK(plan_bumps({old_one, new_one}, {stale, there}, 10).findings.size() == 1);
  there.used_by = {"public.t.id"};
  CHECK(plan_bumps({old_one, new_one}, {stale, there}, 10).findings.empty());
}

TEST_CASE("another maximum on the other side warns, and the nearer one counts") {
  auto narrow = used(1);
  narrow.maximum = 100;
  const auto plan = plan_bumps({used(1)}, {narrow}, 1000);
  CHECK(only(plan).source_value <= 100);
  CHECK(plan.findings.front().id == "sequence-differs");
  CHECK(plan.findings.front().severity == base::Severity::warns);
}

TEST_CASE("no headroom is refused") {
  CHECK_THROWS_AS(plan_bumps({}, {}, 0), base::UsageError);
  CHECK_THROWS_AS(plan_bumps({}, {}, -1), base::UsageError);
}

// What must hold for any pair of sequences, used ones that don't cycle.
void check_properties(const Sequence& closing, const Sequence& opening, std::int64_t headroom) {
  const auto bump = only(plan_bumps({closing}, {opening}, headroom));
  const bool up = closing.increment > 0;
  const auto at_least = [up](std::int64_t value, std::int64_t than) {
    return up ? value >= than : value <= than;
  };
  CAPTURE(closing.last_value);
  CAPTURE(opening.last_value);
  CAPTURE(closing.increment);
  CAPTURE(headroom);
  CHECK(at_least(bump.target_value, closing.last_value));  // beyond all that the source handed out
  CHECK(at_least(bump.target_value, opening.last_value));  // never backwards, target
  CHECK(at_least(bump.source_value, bump.target_value));   // never backwards, source
  CHECK(at_least(up ? closing.maximum : closing.minimum, bump.source_value));
  const auto reached =
      at_least(opening.last_value, closing.last_value) ? opening.last_value : closing.last_value;
  const auto limit = up ? closing.maximum : closing.minimum;
  const auto step =
      up ? static_cast<std::uint64_t>(closing.increment) : 0 - static_cast<std::uint64_t>(closing.increment);
  const auto distance = [up](std::int64_t from, std::int64_t to) {
    return up ? static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from)
              : static_cast<std::uint64_t>(from) - static_cast<std::uint64_t>(to);
  };
  const auto left = distance(reached, limit) / step;
  if (left >= 4) {
    CHECK(bump.source_value != bump.target_value);  // each side has ids of its own...
    CHECK(bump.source_value != limit);              // ...and the source some for the way back
  }
  if (!bump.clipped) {
    CHECK(distance(bump.target_value, bump.source_value) == step * static_cast<std::uint64_t>(headroom));
  }
  // The way back: the roles change, both sides have handed out their whole ranges' first ids.
  auto target = opening;
  target.last_value = bump.target_value;
  auto source = closing;
  source.last_value = bump.source_value;
  const auto back = only(plan_bumps({target}, {source}, headroom));
  CHECK(at_least(back.target_value, bump.source_value));
  CHECK(at_least(back.source_value, back.target_value));
}

TEST_CASE("no random pair of sequences moves backwards, overlaps or leaves its limits") {
  Random pick;
  INFO(pick.seed_text());
  for (int round = 0; round < 20'000; ++round) {
    const bool wide = pick(0, 1) == 0;
    const std::int64_t reach = wide ? kMax : pick(1, 100'000);
    const auto step = pick(1, wide && pick(0, 3) == 0 ? kMax : 1000);
    Sequence closing = used(0, pick(0, 1) == 0 ? step : -step);
    closing.minimum = -reach;
    closing.maximum = reach;
    Sequence opening = closing;
    closing.last_value = pick(-reach, reach);
    opening.last_value = pick(-reach, reach);
    check_properties(closing, opening, pick(0, 5) == 0 ? kMax : pick(1, 10'000));
  }
}

}  // namespace
}  // namespace sequences
