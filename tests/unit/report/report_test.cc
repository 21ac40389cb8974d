#include "cutover/report/report.h"

#include <doctest/doctest.h>

#include "replication/base/error.h"
#include "replication/base/redaction.h"

using namespace cutover::report;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Report example() {
  Report report;
  report.name = "shop <script>alert('x')</script>";
  report.product_version = "0.1.0";
  report.who = "ops";
  report.host = "tool1";
  report.made_us = 1'795'305'512'000'000;
  report.plan_text = "source: \"host=old & more\"\n";
  report.status.state = "switched";
  report.status.writes_go_to = "target";
  report.status.switches = {{.direction = "switch",
                             .outcome = "done",
                             .pause_ms = 612,
                             .at_us = 1'795'305'512'000'000,
                             .fence_lsn = "0/AB",
                             .message = {}}};
  report.steps = {{.step = "copy",
                   .outcome = "done",
                   .message = "9 tables",
                   .began_us = 1'000'000,
                   .ended_us = 61'000'000}};
  report.fences = {{.server = "source",
                    .method = "CONNECT",
                    .marker = "m1",
                    .marker_lsn = "0/AA",
                    .at_us = 5,
                    .sessions_ended = 3,
                    .changes_after_marker = 0}};
  report.verify = {
      {.table = "public.a", .verdict = "equal", .detail = {}, .source_rows = 10, .target_rows = 10},
      {.table = "public.\"b\"",
       .verdict = "different",
       .detail = "id=7",
       .source_rows = 5,
       .target_rows = 4}};
  report.verified_us = 7;
  report.sequences = {{.sequence = "public.a_id_seq",
                       .from = 10,
                       .target_value = 10'010,
                       .source_value = 20'010,
                       .clipped = true}};
  report.copied = CopyRecord{.tables = 3,
                             .rows = 70,
                             .bytes = 4'000'000,
                             .tables_before = 1,
                             .bytes_before = 1'000'000,
                             .seconds = 1.5,
                             .left_out = {{"app.a", "left out by include and exclude"},
                                          {"app.u", "unlogged"},
                                          {"app.b", "left out by include and exclude"}}};
  report.conflicts = {{.at_us = 9,
                       .direction = "forward",
                       .table = "public.a",
                       .key = "id=3",
                       .kind = "missing",
                       .lsn = "0/9",
                       .made_by = "target"}};
  return report;
}

}  // namespace

TEST_CASE("a report that is written as JSON and read again is the same") {
  const auto report = example();
  const auto json = to_json(report);
  const auto again = from_json(json);
  CHECK(to_json(again) == json);
  CHECK(to_html(again) == to_html(report));
  CHECK(again.sequences.at(0).clipped);
  CHECK(again.conflicts.at(0).made_by == "target");
  CHECK(again.fences.at(0).sessions_ended == 3);
  CHECK(again.verify.at(1).target_rows == 4);
  REQUIRE(again.copied);
  CHECK(copy_text(*again.copied) ==
        "3 tables, 70 rows, 4.0 MB in 1.5 s (1 tables by an earlier run), 2.0 MB/s; left out by include and "
        "exclude: app.a, app.b; unlogged: app.u");
  CHECK(contains(to_html(report), "app.u"));
  CHECK_FALSE(from_json(to_json(Report{})).copied);
}

TEST_CASE("the page escapes every text and loads nothing") {
  const auto html = to_html(example());
  CHECK_FALSE(contains(html, "<script"));
  CHECK(contains(html, "shop &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
  CHECK(contains(html, "host=old &amp; more"));
  CHECK(contains(html, "public.&quot;b&quot;"));
  CHECK_FALSE(contains(html, "src="));
  CHECK_FALSE(contains(html, "href="));
  CHECK(contains(html, "default-src 'none'"));
}

TEST_CASE("the page says the pause, the comparison and what was not equal") {
  const auto html = to_html(example());
  CHECK(contains(html, "0.6 s"));
  CHECK(contains(html, "1 of 2 tables are equal"));
  CHECK(contains(html, "<td class=\"bad\">different</td>"));
  CHECK(contains(html, "1m00s"));
  CHECK(contains(html, "10010"));
  CHECK(contains(html, "missing"));
}

TEST_CASE("an empty report claims nothing") {
  const auto html = to_html(Report{});
  CHECK(contains(html, "Nothing was compared."));
  CHECK_FALSE(contains(html, "tables are equal"));
}

TEST_CASE("secrets are in neither form") {
  replication::base::register_secret("hunter2hunter2");
  auto report = example();
  report.plan_text = "source: postgresql://u:geheimnis@h/d\n";
  report.steps[0].message = "password hunter2hunter2 in a text";
  report.verify[0].detail = "password='also secret'";
  for (const auto& text : {to_json(report), to_html(report)}) {
    CHECK_FALSE(contains(text, "geheimnis"));
    CHECK_FALSE(contains(text, "hunter2"));
    CHECK_FALSE(contains(text, "also secret"));
  }
}
