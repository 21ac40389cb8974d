#include "cutover/state/status.h"

#include <doctest/doctest.h>

#include "cutover/state/records.h"
#include "cutover/state/terminal.h"
#include "replication/base/error.h"

using namespace cutover::state;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Status example() {
  Status status;
  status.name = "shop";
  status.state = "copying";
  status.step = "copy";
  status.progress = {.step = "copy",
                     .done = 6'300'000'000,
                     .total = 10'000'000'000,
                     .unit = "bytes",
                     .seconds = 63,
                     .current = "public.orders"};
  status.source = {.address = "host=old",
                   .database = "shop",
                   .version = "15.18",
                   .database_bytes = 12'345'678'901,
                   .reachable = true,
                   .takes_writes = true};
  status.target = {.address = "host=new",
                   .database = "shop",
                   .version = "18.4",
                   .database_bytes = 1,
                   .reachable = true,
                   .takes_writes = false};
  status.primary = "source";
  status.writes_go_to = "source";
  status.copy = {.tables_done = 3,
                 .tables_total = 9,
                 .bytes_done = 6'300'000'000,
                 .bytes_total = 10'000'000'000,
                 .rows_done = 1'234'567};
  StreamStatus stream;
  stream.direction = "forward";
  stream.connected = true;
  stream.received_lsn = "1/2";
  stream.applied_lsn = "1/1";
  stream.transactions = 12;
  stream.changes = 10'000'000'000;
  stream.applied = 9'999'999'997;
  stream.compacted = 1;
  stream.filtered = 1;
  stream.conflicts = 1;
  stream.changes_per_second = 1500;
  stream.lag_seconds = 0.2;
  stream.lag_bytes = 4096;
  stream.counted_from_lsn = "0/AA";
  stream.counted_since_us = 7;
  stream.tables = {{.table = "public.a",
                    .received = 20,
                    .applied = 10,
                    .compacted = 4,
                    .filtered = 3,
                    .echoes = 2,
                    .conflicts = 1}};
  stream.tables_left_out = 5;
  status.streams = {stream};
  status.slots = {{.name = "pgcutover_shop",
                   .server = "source",
                   .wal_status = "reserved",
                   .retained_bytes = 5,
                   .safe_bytes = -1,
                   .runway_seconds = 7200}};
  status.conflicts = {{.at_us = 9,
                       .direction = "forward",
                       .table = "public.a",
                       .key = "id = 3",
                       .kind = "update_missing",
                       .lsn = "0/9",
                       .made_by = "source"}};
  status.switches = {{.direction = "switch",
                      .outcome = "done",
                      .pause_ms = 612.5,
                      .at_us = 1'795'305'512'000'000,
                      .fence_lsn = "0/AB",
                      .message = {}}};
  status.controller = {.host = "tool1",
                       .version = "0.1.0",
                       .pid = 42,
                       .epoch = 3,
                       .alive = true,
                       .since_us = 1'795'305'000'000'000};
  status.findings = {{.severity = base::Severity::warns,
                      .id = "collation",
                      .server = "target",
                      .object = "c",
                      .message = "m",
                      .remedy = "r"},
                     {.severity = base::Severity::blocks,
                      .id = "wal-level",
                      .server = "source",
                      .object = {},
                      .message = "wal_level is replica",
                      .remedy = "ALTER SYSTEM ..."}};
  status.message = "switch when ready";
  status.at_us = 1'795'305'512'123'456;
  return status;
}

}  // namespace

