// argv to names and values. The only file that sees Boost.Program_options.
#include <boost/program_options.hpp>

#include "cutover/cli/table.h"
#include "replication/base/error.h"

namespace cutover::cli {
namespace {

namespace po = boost::program_options;

po::options_description description() {
  po::options_description all;
  for (const auto& option : option_table()) {
    std::string names(option.name);
    if (!option.letter.empty()) {
      names += "," + std::string(option.letter);
    }
    if (option.arity == Arity::flag) {
      all.add_options()(names.c_str(), "");
    } else {
      all.add_options()(names.c_str(), po::value<std::vector<std::string>>(), "");
    }
  }
  all.add_options()("help,?", "")("version,V", "");
  return all;
}

const Option* find_option(const std::string& name) {
  for (const auto& option : option_table()) {
    if (option.name == name || "-" + std::string(option.letter) == name) {
      return &option;
    }
  }
  return nullptr;
}

[[noreturn]] void fail_unknown(const std::string& given) {
  std::vector<std::string> names{"--help", "--version"};
  for (const auto& option : option_table()) {
    names.push_back("--" + std::string(option.name));
  }
  const auto name = given.substr(0, given.find('='));
  const auto near = plan::nearest(name, names);
  throw base::UsageError("unknown option " + name,
                         near ? "did you mean " + *near + "?" : "see pgcutover --help");
}

void take_positional(const std::string& word, Arguments& result) {
  if ((result.verb == "sequences" || result.verb == "journal") && result.action.empty()) {
    result.action = word;
    return;
  }
  if (!result.verb.empty()) {
    throw base::UsageError("one verb at a time: '" + result.verb + "' and '" + word + "' were given",
                           "put options with their dashes: --source CONNINFO");
  }
  result.verb = word;
}

void take_option(const po::option& given, Arguments& result) {
  if (given.string_key == "help" || given.string_key == "version") {
    (given.string_key == "help" ? result.help : result.version) = true;
    return;
  }
  const Option* option = find_option(given.string_key);
  if (given.unregistered || option == nullptr) {
    fail_unknown(given.original_tokens.empty() ? given.string_key : given.original_tokens.front());
  }
  const auto name = "--" + std::string(option->name);
  if (option->arity == Arity::flag) {
    result.values.emplace_back(option, Value{"", name});
    return;
  }
  for (const auto& text : given.value) {
    result.values.emplace_back(option, Value{text, name});
  }
}

}  // namespace

Arguments parse_command_line(const std::vector<std::string>& arguments) {
  const auto options = description();
  Arguments result;
  try {
    // No abbreviations: `--time` must not become --timeout in a script, and another option in the next
    // version.
    const auto style = (po::command_line_style::unix_style & ~po::command_line_style::allow_guessing);
    const auto parsed =
        po::command_line_parser(arguments).options(options).style(style).allow_unregistered().run();
    for (const auto& given : parsed.options) {
      if (given.position_key >= 0 || given.string_key.empty()) {
        for (const auto& word : given.value) {
          take_positional(word, result);
        }
      } else {
        take_option(given, result);
      }
    }
  } catch (const po::error_with_option_name& error) {
    throw base::UsageError("option " + error.get_option_name() + ": " + std::string(error.what()),
                           "see pgcutover --help");
  } catch (const po::error& error) {
    throw base::UsageError(error.what(), "see pgcutover --help");
  }
  return result;
}

}  // namespace cutover::cli
