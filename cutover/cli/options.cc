#include "cutover/cli/options.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "cutover/cli/table.h"
#include "replication/base/error.h"

namespace cutover::cli {
namespace {

std::optional<std::string> from_process(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

void check_verb(const std::string& verb) {
  if (find_verb(verb) != nullptr) {
    return;
  }
  if (is_later_verb(verb)) {
    throw base::UsageError("the verb '" + verb + "' is not in this version", "see pgcutover --help");
  }
  const auto near = plan::nearest(verb, verbs());
  throw base::UsageError("unknown verb '" + verb + "'",
                         near ? "did you mean '" + *near + "'?" : "see pgcutover --help");
}

void check_options(const Arguments& arguments) {
  std::set<std::string_view> seen;
  for (const auto& [option, value] : arguments.values) {
    if (!allowed(*option, arguments.verb)) {
      throw base::UsageError(value.name + " doesn't go with the verb '" + arguments.verb + "'",
                             "it goes with:" + std::string(option->verbs));
    }
    if (option->arity == Arity::one && !seen.insert(option->name).second) {
      throw base::UsageError(value.name + " is given twice", "keep one of them");
    }
  }
}

void check_content(const Arguments& arguments) {
  const auto given = [&](std::string_view name) {
    return std::any_of(arguments.values.begin(), arguments.values.end(),
                       [&](const auto& pair) { return pair.first->name == name; });
  };
  if (given("data-only") && given("schema-only")) {
    throw base::UsageError("--data-only and --schema-only exclude each other", "keep one of them");
  }
}

void check_action(const Arguments& arguments) {
  static const std::map<std::string, std::vector<std::string>> kActions{
      {"sequences", {"list", "plan", "bump", "watch"}}, {"journal", {"stat", "cat", "replay"}}};
  const auto verb = kActions.find(arguments.verb);
  if (verb == kActions.end() ||
      std::find(verb->second.begin(), verb->second.end(), arguments.action) != verb->second.end()) {
    return;
  }
  std::string known;
  for (const auto& action : verb->second) {
    known += (known.empty() ? "one of " : ", ") + action;
  }
  if (arguments.action.empty()) {
    throw base::UsageError(arguments.verb + " wants to know what to do", known);
  }
  const auto near = plan::nearest(arguments.action, verb->second);
  throw base::UsageError(
      arguments.verb + " wants " + known + ", not '" + arguments.action + "'",
      near ? "did you mean '" + *near + "'?" : "see pgcutover " + arguments.verb + " --help");
}

bool truth(const Value& value) {
  if (value.text == "1" || value.text == "true" || value.text == "on" || value.text == "yes") {
    return true;
  }
  if (value.text == "0" || value.text == "false" || value.text == "off" || value.text == "no" ||
      value.text.empty()) {
    return false;
  }
  throw base::UsageError(value.name + " wants 1 or 0, not '" + value.text + "'");
}

std::optional<Value> plan_file(const Arguments& arguments, const Environment& environment) {
  for (const auto& [option, value] : arguments.values) {
    if (option->name == "plan") {
      return value;
    }
  }
  const auto name = environment_name("plan");
  const auto value = environment(name);
  return value && !value->empty() ? std::optional(Value{*value, name}) : std::nullopt;
}

// What the environment says counts only where the command line says nothing. An empty variable is no
// variable.
void apply_environment(const Arguments& arguments, const Environment& environment, Invocation& invocation) {
  for (const auto& option : option_table()) {
    const bool given = std::any_of(arguments.values.begin(), arguments.values.end(),
                                   [&](const auto& pair) { return pair.first == &option; });
    const auto name = environment_name(option.name);
    const auto value = environment(name);
    if (given || !option.in_environment || option.name == "plan" || !value || value->empty() ||
        !allowed(option, invocation.verb)) {
      continue;
    }
    if (option.arity != Arity::flag || truth({*value, name})) {
      option.apply(invocation, {*value, name});
    }
  }
}

// A list on the command line replaces the plan file's, as a single value does.
void forget_lists(const Arguments& arguments, Invocation& invocation) {
  for (const auto& [option, value] : arguments.values) {
    if (option->name == "include") {
      invocation.plan.tables.include.clear();
    } else if (option->name == "exclude") {
      invocation.plan.tables.exclude.clear();
    } else if (option->name == "map-role") {
      invocation.plan.role_map.clear();
    } else if (option->name == "exclude-columns") {
      invocation.plan.tables.columns.exclude.clear();
    }
  }
}

void warn_overrides(const Arguments& arguments, Invocation& invocation) {
  if (invocation.plan.file.empty()) {
    return;
  }
  for (const auto& [option, value] : arguments.values) {
    if (option->name == "source" || option->name == "target" || option->name == "name") {
      invocation.warnings.push_back(value.name + " is stronger than what " + invocation.plan.file + " says");
    }
  }
}

Invocation print_only(std::string verb, std::string text) {
  Invocation invocation;
  invocation.verb = std::move(verb);
  invocation.text = std::move(text);
  return invocation;
}

}  // namespace

Invocation parse(const std::vector<std::string>& given, const Environment& environment) {
  auto arguments = parse_command_line(given);
  if (arguments.version) {
    return print_only("version", version_text());
  }
  if (arguments.help || arguments.verb == "help") {
    if (!arguments.verb.empty() && arguments.verb != "help") {
      check_verb(arguments.verb);
    }
    return print_only("help", help_text(arguments.verb));
  }
  if (arguments.verb.empty()) {
    throw base::UsageError("no verb given", "try pgcutover --help");
  }
  check_verb(arguments.verb);
  check_options(arguments);
  check_content(arguments);
  check_action(arguments);

  Invocation invocation;
  invocation.verb = arguments.verb;
  invocation.action = arguments.action;
  if (!find_verb(arguments.verb)->needs_plan) {
    return invocation;
  }
  if (const auto file = plan_file(arguments, environment)) {
    if (file->text.empty()) {
      throw base::UsageError(file->name + " is empty", "give the path of a plan file");
    }
    invocation.plan = plan::load_plan_file(file->text);
  }
  forget_lists(arguments, invocation);
  apply_environment(arguments, environment, invocation);
  for (const auto& [option, value] : arguments.values) {
    option->apply(invocation, value);
  }
  if (invocation.verb == "resync" && invocation.tables.empty()) {
    throw base::UsageError("resync wants to know which tables", "give --table=schema.table, once or more");
  }
  if (invocation.verb == "throttle" && invocation.limits.empty()) {
    throw base::UsageError("throttle wants to know how fast",
                           "give --max-rate=MB a second, 0 for no limit; or --max-active-sessions, "
                           "--max-replica-lag, --max-xmin-age");
  }
  warn_overrides(arguments, invocation);
  if (invocation.format.empty()) {
    invocation.format = invocation.json ? "json" : "html";
  }
  if (invocation.verb == "journal") {
    return invocation;  // about files; replay asks for its target itself
  }
  const bool one_side = invocation.verb == "unfence" || invocation.verb == "cancel" ||
                        invocation.verb == "sequences" || invocation.target_lost;
  plan::check_plan(invocation.plan, one_side ? plan::Sides::one : plan::Sides::both);
  return invocation;
}

Invocation parse(int argc, const char* const* argv) {
  return parse(std::vector<std::string>(argv + std::min(argc, 1), argv + argc), from_process);
}

}  // namespace cutover::cli