TEST_CASE("a status that is written as JSON and read again is the same") {
  const auto status = example();
  const auto json = to_json(status);
  const auto again = from_json(json);
  CHECK(to_json(again) == json);
  CHECK(again.progress.done == 6'300'000'000);
  CHECK(again.streams.at(0).changes == 10'000'000'000);
  CHECK(again.streams.at(0).lag_seconds == doctest::Approx(0.2));
  CHECK(again.slots.at(0).safe_bytes == -1);
  CHECK(again.conflicts.at(0).made_by == "source");
  CHECK(
      contains(render_text(again), "public.a id = 3: update_missing, forward at 0/9, id made by the source"));
  CHECK(again.switches.at(0).pause_ms == doctest::Approx(612.5));
  CHECK(again.findings.at(1).severity == base::Severity::blocks);
  CHECK(again.controller.alive);
  CHECK(again.at_us == 1'795'305'512'123'456);
  CHECK(render_text(again) == render_text(status));
}

TEST_CASE("every field is printed, also where it is zero or unknown") {
  const auto json = to_json(Status{});
  for (const std::string field :
       {"\"writesGoTo\":\"\"", "\"takesWrites\":false", "\"databaseBytes\":\"-1\"", "\"switches\":[]"}) {
    CHECK_MESSAGE(contains(json, field), field);
  }
}

TEST_CASE("unknown fields are ignored and other text is refused") {
  CHECK(from_json(R"({"name":"a","aFieldOfTheFuture":[1,{"b":2}]})").name == "a");
  CHECK(from_json("{}").source.database_bytes == -1);
  for (const std::string wrong :
       {"", "nonsense", "[]", "{\"name\":{}}", "{\"atUs\":\"x\"}", "{\"name\":\"a\""}) {
    CHECK_THROWS_AS(from_json(wrong), base::Error);
  }
}

TEST_CASE("bytes that are no UTF-8 and secrets never reach the JSON") {
  Status status;
  status.name = std::string("a\xff\xc0\x80") + '\0' + "b\xe2\x82\xac\xed\xa0\x80\xf5z";
  status.message = "connect to postgresql://u:geheimnis@h/d";
  const auto json = to_json(status);
  CHECK_FALSE(contains(json, "geheimnis"));
  const auto again = from_json(json);
  CHECK(again.name == "a????b\xe2\x82\xac????z");
}

TEST_CASE("records of the state tables come back as they were written") {
  const CommandRequest request{
      .id = 1, .verb = "switch", .arguments = {{"yes", "1"}}, .asked_by = "me", .at_us = 5};
  CHECK(command_request_from_json(to_json(request)).arguments == request.arguments);
  const CommandReply reply{
      .id = 1, .finished = true, .exit_code = 6, .message = "m", .hint = "h", .output = "line\nline\n"};
  const auto reply_again = command_reply_from_json(to_json(reply));
  CHECK(reply_again.exit_code == 6);
  CHECK(reply_again.finished);
  CHECK(reply_again.output == reply.output);
}

TEST_CASE("the progress line is short and says percent, rate, time left and lag") {
  CHECK(progress_line(example()) ==
        "copy 63 % 6.3/10.0 GB 100 MB/s ETA 37.0 s (public.orders) | lag 0.2 s 1500 changes/s 1 CONFLICTS");
  Status status;
  status.state = "streaming";
  CHECK(progress_line(status) == "streaming");
  status.streams.emplace_back();
  status.streams[0].direction = "reverse";
  CHECK(progress_line(status) == "streaming | reverse not connected");
}

TEST_CASE("a hundred percent is said only when everything is done") {
  Status status;
  status.progress = {
      .step = "copy", .done = 999'999, .total = 1'000'000, .unit = "rows", .seconds = 0, .current = {}};
  CHECK(contains(progress_line(status), "99 %"));
  status.progress.done = 1'000'000;
  CHECK(contains(progress_line(status), "100 %"));
  status.progress.done = 1'200'000;  // the total was an estimate
  CHECK_FALSE(contains(progress_line(status), "120 %"));
}

TEST_CASE("the text for people says who takes writes, blocking findings first") {
  const auto text = render_text(example());
  CHECK(contains(text, "writes      go to the source"));
  CHECK(contains(text, "pause 612 ms"));
  CHECK(contains(text, "lasts 2h00m"));
  CHECK(text.find("BLOCKS  wal-level") < text.find("warns   collation"));
  CHECK(contains(text, "HINT: ALTER SYSTEM ..."));
  Status held;
  held.writes_go_to = "nobody";
  CHECK(contains(render_text(held), "are held"));
  CHECK(contains(render_text(Status{}), "writes      unknown"));
}

TEST_CASE("numbers are written for people") {
  CHECK(bytes_text(-1) == "unknown");
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(999) == "999 B");
  CHECK(bytes_text(1'000) == "1.0 kB");
  CHECK(bytes_text(999'999) == "1.0 MB");
  CHECK(bytes_text(1'234'567'890) == "1.2 GB");
  CHECK(bytes_text(9'223'372'036'854'775'807) == "9223 PB");
  CHECK(seconds_text(-1) == "unknown");
  CHECK(seconds_text(0.0042) == "0.004 s");
  CHECK(seconds_text(3.42) == "3.4 s");
  CHECK(seconds_text(59.99) == "1m00s");
  CHECK(seconds_text(3'725) == "1h02m");
  CHECK(seconds_text(864'000) == "10 days");
  CHECK(seconds_text(1e300) == "36500 days");
  CHECK(time_text(0) == "unknown");
  CHECK(time_text(1'795'305'512'999'999) == "2026-11-21 23:58:32 UTC");
}

namespace {

struct Screen {
  std::string written;
  std::vector<std::string> logged;
  std::chrono::steady_clock::time_point now{};
  Terminal::Hooks hooks() {
    return {.write = [this](const std::string& text) { written += text; },
            .log = [this](const std::string& line) { logged.push_back(line); },
            .now = [this] { return now; },
            .width = [] { return 20; }};
  }
};

}  // namespace

TEST_CASE("a terminal shows one line, cut to its width and wiped at the end") {
  Screen screen;
  {
    Terminal terminal(true, screen.hooks());
    terminal.show("copy", "a line that is longer than the screen\n\033[31m");
    CHECK(screen.written == "\r\033[Ka line that is long");
    terminal.show("copy", "soon after");  // too soon to be drawn
    CHECK_FALSE(contains(screen.written, "soon"));
    screen.now += std::chrono::seconds(1);
    terminal.show("copy", "later");
    CHECK(contains(screen.written, "later"));
  }
  CHECK(screen.written.ends_with("\r\033[K"));
  CHECK(screen.logged.empty());
}

TEST_CASE("without a terminal there is a log line at a change and one a minute") {
  Screen screen;
  Terminal terminal(false, screen.hooks());
  terminal.show("copy", "1");
  terminal.show("copy", "2");
  screen.now += std::chrono::seconds(59);
  terminal.show("copy", "3");
  CHECK(screen.logged == std::vector<std::string>{"1"});
  screen.now += std::chrono::seconds(1);
  terminal.show("copy", "4");
  terminal.show("indexes", "5");
  CHECK(screen.logged == std::vector<std::string>{"1", "4", "5"});
  CHECK(screen.written.empty());
}

TEST_CASE("tables under way are shown up to a number, and a rate of late is stronger than the average") {
  auto status = example();
  status.progress.rate = 370'000'000;
  for (int i = 0; i < 13; ++i) {
    status.copy.tables.push_back({.table = "public.t" + std::to_string(i),
                                  .state = i == 12 ? "waiting" : "copying",
                                  .bytes_done = 500,
                                  .bytes_total = 1000,
                                  .rows = 7,
                                  .sent_bytes = 0,
                                  .since_us = 1});
  }
  const auto text = render_text(from_json(to_json(status)));
  CHECK(contains(text, "370 MB/s ETA 10.0 s"));
  CHECK(contains(text, "copying     public.t9 50 %, 500 B/1.0 kB, 7 rows, since"));
  CHECK(!contains(text, "public.t10 "));
  CHECK(contains(text, "and 2 more tables"));
  CHECK(!contains(text, "public.t12"));
}
