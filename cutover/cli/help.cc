// --help and --version, from the table.
#include <algorithm>

#include "cutover/cli/table.h"

namespace cutover::cli {
namespace {

constexpr std::size_t kColumn = 30;

std::string row(const std::string& head, std::string_view text) {
  std::string line = "  " + head;
  if (line.size() + 1 > kColumn) {
    line += "\n" + std::string(kColumn, ' ');
  } else {
    line.resize(kColumn, ' ');
  }
  return line + std::string(text) + "\n";
}

std::string head_of(const Option& option) {
  std::string head = option.letter.empty() ? "    " : "-" + std::string(option.letter) + ", ";
  head += "--" + std::string(option.name);
  return option.argument.empty() ? head : head + "=" + std::string(option.argument);
}

constexpr std::string_view kExitCodes = R"(Exit codes:
  0    done
  1    unforeseen error
  2    wrong option, plan or connection string
  3    a check blocks; nothing was changed
  4    a server can't be reached; nothing was changed
  5    the migration's state forbids it, or another controller holds it
  6    the switch was undone: the old primary takes writes
  7    data differs
  8    an operator has to decide
  70   a bug of pgcutover
  130  interrupted, and rolled back where something had begun
)";

std::string options_of(std::string_view verb) {
  std::string out;
  for (const auto& option : option_table()) {
    if (verb.empty() ? option.verbs.empty() : allowed(option, verb)) {
      out += row(head_of(option), option.meaning);
    }
  }
  out += row("-V, --version", "print the version and end");
  out += row("-?, --help", "print this and end; `pgcutover VERB --help` for a verb");
  return out;
}

std::string overview() {
  std::string out =
      "pgcutover moves a live PostgreSQL database to another server, and back.\n\n"
      "Usage:\n  pgcutover VERB --source=CONNINFO --target=CONNINFO [OPTION]...\n"
      "  pgcutover VERB --plan=FILE [OPTION]...\n\nVerbs:\n";
  for (const auto& verb : verb_table()) {
    if (!verb.meaning.empty()) {
      out += row(std::string(verb.name), verb.meaning);
    }
  }
  out += "\nOptions:\n" + options_of("") +
         "\nEvery option that is about the migration is also read from the environment: --source from\n"
         "PGCUTOVER_SOURCE, --max-pause from PGCUTOVER_MAX_PAUSE. libpq's own variables, service file and\n"
         "password file apply as in psql. Results go to stdout, progress and logs to stderr.\n\n" +
         std::string(kExitCodes) + "\nKeys of a plan file:\n" + plan::format_help();
  return out;
}

}  // namespace

std::string help_text(const std::string& verb) {
  const Verb* known = verb.empty() ? nullptr : find_verb(verb);
  if (known == nullptr || known->meaning.empty()) {
    return overview();
  }
  return "pgcutover " + verb + ": " + std::string(known->meaning) + ".\n\nUsage:\n  pgcutover " + verb +
         " --source=CONNINFO --target=CONNINFO [OPTION]...\n  pgcutover " + verb +
         " --plan=FILE [OPTION]...\n\n" + std::string(known->more) + (known->more.empty() ? "" : "\n") +
         "Options:\n" + options_of(verb) + "\n" + std::string(kExitCodes);
}

std::string version_text() {
  return "pgcutover " PGCUTOVER_VERSION "\n";
}

std::vector<std::string> verbs() {
  std::vector<std::string> names;
  for (const auto& verb : verb_table()) {
    if (!verb.meaning.empty()) {
      names.emplace_back(verb.name);
    }
  }
  return names;
}

}  // namespace cutover::cli
