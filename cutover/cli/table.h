// The one table of verbs and options: it makes the parser, --help and the environment's names. For this room
// only.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cutover/cli/options.h"

namespace cutover::cli {

// What an option needs to know when its value arrives: the name for messages is "--jobs" or "PGCUTOVER_JOBS".
struct Value {
  std::string text;
  std::string name;
};

enum class Arity { flag, one, many };

struct Option {
  std::string_view name;    // "max-pause"
  std::string_view letter;  // "j" or empty
  Arity arity = Arity::one;
  std::string_view argument;  // "CONNINFO"; empty for flags
  std::string_view meaning;
  std::string_view verbs;  // " run switch ": where it is allowed; empty = with every verb
  // Called once for a flag or a single value, once per value where there may be many.
  std::function<void(Invocation&, const Value&)> apply;
  bool in_environment = true;  // PGCUTOVER_MAX_PAUSE
};

struct Verb {
  std::string_view name;
  std::string_view meaning;  // empty = hidden
  std::string_view more;     // a paragraph for its --help
  bool needs_plan = true;
};

const std::vector<Verb>& verb_table();
const Verb* find_verb(std::string_view name);
// Verbs of the product that this version refuses by name.
bool is_later_verb(std::string_view name);

const std::vector<Option>& option_table();
bool allowed(const Option& option, std::string_view verb);
// "--max-pause" -> "PGCUTOVER_MAX_PAUSE"
std::string environment_name(std::string_view option);

// What the command line said, by option, before it is applied.
struct Arguments {
  std::string verb;
  std::string action;  // "sequences list": the second word, of verbs that have one
  bool help = false;
  bool version = false;
  std::vector<std::pair<const Option*, Value>> values;  // in the order given
};
// Boost.Program_options is behind this.
Arguments parse_command_line(const std::vector<std::string>& arguments);

}  // namespace cutover::cli
