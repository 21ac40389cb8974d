#include "tests/demo/acts.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "replication/base/error.h"
#include "tests/harness/wait.h"

namespace demo {

namespace base = replication::base;
using base::Deadline;
using base::Error;
using base::milliseconds;

namespace {

constexpr milliseconds kVerbLimit{300'000};
constexpr std::size_t kLogLines = 30;

std::string end_of(const std::string& text) {
  std::size_t at = text.size();
  for (std::size_t lines = 0; at > 0 && lines <= kLogLines; --at) {
    lines += text[at - 1] == '\n' ? 1 : 0;
  }
  return text.substr(at);
}

std::string milliseconds_text(double value) {
  return value < 0 ? "unknown" : std::to_string(std::lround(value)) + " ms";
}

}  // namespace

double pause_of(const std::string& line) {
  constexpr std::string_view kWords = "write pause ";
  const auto at = line.find(kWords);
  if (at == std::string::npos) {
    return -1;
  }
  char* end = nullptr;
  const double value = std::strtod(line.c_str() + at + kWords.size(), &end);
  const std::string_view unit = end;
  return unit.starts_with(" ms") ? value : unit.starts_with(" s") ? value * 1000 : -1;
}

std::string json_text(const std::string& json, const std::string& field) {
  const auto key = json.find("\"" + field + "\"");
  const auto colon = key == std::string::npos ? key : json.find_first_not_of(" :\n", key + field.size() + 2);
  if (colon == std::string::npos || json[colon] != '"') {
    return {};
  }
  return json.substr(colon + 1, json.find('"', colon + 1) - colon - 1);
}

Play::Play(const Options& options, const base::Stop& stop)
    : options_(options), stop_(stop), stage_(options, stop) {}

void Play::say(const std::string& line) const {
  const auto seconds = std::chrono::duration<double>(base::Clock::now() - begin_).count();
  std::printf("[%5.1f s] %s\n", seconds, line.c_str());
  std::fflush(stdout);
}

void Play::indent(const std::string& text, std::size_t lines_max) const {
  std::istringstream in(text);
  std::string line;
  for (std::size_t count = 0; std::getline(in, line); ++count) {
    if (count == lines_max) {
      std::printf("            ...\n");
      break;
    }
    std::printf("            %s\n", line.c_str());
  }
  std::fflush(stdout);
}

void Play::start_load() {
  load::BankLoadOptions bank{.conninfo = {}, .clients = options_.clients, .rate = options_.bank_rate};
  for (const auto& [keyword, value] : stage_.pooler().keywords()) {
    bank.conninfo += keyword + "='" + value + "' ";
  }
  bank.log_path = stage_.file("commits.log");
  bank.size = stage_.shop();
  bench_.emplace(stage_.pooler(), options_.clients, options_.rate);
  bank_.emplace(bank);
  bank_->wait_acknowledged(20, Deadline::in(milliseconds(180'000)));
}

void Play::load_goes_on(std::chrono::seconds span) {
  const auto end = Deadline::in(span);
  const auto before = bank_->acknowledged();
  bank_->wait_acknowledged(std::int64_t{2} * options_.clients, Deadline::in(milliseconds(180'000)));
  stop_.wait(end);
  stop_.check();
  if (!bench_->running()) {
    throw Error("pgbench ended in the middle of the play; it said: " + bench_->output());
  }
  const auto so_far = bank_->report();
  say(std::to_string(bank_->acknowledged() - before) + " bank transactions in " +
      std::to_string(span.count()) + " s, failed so far: " + std::to_string(so_far.failed + so_far.in_doubt));
}

harness::ToolResult Play::verb(const std::string& name, const std::vector<std::string>& more) {
  say("pgcutover " + name);
  std::vector<std::string> args = {name, "--plan", stage_.plan_file()};
  args.insert(args.end(), more.begin(), more.end());
  harness::Tool tool(args);
  harness::wait_until(Deadline::in(kVerbLimit), "pgcutover " + name + " has ended", [&] {
    stop_.check();
    return !tool.running();
  });
  harness::ToolResult result{tool.wait(Deadline::in(kVerbLimit)), tool.output(), tool.errors()};
  if (result.exit_code != 0) {
    std::string controller;
    if (controller_) {
      controller = "\nthe controller said:\n" + end_of(controller_->errors());
    }
    throw Error("pgcutover " + name + " ended with code " + std::to_string(result.exit_code) + ":\n" +
                end_of(result.output) + end_of(result.errors) + controller);
  }
  return result;
}

void Play::wait_ready() {
  say("pgcutover run (in the background)");
  controller_.emplace(std::vector<std::string>{"run", "--plan", stage_.plan_file()});
  std::string shown;
  const auto limit = Deadline::in(milliseconds(600'000));
  for (;;) {
    stop_.check();
    if (!controller_->running()) {
      throw Error("pgcutover run ended with code " +
                  std::to_string(controller_->wait(Deadline::in(kVerbLimit))) + " before it was ready:\n" +
                  end_of(controller_->output()) + end_of(controller_->errors()));
    }
    const auto status =
        harness::Tool::run({"status", "--json", "--plan", stage_.plan_file()}, Deadline::in(kVerbLimit));
    const auto state = status.exit_code == 0 ? json_text(status.output, "state") : std::string("not begun");
    if (state != shown) {
      say("  " + (state.empty() ? std::string("(no state in ") + status.output + ")" : state));
      shown = state;
    }
    if (state == "ready") {
      return;
    }
    if (state == "needs-operator" || state == "cancelled" || limit.expired()) {
      throw Error("pgcutover run got stuck in state \"" + state + "\":\n" + end_of(controller_->errors()));
    }
    stop_.wait(Deadline::in(milliseconds(300)));
  }
}

void Play::note(Proof proof) {
  say((proof.holds ? "proved: " : "PROOF FAILED: ") + proof.name);
  indent(proof.details, proof.holds ? 1 : kLogLines);
  proofs_.push_back(std::move(proof));
}

void Play::handover(const std::string& name, Side to) {
  bank_->take_worst_stall();
  const auto result = verb(name);
  indent(result.last_line(), 1);
  const auto server = std::string(name_of(to));
  if (result.last_line().find(server) == std::string::npos) {
    throw Error("pgcutover " + name + " doesn't say that the " + server +
                " takes writes: " + result.last_line());
  }
  load_goes_on(std::chrono::seconds(options_.seconds));
  handovers_.push_back({name, pause_of(result.last_line()), bank_->take_worst_stall()});
  // This side has the writes now: no waiting for anything.
  note(prove_bank_on(stage_, to, *bank_, false, stop_));
  note(prove_pgbench_sums(stage_, to));
}

void Play::finish_migration() {
  verb("report", {"--output", options_.report});
  if (harness::read_file(options_.report).empty()) {
    throw Error("pgcutover report wrote nothing to " + options_.report);
  }
  indent(verb("finish", {"--yes"}).output, 8);
  const int code = controller_->wait(Deadline::in(kVerbLimit));
  if (code != 0) {
    throw Error("pgcutover run ended with code " + std::to_string(code) + " after finish:\n" +
                end_of(controller_->output()) + end_of(controller_->errors()));
  }
}

void Play::end_load() {
  const auto bench = bench_->stop(Deadline::in(milliseconds(180'000)));
  const auto bank = bank_->stop(Deadline::in(milliseconds(180'000)));
  failed_transactions_ = std::max<std::int64_t>(bench.failed, 0) + bank.failed + bank.in_doubt;
  say("the load has ended");
  note(prove_no_failures(bench, bank));
  note(prove_bank_on(stage_, Side::source, *bank_, false, stop_));
  note(prove_pgbench_count(stage_, Side::source, bench));
  note(prove_pgbench_sums(stage_, Side::source));
  note(prove_clean(stage_));
}

bool Play::run() {
  say(stage_.describe());
  say("filling the source: pgbench scale " + std::to_string(options_.scale) + " and a shop");
  stage_.set_up(options_.scale);
  say("load through the pooler begins: pgbench " + std::to_string(std::lround(options_.rate)) + "/s, bank " +
      std::to_string(std::lround(options_.bank_rate)) + "/s");
  start_load();
  verb("check");
  indent(verb("plan").output, 12);
  wait_ready();
  indent(verb("verify").last_line(), 1);
  handover("switch", Side::target);
  note(prove_copied_once(stage_));
  indent(verb("verify").last_line(), 1);
  handover("rollback", Side::source);
  indent(verb("verify").last_line(), 1);
  // The target follows again: it has to have the same books.
  note(prove_bank_on(stage_, Side::target, *bank_, true, stop_));
  note(prove_pgbench_sums(stage_, Side::target));
  finish_migration();
  load_goes_on(std::chrono::seconds(3));
  end_load();
  print_table();
  return std::all_of(proofs_.begin(), proofs_.end(), [](const Proof& proof) { return proof.holds; });
}

void Play::print_table() const {
  std::printf("\n%-10s %-14s %s\n", "", "write pause", "longest client stall");
  for (const auto& handover : handovers_) {
    std::printf("%-10s %-14s %lld ms\n", handover.name.c_str(), milliseconds_text(handover.pause_ms).c_str(),
                static_cast<long long>(handover.stall.length.count()));
  }
  std::printf("\nfailed client transactions: %lld\n", static_cast<long long>(failed_transactions_));
  const auto held =
      std::count_if(proofs_.begin(), proofs_.end(), [](const Proof& proof) { return proof.holds; });
  std::printf("proofs that held: %lld of %zu\n", static_cast<long long>(held), proofs_.size());
  std::printf("evidence report: %s\n", options_.report.c_str());
  for (const auto& proof : proofs_) {
    if (!proof.holds) {
      std::printf("PROOF FAILED: %s\n", proof.name.c_str());
    }
  }
  std::fflush(stdout);
}

}  // namespace demo
