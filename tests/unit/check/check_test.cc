#include "cutover/check/check.h"

#include <doctest/doctest.h>
#include <set>

#include "cutover/check/context.h"
#include "replication/base/error.h"

using cutover::check::bytes_text;
using cutover::check::list_text;
using replication::base::Finding;
using replication::base::Severity;

TEST_CASE("ids are stable: kebab-case, each once, each explained") {
  std::set<std::string_view> seen;
  for (const auto& kind : cutover::check::finding_kinds()) {
    CAPTURE(kind.id);
    CHECK(seen.insert(kind.id).second);
    CHECK(kind.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos);
    CHECK_FALSE(kind.about.empty());
  }
  CHECK(seen.size() >= 35);
}

TEST_CASE("only findings that block, block") {
  Finding finding;
  finding.severity = Severity::warns;
  CHECK_FALSE(cutover::check::blocks({}));
  CHECK_FALSE(cutover::check::blocks({finding}));
  Finding other = finding;
  other.severity = Severity::blocks;
  CHECK(cutover::check::blocks({finding, other}));
}

TEST_CASE("long lists are cut and say by how much") {
  CHECK(list_text({}) == "");
  CHECK(list_text({"a"}) == "a");
  CHECK(list_text({"a", "b", "c"}, 3) == "a, b, c");
  CHECK(list_text({"a", "b", "c"}, 2) == "a, b and 1 more");
}

TEST_CASE("bytes are readable") {
  CHECK(bytes_text(0) == "0 bytes");
  CHECK(bytes_text(1023) == "1023 bytes");
  CHECK(bytes_text(1024) == "1.0 kB");
  CHECK(bytes_text(150.0 * 1024 * 1024) == "150 MB");
  CHECK(bytes_text(1.5 * 1024 * 1024 * 1024) == "1.5 GB");
}

TEST_CASE("an id that can't be found is refused with the nearest one") {
  cutover::check::require_known_ids(
      {"unlogged-tables", "unlogged-tables:public.a:b", "lag", "sequence-overflow"});
  try {
    cutover::check::require_known_ids({"matviews", "unloged-table:public.a"});
    FAIL("nothing was thrown");
  } catch (const replication::base::UsageError& error) {
    CHECK(error.message() == "there is no finding 'unloged-table' to accept");
    CHECK(error.hint() == "did you mean 'unlogged-tables'?");
  }
}
