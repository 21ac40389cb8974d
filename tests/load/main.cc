// pgcutover_load: live load with a commit log, and the proof that nothing of it was lost, as two verbs.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "tests/load/bank_load.h"
#include "tests/load/bank_proof.h"

namespace {

namespace base = replication::base;
namespace postgres = replication::postgres;

constexpr const char* kUsage =
    "pgcutover_load writes live load with a log of acknowledged commits, and proves that none was lost.\n\n"
    "Usage:\n"
    "  pgcutover_load schema --to CONNINFO [--accounts N]\n"
    "  pgcutover_load run    --to CONNINFO --log FILE [--seconds N] [--clients N] [--rate N] [--seed N] "
    "[--accounts N]\n"
    "  pgcutover_load proof  --to CONNINFO --log FILE [--accounts N]\n\n"
    "run ends after --seconds, or at SIGINT or SIGTERM; it exits with 1 where a transaction failed.\n"
    "proof exits with 7 where a transaction is lost, doubled or invented.\n";

// Signals end it politely. A Stop's request is async-signal-safe.
base::Stop& interrupted() {
  static base::Stop stop;
  return stop;
}

struct Options {
  std::string verb, to, log;
  long seconds = 0;
  load::BankLoadOptions load;
};

Options parse(int argc, char** argv) {
  Options options;
  options.verb = argc > 1 ? argv[1] : "";
  const auto number = [](const char* text) { return std::strtol(text, nullptr, 10); };
  const std::map<std::string, std::function<void(const char*)>> known = {
      {"--to", [&](const char* v) { options.to = v; }},
      {"--log", [&](const char* v) { options.log = v; }},
      {"--seconds", [&](const char* v) { options.seconds = number(v); }},
      {"--clients", [&](const char* v) { options.load.clients = static_cast<int>(number(v)); }},
      {"--rate", [&](const char* v) { options.load.rate = std::strtod(v, nullptr); }},
      {"--seed", [&](const char* v) { options.load.seed = static_cast<std::uint64_t>(number(v)); }},
      {"--accounts", [&](const char* v) { options.load.size.accounts = static_cast<int>(number(v)); }}};
  for (int i = 2; i < argc; i += 2) {
    const auto option = known.find(argv[i]);
    if (option == known.end() || i + 1 >= argc) {
      throw base::UsageError(std::string("unknown option or missing value: ") + argv[i]);
    }
    option->second(argv[i + 1]);
  }
  if (options.to.empty() || (options.log.empty() && options.verb != "schema") || options.load.clients < 1 ||
      options.load.size.accounts < 2) {
    throw base::UsageError("--to, --log (not for schema), at least one client and two accounts are needed");
  }
  options.load.conninfo = options.to;
  options.load.log_path = options.log;
  return options;
}

postgres::Connection connect(const Options& options) {
  postgres::SessionOptions session;
  session.kind = postgres::SessionKind::console;  // none of the tool's settings
  return postgres::Connection::open(postgres::ConnInfo::parse(options.to, "--to"), session, interrupted());
}

std::string time_of(load::WallTime when) {
  const auto ms = std::chrono::duration_cast<base::milliseconds>(when.time_since_epoch()).count();
  const auto fraction = std::to_string(1000 + ms % 1000).substr(1);
  return std::to_string(ms / 1000) + "." + fraction;
}

int run(const Options& options) {
  load::BankLoad load(options.load);
  interrupted().wait(options.seconds > 0 ? base::Deadline::in(base::milliseconds(options.seconds * 1000))
                                         : base::Deadline::never());
  const auto report = load.stop(base::Deadline::in(base::milliseconds(10'000)));
  std::printf("acknowledged %lld\nin doubt %lld\nfailed %lld\n", static_cast<long long>(report.acknowledged),
              static_cast<long long>(report.in_doubt), static_cast<long long>(report.failed));
  for (const auto& [client, stall] : report.longest_stall) {
    std::printf("client %d: longest stall %lld ms from %s to %s\n", client,
                static_cast<long long>(stall.length.count()), time_of(stall.begin).c_str(),
                time_of(stall.end).c_str());
  }
  for (const auto& failure : report.failures) {
    std::printf("at %s client %d transaction %lld: %s: %s\n", time_of(failure.at).c_str(), failure.client,
                static_cast<long long>(failure.seq), failure.kind.c_str(), failure.text.c_str());
  }
  return report.failed + report.in_doubt == 0 && report.acknowledged > 0 ? 0 : 1;
}

int dispatch(const Options& options) {
  if (options.verb == "schema") {
    connect(options).exec(load::shop_schema_sql(options.load.size));
    return 0;
  }
  if (options.verb == "run") {
    return run(options);
  }
  if (options.verb == "proof") {
    auto connection = connect(options);
    const load::CommitLog log(options.log);
    const auto proof = load::prove_bank(connection, log, options.load.size);
    std::printf("%s\n", proof.summary().c_str());
    return proof.holds() ? 0 : static_cast<int>(base::ExitCode::data_differs);
  }
  throw base::UsageError("unknown verb \"" + options.verb + "\"");
}

}  // namespace

int main(int argc, char** argv) {
  interrupted();
  const auto stop = [](int) { interrupted().request(); };
  std::signal(SIGINT, stop);
  std::signal(SIGTERM, stop);
  try {
    return dispatch(parse(argc, argv));
  } catch (const base::UsageError& error) {
    std::fprintf(stderr, "pgcutover_load: %s\n\n%s", error.describe().c_str(), kUsage);
    return static_cast<int>(error.exit_code());
  } catch (const base::Error& error) {
    std::fprintf(stderr, "pgcutover_load: %s\n", error.describe().c_str());
    return static_cast<int>(error.exit_code());
  }
}
