#include "replication/base/fault_point.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <signal.h>
#include <unistd.h>

#include "replication/base/check.h"
#include "replication/base/error.h"

namespace replication::base {
namespace {

// Grouped by the moment in a migration's life.
constexpr std::array kFaultPoints{
    // run: preparing and copying
    "run.after-prepare-source", "run.after-prepare-target", "run.after-slot", "run.after-pre-data",
    "copy.table-begin", "copy.table-before-commit", "copy.batch-before-commit", "copy.table-done",
    "copy.generation-begun", "copy.part-begin", "copy.part-before-commit", "copy.part-done",
    "copy.generation-before-commit", "indexes.table-built", "indexes.table-done", "run.after-copy",
    "run.after-indexes", "run.after-indexes-left", "run.after-catch-up", "run.after-foreign-keys",
    "run.after-reverse-ready",
    // the stream
    "apply.before-commit", "apply.after-commit", "stream.before-confirm", "schema-change.followed",
    "schema-change.before-default",
    // the spool: between a segment's end and the next one's beginning
    "spool.footer-written", "spool.sealed", "spool.segment-made", "spool.segment-begun",
    // resync: tables copied again while it streams
    "resync.stopped", "resync.published", "resync.copied", "resync.streaming", "publication.noted",
    "publication.put",
    // switch and rollback: between any two steps
    "switch.before-hold", "switch.after-hold", "switch.after-lock", "switch.after-drain",
    "switch.after-fence", "switch.after-sequences", "switch.before-commit", "switch.after-commit",
    "switch.after-open", "switch.after-move", "switch.after-release", "switch.after-reverse",
    // finish and cancel
    "finish.after-slots", "finish.after-source-schema", "cancel.after-slots", "cancel.after-source-schema",
    "schema-only.after-open", "schema-only.after-source-schema",
    // sequences bump
    "bump.after-plan", "bump.after-source"};

bool listed(std::string_view name) {
  return std::find(kFaultPoints.begin(), kFaultPoints.end(), name) != kFaultPoints.end();
}

struct Armed {
  std::string name, action;
  int countdown = 1;
};

std::vector<Armed> read_armed() {
  std::vector<Armed> armed;
  const char* testing = std::getenv("PGCUTOVER_TESTING");
  const char* faults = std::getenv("PGCUTOVER_FAULT");
  if (testing == nullptr || std::string_view(testing) != "1" || faults == nullptr) {
    return armed;
  }
  std::string_view rest(faults);
  while (!rest.empty()) {
    auto item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    Armed one;
    const auto whole = std::string(item);
    bool counted = true;
    if (const auto at = item.find('@'); at != std::string_view::npos) {
      const auto count = item.substr(at + 1);
      const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), one.countdown);
      counted = error == std::errc{} && end == count.data() + count.size() && one.countdown > 0;
      item = item.substr(0, at);
    }
    const auto colon = item.find(':');
    one.name = item.substr(0, colon);
    one.action = colon == std::string_view::npos ? "kill" : item.substr(colon + 1);
    // A misspelt name would be a test that injects nothing and passes.
    if (!counted || !listed(one.name) ||
        !(one.action == "kill" || one.action == "stop" || one.action == "error")) {
      throw UsageError("PGCUTOVER_FAULT: no such fault \"" + whole + "\"",
                       "NAME:kill, NAME:stop or NAME:error, and @N");
    }
    armed.push_back(one);
  }
  return armed;
}

void act(const Armed& armed) {
  if (armed.action == "kill") {
    kill(getpid(), SIGKILL);
  } else if (armed.action == "stop") {
    kill(getpid(), SIGSTOP);
  } else {
    throw Error("injected failure").at("fault point " + armed.name).set_retryable(true);
  }
}

}  // namespace

void fault_point(std::string_view name) {
  static std::vector<Armed> armed = read_armed();
  static std::mutex mutex;
  PGCUTOVER_CHECK(listed(name), "fault point " + std::string(name) + " is not in the list");
  if (armed.empty()) {
    return;
  }
  const Armed* due = nullptr;
  {
    const std::lock_guard lock(mutex);
    for (auto& one : armed) {
      if (one.name == name && --one.countdown == 0) {
        due = &one;
      }
    }
  }
  if (due != nullptr) {
    act(*due);
  }
}

std::vector<std::string> fault_points() {
  return {kFaultPoints.begin(), kFaultPoints.end()};
}

}  // namespace replication::base
