// The command line and its environment, turned into an Invocation. One table of options makes the parser,
// --help and the PGCUTOVER_* names; Boost.Program_options stays in options.cc.
//
// Order of strength: command line, environment, plan file, default. Errors: UsageError (exit code 2) naming
// the option and the nearest one that exists.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cutover/plan/plan.h"
#include "replication/base/deadline.h"
#include "replication/base/log.h"

namespace cutover::cli {

namespace base = replication::base;

struct Invocation {
  // check plan run status verify switch rollback finish cancel unfence report resync throttle sequences
  // journal;
  // "help" and "version" (print `text` on stdout, exit 0); hidden: guardian, list-fault-points.
  std::string verb;
  std::string action;  // sequences: list, plan, bump or watch; journal: stat, cat or replay
  std::string text;    // for help and version
  plan::Plan plan;     // checked; empty for help, version, guardian, list-fault-points

  bool json = false;                // results on stdout as JSON
  bool yes = false;                 // don't ask
  bool takeover = false;            // end another controller's sessions and take its place
  bool watch = false;               // status: again and again
  bool no_wait = false;             // don't wait for the controller's answer
  bool target_lost = false;         // rollback --target-lost
  bool reset_target = false;        // run: drop what is in the way on the target; check, plan: list it
  std::vector<std::string> tables;  // resync: what to copy
  std::map<std::string, std::string> limits;  // throttle: what was said, by the option's name
  std::string until;                          // run: the step after which to stop; empty = the gate
  std::string output;                         // report: file; empty = stdout
  std::string format;                         // report: "html" or "json"
  base::milliseconds interval{1'000};         // status --watch
  base::milliseconds timeout{0};              // for the controller's answer; 0 = no limit
  std::int64_t source_free_bytes = -1;        // of the source's WAL volume; -1 = unknown
  base::milliseconds connect_timeout{10'000};
  base::log::Level log_level = base::log::Level::info;
  base::log::Format log_format = base::log::Format::text;
  std::vector<std::string> warnings;  // to be logged once logging is set up
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// `environment` is std::getenv unless a test gives another.
Invocation parse(int argc, const char* const* argv);
Invocation parse(const std::vector<std::string>& arguments, const Environment& environment);

std::string help_text(const std::string& verb);  // empty = the overview
std::string version_text();
// Every verb that is shown in --help, in its order.
std::vector<std::string> verbs();

}  // namespace cutover::cli
