#include "tests/demo/options.h"

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "replication/base/error.h"

namespace demo {

using replication::base::UsageError;

namespace {

double number(const std::string& option, const std::string& text, double least) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= least)) {
    throw UsageError(option + " " + text + ": a number of at least " + std::to_string(least) + " is needed");
  }
  return value;
}

std::string default_report() {
  std::error_code unknown;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  return (unknown ? std::filesystem::current_path() : program.parent_path()) / "demo-report.html";
}

}  // namespace

std::string usage() {
  return "pgcutover_demo moves a live database to another server, comes back, and proves that nothing was "
         "lost.\n\n"
         "Usage:\n  pgcutover_demo [options]\n\nOptions:\n"
         "  --scale N        size of the pgbench database (default 10)\n"
         "  --rate N         pgbench transactions a second (100)\n"
         "  --bank-rate N    transactions a second of the clients that remember their commits (50)\n"
         "  --clients N      clients of each of the two (4)\n"
         "  --seconds N      load between two verbs, at least 3 (5)\n"
         "  --fsync          let the throw-away servers wait for the disk\n"
         "  --keep           leave the temporary directories\n"
         "  --report FILE    where the evidence report goes (beside this program)\n"
         "  --source-admin URI --target-admin URI --pooler URI --console URI --databases-ini FILE\n"
         "                   servers that exist already: superusers, the application's way in, the pooler's "
         "console\n"
         "                   and the file with its [databases]\n\n"
         "PGCUTOVER_BIN names the tool where it isn't the one of this build.\n";
}

Options parse_options(int argc, char** argv, bool& help) {
  Options options;
  using Setter = std::function<void(const std::string&, const std::string&)>;
  const auto text = [](std::string& into) -> Setter {
    return [&into](const std::string&, const std::string& value) { into = value; };
  };
  const auto real = [](double& into, double least) -> Setter {
    return [&into, least](const std::string& name, const std::string& value) {
      into = number(name, value, least);
    };
  };
  const auto whole = [](int& into, int least) -> Setter {
    return [&into, least](const std::string& name, const std::string& value) {
      into = static_cast<int>(number(name, value, least));
    };
  };
  const std::map<std::string, Setter> valued = {{"--scale", whole(options.scale, 1)},
                                                {"--rate", real(options.rate, 1)},
                                                {"--bank-rate", real(options.bank_rate, 1)},
                                                {"--clients", whole(options.clients, 1)},
                                                {"--seconds", whole(options.seconds, 3)},
                                                {"--report", text(options.report)},
                                                {"--source-admin", text(options.source_admin)},
                                                {"--target-admin", text(options.target_admin)},
                                                {"--pooler", text(options.pooler)},
                                                {"--console", text(options.console)},
                                                {"--databases-ini", text(options.databases_ini)}};
  const std::map<std::string, bool*> flags = {
      {"--fsync", &options.fsync}, {"--keep", &options.keep}, {"--help", &help}, {"-?", &help}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (const auto flag = flags.find(name); flag != flags.end()) {
      *flag->second = true;
    } else if (const auto option = valued.find(name); option != valued.end() && i + 1 < argc) {
      option->second(name, argv[++i]);
    } else {
      throw UsageError(option == valued.end() ? "unknown option " + name : name + " needs a value");
    }
  }
  const int given = !options.source_admin.empty() + !options.target_admin.empty() + !options.pooler.empty() +
                    !options.console.empty() + !options.databases_ini.empty();
  if (given != 0 && given != 5) {
    throw UsageError("--source-admin, --target-admin, --pooler, --console and --databases-ini go together");
  }
  if (options.report.empty()) {
    options.report = default_report();
  }
  return options;
}

}  // namespace demo
