// The demo's command line.
#pragma once

#include <string>

namespace demo {

struct Options {
  int scale = 10;         // pgbench's; 100,000 accounts each
  double rate = 100;      // pgbench transactions a second
  double bank_rate = 50;  // transactions a second of the clients that remember their commits
  int clients = 4;        // of each of the two
  int seconds = 5;        // load between two verbs, at least 3
  bool fsync = false;     // of the throw-away servers
  bool keep = false;      // leave the temporary directories
  std::string report;     // where the evidence goes; empty = beside this program
  // Servers that exist already (containers): all five or none.
  std::string source_admin, target_admin;  // superuser, any database
  std::string pooler;                      // as the application, database shop
  std::string console;                     // the pooler's admin console
  std::string databases_ini;               // its file, which the tool may edit

  bool external() const { return !source_admin.empty(); }
};

// Throws UsageError. `help` is set where the usage was asked for.
Options parse_options(int argc, char** argv, bool& help);
std::string usage();

}  // namespace demo
