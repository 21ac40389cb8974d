#include <charconv>
#include <string>

#include "replication/base/error.h"
#include "replication/base/subprocess.h"
#include "replication/snapshot/schema.h"

namespace replication::snapshot {
namespace {

using base::Error;

// "pg_dump (PostgreSQL) 18beta1 (Debian ...)" -> 18
int parse_major(const std::string& text, const std::string& program) {
  constexpr std::string_view kBefore = "(PostgreSQL) ";
  const auto at = text.find(kBefore);
  int major = 0;
  if (at != std::string::npos) {
    std::from_chars(text.data() + at + kBefore.size(), text.data() + text.size(), major);
  }
  if (major <= 0) {
    throw Error(program + " --version says no PostgreSQL version: " + text.substr(0, text.find('\n')));
  }
  return major;
}

int major_of(const std::string& program, int server_major, const base::Stop& stop) {
  const std::string remedy = "install PostgreSQL's client programs of version " +
                             std::to_string(server_major) +
                             " or newer and name their directory with --pg-bindir";
  base::CommandResult result;
  try {
    result = base::run_command({{program, "--version"}, {}, {}},
                               base::Deadline::in(base::milliseconds(10'000)), stop);
  } catch (const base::Stopped&) {
    throw;
  } catch (Error& error) {
    error.with_hint(remedy);
    throw;
  }
  if (result.exit_code != 0) {
    throw Error(program + " --version failed: " + result.errors.substr(0, result.errors.find('\n')), remedy);
  }
  return parse_major(result.output, program);
}

}  // namespace

SchemaTools SchemaTools::locate(const std::string& bindir, int server_major, const base::Stop& stop) {
  const std::string prefix = bindir.empty() ? "" : bindir + "/";
  SchemaTools tools;
  tools.pg_dump = prefix + "pg_dump";
  tools.pg_restore = prefix + "pg_restore";
  tools.major = major_of(tools.pg_dump, server_major, stop);
  if (tools.major < server_major) {
    throw Error(tools.pg_dump + " is of version " + std::to_string(tools.major) +
                    ", the source is of version " + std::to_string(server_major),
                "install postgresql-client-" + std::to_string(server_major) +
                    " or newer and name its directory with --pg-bindir");
  }
  // An archive of 17 and later is refused by an older pg_restore ("unsupported version (1.16)").
  if (const int restore = major_of(tools.pg_restore, server_major, stop); restore != tools.major) {
    throw Error(tools.pg_restore + " is of version " + std::to_string(restore) + ", " + tools.pg_dump +
                    " of version " + std::to_string(tools.major),
                "use both from one installation: --pg-bindir");
  }
  return tools;
}

}  // namespace replication::snapshot
