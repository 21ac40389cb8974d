// An app's own hooks. They get the fencing token's epoch, so that a script that keeps state can refuse an
// older one.
#include <cstdlib>
#include <unistd.h>

#include "cutover/traffic/traffic.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/subprocess.h"

namespace cutover::traffic {
namespace {

constexpr base::milliseconds kWhere{10'000};
constexpr base::milliseconds kUndo{15'000};

bool executable(const std::string& program) {
  if (program.find('/') != std::string::npos) {
    return access(program.c_str(), X_OK) == 0;
  }
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/bin:/usr/bin" : path;
  while (true) {
    const auto directory = rest.substr(0, rest.find(':'));
    if (!directory.empty() && access((std::string(directory) + "/" + program).c_str(), X_OK) == 0) {
      return true;
    }
    if (directory.size() == rest.size()) {
      return false;
    }
    rest.remove_prefix(directory.size() + 1);
  }
}

std::string first_line(const std::string& text) {
  return text.substr(0, std::min<std::size_t>(text.find('\n'), 300));
}

class Hooks final : public Adapter {
 public:
  Hooks(const plan::App& app, std::int64_t epoch, const base::Stop& stop)
      : app_(app.name), spec_(*app.command), epoch_(epoch), stop_(stop) {}

  std::string name() const override { return app_ + ": hooks"; }
  base::Findings check(Destination expected, base::milliseconds pause_max) override;
  void hold(base::Deadline deadline) override;
  void release(base::Deadline deadline) override;
  void move(Destination destination, base::Deadline deadline) override;
  bool held() override { return held_; }
  std::optional<Destination> points_to() override;

 private:
  std::string run(std::string_view hook, const std::vector<std::string>& argv, std::string_view side,
                  base::Deadline deadline, const base::Stop& stop) const;

  std::string app_;
  plan::CommandSpec spec_;
  std::int64_t epoch_;
  const base::Stop& stop_;
  bool held_ = false;
  std::optional<Destination> moved_;  // for apps that can't be asked
};

std::string Hooks::run(std::string_view hook, const std::vector<std::string>& argv, std::string_view side,
                       base::Deadline deadline, const base::Stop& stop) const {
  const base::Command command{.argv = argv,
                              .env = {{"PGCUTOVER_APP", app_},
                                      {"PGCUTOVER_EPOCH", std::to_string(epoch_)},
                                      {"PGCUTOVER_SIDE", std::string(side)}},
                              .stdin_text = {}};
  const auto result = base::run_command(command, deadline, stop);
  if (result.exit_code != 0) {
    throw base::Error("the hook " + std::string(hook) + " of " + app_ + " ended with " +
                          std::to_string(result.exit_code) + ": " + first_line(result.errors),
                      "run it by hand: " + argv.front());
  }
  return result.output;
}

base::Findings Hooks::check(Destination expected, base::milliseconds) {
  base::Findings findings;
  const auto add = [&](base::Severity severity, std::string id, std::string message, std::string remedy) {
    findings.push_back({.severity = severity,
                        .id = std::move(id),
                        .server = "app",
                        .object = name(),
                        .message = std::move(message),
                        .remedy = std::move(remedy)});
  };
  for (const auto* argv : {&spec_.hold, &spec_.release, &spec_.move, &spec_.undo, &spec_.where}) {
    if (!argv->empty() && !executable(argv->front())) {
      add(base::Severity::blocks, "hook-missing", argv->front() + " can't be run",
          "give a program in PATH or with its directory, and make it executable");
    }
  }
  if (spec_.hold.empty()) {
    add(base::Severity::warns, "hook-no-hold",
        app_ + " has no hold: its statements fail from the fence until it has moved",
        "give hold and release, or put a pooler in front");
  }
  if (!findings.empty() && findings.front().severity == base::Severity::blocks) {
    return findings;
  }
  try {
    if (const auto now = points_to(); now && *now != expected) {
      add(base::Severity::blocks, "hook-address",
          app_ + " points to the " + std::string(to_string(*now)) + ", not to the " +
              std::string(to_string(expected)),
          "point it to the " + std::string(to_string(expected)) + " first");
    }
  } catch (const base::Error& error) {
    add(base::Severity::blocks, "hook-failed", error.message(), error.hint());
  }
  return findings;
}

void Hooks::hold(base::Deadline deadline) {
  if (spec_.hold.empty()) {
    return;
  }
  try {
    held_ = true;  // from here on it may be
    run("hold", spec_.hold, "", deadline, stop_);
  } catch (...) {
    const auto error = std::current_exception();
    try {
      release(base::Deadline::in(kUndo));
    } catch (const base::Error& undo) {
      throw base::NeedsOperator(app_ + " could neither be held nor released: " + undo.message(), undo.hint());
    }
    std::rethrow_exception(error);
  }
}

void Hooks::release(base::Deadline deadline) {
  if (!spec_.release.empty()) {
    run("release", spec_.release, "", deadline, base::Stop::never());
  }
  held_ = false;
}

void Hooks::move(Destination destination, base::Deadline deadline) {
  const bool undo = destination == Destination::source && !spec_.undo.empty();
  run(undo ? "undo" : "move", undo ? spec_.undo : spec_.move, to_string(destination), deadline,
      base::Stop::never());
  moved_ = destination;
  if (const auto now = points_to(); now != destination) {
    throw base::Error(
        app_ + " does not point to the " + std::string(to_string(destination)) + " after its hook ran",
        "its hook where must print source or target");
  }
}

std::optional<Destination> Hooks::points_to() {
  if (spec_.where.empty()) {
    return moved_;
  }
  const auto word =
      first_line(run("where", spec_.where, "", base::Deadline::in(kWhere), base::Stop::never()));
  if (word == "source") {
    return Destination::source;
  }
  if (word == "target") {
    return Destination::target;
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<Adapter> make_command(const plan::App& app, std::int64_t epoch, const base::Stop& stop) {
  PGCUTOVER_CHECK(app.command.has_value(), "the app has hooks");
  return std::make_unique<Hooks>(app, epoch, stop);
}

}  // namespace cutover::traffic
