#include "cutover/cli/options.h"

#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <map>
#include <unistd.h>

#include "replication/base/error.h"

using namespace cutover::cli;
using std::chrono::milliseconds;

namespace {

using Words = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

Invocation parse_with(const Words& words, const Variables& variables = {}) {
  return parse(words, [variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

const Words kSides{"--source", "host=/s dbname=shop", "--target=host=/t dbname=shop"};

Words with(Words words) {
  words.insert(words.end(), kSides.begin(), kSides.end());
  return words;
}

std::string refusal(const Words& words, const Variables& variables = {}) {
  try {
    parse_with(words, variables);
    return {};
  } catch (const base::UsageError& error) {
    return error.message() + " | " + error.hint();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct PlanFile {
  explicit PlanFile(const std::string& text) {
    const int fd = mkstemp(name);
    REQUIRE(fd >= 0);
    close(fd);
    std::ofstream(name) << text;
  }
  ~PlanFile() { unlink(name); }
  char name[32] = "/tmp/pgcutover-cli-XXXXXX";
};

}  // namespace

TEST_CASE("every verb is taken with two sides, by options alone") {
  for (const auto& verb : verbs()) {
    const auto invocation = parse_with(verb == "sequences"  ? with({verb, "list"})
                                       : verb == "journal"  ? with({verb, "stat"})
                                       : verb == "resync"   ? with({verb, "--table=t"})
                                       : verb == "throttle" ? with({verb, "--max-rate=0"})
                                                            : with({verb}));
    CHECK(invocation.verb == verb);
    CHECK((verb == "journal" || invocation.plan.name == "shop"));
    CHECK(invocation.plan.source.get("host") == "/s");
    CHECK(invocation.warnings.empty());
  }
}

TEST_CASE("options arrive where they belong") {
  const auto run = parse_with(with({"run",
                                    "-j",
                                    "7",
                                    "--index-jobs=3",
                                    "--max-pause",
                                    "900ms",
                                    "--exclude",
                                    "a.*",
                                    "--exclude",
                                    "b.*",
                                    "--exclude-columns",
                                    "a.b.c",
                                    "--exclude-columns=a.b.d*",
                                    "--accept",
                                    "wal-level",
                                    "--gate",
                                    "auto",
                                    "--keyless",
                                    "full",
                                    "--cancel-blockers",
                                    "--until",
                                    "copy",
                                    "-n",
                                    "my_move",
                                    "--sequence-headroom",
                                    "5",
                                    "--json",
                                    "--takeover",
                                    "--log-level",
                                    "debug",
                                    "--log-format",
                                    "json"}));
  CHECK(run.plan.copy_jobs == 7);
  CHECK(run.plan.index_jobs == 3);
  CHECK(run.plan.gates.max_pause == milliseconds(900));
  CHECK(run.plan.tables.exclude == Words{"a.*", "b.*"});
  CHECK(run.plan.tables.columns.exclude == Words{"a.b.c", "a.b.d*"});
  CHECK(run.plan.accepts({replication::base::Severity::blocks, "wal-level", "source", "", "", ""}));
  CHECK_FALSE(run.plan.gates.manual);
  CHECK(run.plan.keyless_full);
  CHECK(run.plan.gates.cancel_blockers);
  CHECK(run.until == "copy");
  CHECK(run.plan.name == "my_move");
  CHECK(run.plan.sequence_headroom == 5);
  CHECK(run.json);
  CHECK(run.takeover);
  CHECK(run.log_level == base::log::Level::debug);
  CHECK(run.log_format == base::log::Format::json);
  const auto finish = parse_with(with({"finish", "--timeout", "2h", "--yes"}));
  CHECK(finish.yes);
  CHECK(finish.timeout == milliseconds(7'200'000));
  CHECK(parse_with(with({"check", "--source-free-space", "1000"})).source_free_bytes == 1000);
  const auto report = parse_with(with({"report", "-o", "r.html"}));
  CHECK(report.output == "r.html");
  CHECK(report.format == "html");
  CHECK(parse_with(with({"report", "--json"})).format == "json");
  CHECK(parse_with(with({"status", "--watch", "--interval", "5s"})).interval == milliseconds(5000));
}

TEST_CASE("poolers can be given without a plan file") {
  const auto run = parse_with(with({"switch", "--pgbouncer", "admin='host=/p' database=shop ini=/etc/d.ini",
                                    "--pgbouncer", "admin='host=/q' database=shop2 ini=/etc/e.ini"}));
  REQUIRE(run.plan.apps.size() == 1);
  REQUIRE(run.plan.apps[0].pgbouncers.size() == 2);
  CHECK(run.plan.apps[0].pgbouncers[1].database == "shop2");
}

TEST_CASE("an unknown option or verb is refused with the nearest one") {
  CHECK(contains(refusal(with({"run", "--sorce=x"})), "unknown option --sorce | did you mean --source?"));
  CHECK(contains(refusal(with({"run", "--max-puase", "5s"})), "did you mean --max-pause?"));
  CHECK(contains(refusal(with({"run", "-x"})), "unknown option -x"));
  CHECK(contains(refusal(with({"swich"})), "unknown verb 'swich' | did you mean 'switch'?"));
  CHECK(contains(refusal(with({"sequences"})), "one of list, plan, bump, watch"));
  CHECK(contains(refusal(with({"sequences", "lsit"})), "did you mean 'list'?"));
  CHECK(contains(refusal(with({"drill"})), "is not in this version"));
  CHECK(contains(refusal(with({"resync"})), "which tables"));
  CHECK(contains(refusal(with({"run", "--until", "coppy"})), "did you mean 'copy'"));
  CHECK(contains(refusal({}), "no verb given"));
  CHECK(contains(refusal(with({"run", "switch"})), "one verb at a time"));
}

TEST_CASE("options are never abbreviated, doubled, or taken by a verb they don't belong to") {
  CHECK(contains(refusal(with({"run", "--max-pau", "5s"})), "unknown option"));
  CHECK(contains(refusal(with({"run", "--jobs", "1", "--jobs", "2"})), "--jobs is given twice"));
  CHECK(contains(refusal(with({"run", "--data-only", "--schema-only"})), "exclude each other"));
  CHECK(contains(refusal(with({"switch", "--reset-target"})), "--reset-target doesn't go with"));
  CHECK(contains(refusal(with({"status", "--until", "copy"})), "--until doesn't go with the verb 'status'"));
  CHECK(contains(refusal(with({"check", "--target-lost"})), "it goes with: rollback"));
}

TEST_CASE("wrong values are refused with the option's name") {
  CHECK(contains(refusal(with({"run", "--jobs", "0"})), "--jobs wants a whole number from 1 to 64, not '0'"));
  CHECK(contains(refusal(with({"run", "--jobs", "2x"})), "not '2x'"));
  CHECK(contains(refusal(with({"run", "--max-pause", "5"})), "--max-pause wants a duration"));
  CHECK(contains(refusal(with({"run", "--gate", "aut"})), "did you mean 'auto'?"));
  CHECK(contains(refusal({"run", "--source", "nonsense"}), "--source is no connection string"));
  CHECK(contains(refusal({"run", "--source", "host=/s"}), "no target given"));
  CHECK(contains(refusal({"run", "--source"}), "source"));
  CHECK(
      contains(refusal(with({"run"}), {{"PGCUTOVER_JOBS", "many"}}), "PGCUTOVER_JOBS wants a whole number"));
}

TEST_CASE("options are read from the environment, and the command line is stronger") {
  const Variables variables{{"PGCUTOVER_SOURCE", "host=/es dbname=env"},
                            {"PGCUTOVER_TARGET", "host=/et dbname=env"},
                            {"PGCUTOVER_MAX_PAUSE", "2s"},
                            {"PGCUTOVER_JSON", "1"},
                            {"PGCUTOVER_JOBS", ""},
                            {"PGCUTOVER_UNTIL", "copy"},
                            {"PGCUTOVER_YES", "1"}};
  const auto run = parse_with({"run", "--source=host=/s dbname=shop"}, variables);
  CHECK(run.plan.source.get("dbname") == "shop");
  CHECK(run.plan.target.get("dbname") == "env");
  CHECK(run.plan.gates.max_pause == milliseconds(2000));
  CHECK(run.json);
  CHECK(run.plan.copy_jobs == 2);
  CHECK(run.until == "");  // what confirms or limits one call is never taken from a shell's profile
  CHECK_FALSE(run.yes);
  CHECK_FALSE(parse_with(with({"run"}), {{"PGCUTOVER_JSON", "0"}}).json);
  CHECK(contains(refusal(with({"run"}), {{"PGCUTOVER_JSON", "perhaps"}}), "PGCUTOVER_JSON wants 1 or 0"));
}

TEST_CASE("a plan file is read first and options are stronger, and say so") {
  const PlanFile file(
      "source: host=/ps dbname=p\ntarget: host=/pt dbname=p\ncopy: {jobs: 5, index-jobs: 6}\n"
      "tables: {exclude: ['x.*']}\n");
  const auto run = parse_with(
      {"run", "--plan", file.name, "--source", "host=/s dbname=shop", "--jobs", "9", "--exclude", "y.*"},
      {{"PGCUTOVER_INDEX_JOBS", "8"}});
  CHECK(run.plan.source.get("host") == "/s");
  CHECK(run.plan.target.get("host") == "/pt");
  CHECK(run.plan.copy_jobs == 9);
  CHECK(run.plan.index_jobs == 8);
  CHECK(run.plan.tables.exclude == Words{"y.*"});
  REQUIRE(run.warnings.size() == 1);
  CHECK(contains(run.warnings[0], "--source is stronger than what"));
  CHECK(parse_with({"run"}, {{"PGCUTOVER_PLAN", file.name}}).plan.copy_jobs == 5);
  CHECK(contains(refusal({"run", "--plan", "/nonexistent"}), "can't read the plan file"));
}

TEST_CASE("a password on the command line is warned about without repeating it") {
  const auto run =
      parse_with({"run", "--source", "postgresql://u:geheimnis@h/d", "--target", "host=/t dbname=d"});
  REQUIRE(run.warnings.size() == 1);
  CHECK(contains(run.warnings[0], "--source"));
  CHECK(contains(run.warnings[0], "PGCUTOVER_SOURCE"));
  CHECK_FALSE(contains(run.warnings[0], "geheimnis"));
  CHECK(parse_with({"run", "--target", "host=/t dbname=d"},
                   {{"PGCUTOVER_SOURCE", "postgresql://u:geheimnis@h/d"}})
            .warnings.empty());
}

TEST_CASE("verbs that work with one server alone don't ask for the other") {
  CHECK(parse_with({"unfence", "--source", "host=/s dbname=shop"}).plan.target.empty());
  CHECK(parse_with({"cancel", "--source", "host=/s dbname=shop"}).plan.target.empty());
  CHECK(parse_with({"rollback", "--target-lost", "--source", "host=/s dbname=shop"}).target_lost);
  CHECK(contains(refusal({"rollback", "--source", "host=/s dbname=shop"}), "no target given"));
}

TEST_CASE("help and version are for stdout and need no server") {
  for (const Words& words : {Words{"--help"}, Words{"-?"}, Words{"help"}}) {
    const auto help = parse_with(words);
    CHECK(help.verb == "help");
    for (const std::string part :
         {"Usage:", "--source=CONNINFO", "PGCUTOVER_SOURCE", "Exit codes:", "130", "max-pause"}) {
      CHECK_MESSAGE(contains(help.text, part), part);
    }
    CHECK_FALSE(contains(help.text, "guardian"));
    CHECK_FALSE(contains(help.text, "list-fault-points"));
  }
  const auto one = parse_with({"rollback", "--help"});
  CHECK(contains(one.text, "--target-lost"));
  CHECK_FALSE(contains(one.text, "--watch"));
  CHECK(parse_with({"--version"}).text.starts_with("pgcutover "));
  CHECK(parse_with({"-V"}).verb == "version");
  CHECK(contains(refusal({"runn", "--help"}), "did you mean 'run'?"));
}

TEST_CASE("every line of the help fits a terminal") {
  const auto check = [](const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      CHECK_MESSAGE(end - at <= 130, text.substr(at, end - at));
      at = end + 1;
    }
  };
  check(help_text(""));
  for (const auto& verb : verbs()) {
    check(help_text(verb));
  }
}

TEST_CASE("hidden verbs need no plan") {
  CHECK(parse_with({"guardian"}).verb == "guardian");
  CHECK(parse_with({"list-fault-points"}).verb == "list-fault-points");
}
