#include "replication/snapshot/toc.h"

#include <doctest/doctest.h>

namespace {

using namespace replication::snapshot;

constexpr const char* kHead =
    ";\n; Archive created at 2026-11-21 23:00:00 UTC\n;     dbname: FK CONSTRAINT shop\n;\n; Selected TOC "
    "Entries:\n;\n";

TEST_CASE("foreign keys and the data of matviews are left out, everything else is kept in order") {
  const std::string kept =
      "3330; 2606 16395 CONSTRAINT public t t_pkey shop\n"
      "3334; 1259 16400 INDEX public MATERIALIZED VIEW DATA shop\n"
      "3340; 0 0 COMMENT public CONSTRAINT fk ON t shop\n"
      "3341; 2620 16410 TRIGGER public t FK CONSTRAINT shop\n";
  const std::string list = std::string(kHead) +
                           "3330; 2606 16395 CONSTRAINT public t t_pkey shop\n"
                           "3331; 2606 16396 FK CONSTRAINT public orders orders_fk shop\n"
                           "3334; 1259 16400 INDEX public MATERIALIZED VIEW DATA shop\n"
                           "3332; 0 16398 MATERIALIZED VIEW DATA public totals shop\n"
                           "3340; 0 0 COMMENT public CONSTRAINT fk ON t shop\n"
                           "3341; 2620 16410 TRIGGER public t FK CONSTRAINT shop\n";
  CHECK(keep_for_post_data(list) == kHead + kept);
  CHECK(has_entries(keep_for_post_data(list)));
}

TEST_CASE("a list of nothing but what is left out is empty") {
  const auto kept = keep_for_post_data(std::string(kHead) + "1; 2606 2 FK CONSTRAINT public a b c\n");
  CHECK(kept == kHead);
  CHECK_FALSE(has_entries(kept));
  CHECK_FALSE(has_entries(""));
  CHECK_FALSE(has_entries("; 1; 2 3 TABLE\n12 TABLE\n12; x 3 TABLE\n"));
}

}  // namespace
