#include "tests/bench/stream/peer.h"

#include <csignal>
#include <filesystem>

#include "replication/base/error.h"
#include "tests/harness/process.h"
#include "tests/harness/wait.h"

namespace bench {
namespace {

namespace base = replication::base;

constexpr base::milliseconds kStepMax{60'000};

base::Deadline step_deadline() {
  return base::Deadline::in(kStepMax);
}

// A parent's SIGTERM is no end for its workers at once: the whole tree, children last seen first.
void end_tree(pid_t pid) {
  for (const auto child : harness::children_of(pid)) {
    end_tree(child);
  }
  kill(pid, SIGKILL);
}

}  // namespace

Peer::Peer(harness::Cluster& source, harness::Cluster& target, std::string database)
    : source_(source), target_(target), database_(std::move(database)), directory_("pgcut-peer") {
  harness::Process snapshot(
      command({"snapshot", "--follow", "--plugin", "pgoutput", "--slot-name", "pgcopydb"}));
  harness::wait_until(step_deadline(), "pgcopydb has its slot", [&] {
    return source_.value(database_, "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'pgcopydb'")
               .has_value() ||
           !snapshot.running();
  });
  harness::Process setup(command(
      {"stream", "setup", "--plugin", "pgoutput", "--slot-name", "pgcopydb", "--origin", "pgcopydb"}));
  const int code = setup.wait(step_deadline());
  snapshot.end(SIGTERM, step_deadline());
  if (code != 0) {
    throw base::Error("pgcopydb's set-up failed: " + harness::last_lines(directory_.file("log"), 5));
  }
  origin_lsn_ =
      target_.value(database_, "SELECT pg_replication_origin_progress('pgcopydb', false)").value_or("0/0");
  source_.sql(database_, "SELECT pg_copy_logical_replication_slot('pgcopydb', 'pgcopydb_base')");
  drop_slot();
  std::filesystem::rename(directory_.path() / "work", directory_.path() / "base");
}

void Peer::reset() {
  std::filesystem::remove_all(directory_.path() / "work");
  std::filesystem::copy(directory_.path() / "base", directory_.path() / "work",
                        std::filesystem::copy_options::recursive);
  drop_slot();
  source_.sql(database_, "SELECT pg_copy_logical_replication_slot('pgcopydb_base', 'pgcopydb')");
  target_.sql(
      database_,
      "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = 'pgcopydb'");
  target_.sql(database_, "SELECT pg_replication_origin_create('pgcopydb')");
  target_.sql(database_, "SELECT pg_replication_origin_advance('pgcopydb', '" + origin_lsn_ + "')");
  harness::Process apply(command({"stream", "sentinel", "set", "apply"}));
  apply.wait(step_deadline());
}

bool Peer::follow(const std::string& end_lsn) {
  harness::Process process(command({"follow", "--plugin", "pgoutput", "--slot-name", "pgcopydb", "--origin",
                                    "pgcopydb", "--endpos", end_lsn, "--resume", "--not-consistent"}));
  try {
    return process.wait(base::Deadline::in(kPeerMax)) == 0;
  } catch (const base::TimeoutError&) {
    end_tree(process.pid());
    process.wait(step_deadline());
    return false;
  }
}

void Peer::drop_slot() {
  harness::wait_until(step_deadline(), "pgcopydb's slot is free", [&] {
    return source_
               .value(database_,
                      "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = 'pgcopydb'")
               .value_or("") == "0";
  });
  source_.sql(
      database_,
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'pgcopydb'");
}

harness::ProcessOptions Peer::command(const std::vector<std::string>& words) const {
  const char* named = std::getenv("PGCOPYDB");
  harness::ProcessOptions options{.argv = {named != nullptr ? named : "pgcopydb"},
                                  .env = {{"PGCOPYDB_SOURCE_PGURI", source_.conninfo(database_)},
                                          {"PGCOPYDB_TARGET_PGURI", target_.conninfo(database_)}},
                                  .stdout_path = directory_.file("log"),
                                  .stderr_path = directory_.file("log"),
                                  .end_signal = SIGTERM};
  options.argv.insert(options.argv.end(), words.begin(), words.end());
  options.argv.insert(options.argv.end(), {"--dir", directory_.file("work")});
  return options;
}

}  // namespace bench
