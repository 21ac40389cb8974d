// A database of one pgbouncer: PAUSE, RESUME, and an edit of its ini (or an edit command) with RELOAD.
#include <mutex>
#include <unistd.h>
#include <utility>

#include "cutover/traffic/console.h"
#include "cutover/traffic/file.h"
#include "cutover/traffic/ini.h"
#include "cutover/traffic/traffic.h"
#include "replication/base/error.h"
#include "replication/base/subprocess.h"

namespace cutover::traffic {
namespace {

constexpr base::milliseconds kCheck{10'000};
constexpr base::milliseconds kPoll{20};
constexpr base::milliseconds kTakeOver{1'000};  // RELOAD has loaded the file, or refused it, when it answers

// Two poolers, or two databases of one, may share a file and be moved at the same time.
std::mutex edits;

std::string text_of(const plan::Address& address) {
  return "host=" + address.host + " port=" + address.port + " dbname=" + address.dbname;
}

class Pgbouncer final : public Adapter {
 public:
  Pgbouncer(const plan::Plan& plan, const plan::App& app, plan::PgbouncerSpec spec, const base::Stop& stop)
      : app_(app.name),
        spec_(std::move(spec)),
        source_(plan::address_of(spec_.source, plan.source)),
        target_(plan::address_of(spec_.target, plan.target)),
        label_("pgbouncer " + spec_.database + " of " + app.name),
        console_(spec_.admin, spec_.database, label_, stop) {}

  std::string name() const override {
    return app_ + ": pgbouncer " + spec_.database + " at " + spec_.admin.describe();
  }

  base::Findings check(Destination expected, base::milliseconds pause_max) override;
  void hold(base::Deadline deadline) override { console_.pause(deadline); }
  void release(base::Deadline deadline) override { console_.resume(deadline); }
  void move(Destination destination, base::Deadline deadline) override;
  bool held() override { return console_.get(base::Deadline::in(kCheck)).paused; }
  std::optional<Destination> points_to() override;

 private:
  const plan::Address& address(Destination side) const {
    return side == Destination::source ? source_ : target_;
  }
  void add(base::Findings& findings, base::Severity severity, std::string id, std::string message,
           std::string remedy) const;
  void check_pooler(base::Findings& findings, Destination expected, base::milliseconds pause_max,
                    base::Deadline deadline);
  void check_pool_mode(base::Findings& findings, const PoolerDatabase& database, base::Deadline deadline);
  void check_timeouts(base::Findings& findings, base::milliseconds pause_max, base::Deadline deadline);
  void check_ini(base::Findings& findings, const PoolerDatabase& database, base::Deadline deadline);
  bool edits_are_taken_over(base::Deadline deadline);
  void edit(Destination destination, base::Deadline deadline) const;

  std::string app_;
  plan::PgbouncerSpec spec_;
  plan::Address source_, target_;
  std::string label_;
  Console console_;
};

void Pgbouncer::add(base::Findings& findings, base::Severity severity, std::string id, std::string message,
                    std::string remedy) const {
  findings.push_back({.severity = severity,
                      .id = std::move(id),
                      .server = "pooler",
                      .object = name(),
                      .message = std::move(message),
                      .remedy = std::move(remedy)});
}

base::Findings Pgbouncer::check(Destination expected, base::milliseconds pause_max) {
  base::Findings findings;
  const auto deadline = base::Deadline::in(kCheck);
  try {
    console_.open(deadline);
    check_pooler(findings, expected, pause_max, deadline);
  } catch (const base::UnreachableError& error) {
    add(findings, base::Severity::blocks, "pooler-unreachable", error.message(),
        "check admin in the plan, and that its user is in admin_users");
  } catch (const base::Error& error) {
    add(findings, base::Severity::blocks, "pooler-unusable", error.message(), error.hint());
  }
  return findings;
}

void Pgbouncer::check_pooler(base::Findings& findings, Destination expected, base::milliseconds pause_max,
                             base::Deadline deadline) {
  if (!spec_.edit_command.empty()) {
    edit(expected, deadline);  // to where it points already: proves that the command runs
  }
  console_.reload(deadline);  // what is in the file is what the pooler says from here on
  const auto database = console_.find(deadline);
  if (!database) {
    add(findings, base::Severity::blocks, "pooler-database", "the pooler knows no database " + spec_.database,
        "see SHOW DATABASES on its console");
    return;
  }
  if (database->paused || database->disabled) {
    add(findings, base::Severity::blocks, "pooler-paused",
        spec_.database + (database->paused ? " is paused" : " is disabled") + " at the pooler",
        database->paused ? "on its console: RESUME " + spec_.database
                         : "on its console: ENABLE " + spec_.database);
  }
  if (database->address != address(expected)) {
    add(findings, base::Severity::blocks, "pooler-address",
        "the pooler sends " + spec_.database + " to " + text_of(database->address) + ", the plan's " +
            std::string(to_string(expected)) + " is " + text_of(address(expected)),
        "give " + std::string(to_string(expected)) +
            ": {host, port, dbname} of this pooler in the plan, word for word");
  }
  check_pool_mode(findings, *database, deadline);
  check_timeouts(findings, pause_max, deadline);
  if (!spec_.ini.empty()) {
    check_ini(findings, *database, deadline);
  }
}

void Pgbouncer::check_pool_mode(base::Findings& findings, const PoolerDatabase& database,
                                base::Deadline deadline) {
  const auto mode = database.pool_mode.empty() ? console_.config("pool_mode", deadline) : database.pool_mode;
  if (mode != "transaction" && mode != "statement") {
    add(findings, base::Severity::blocks, "pooler-session-pooling",
        "pool_mode is " + (mode.empty() ? "unknown" : mode) + ": a pause waits until every client has left",
        "set pool_mode=transaction for this database");
  }
}

void Pgbouncer::check_timeouts(base::Findings& findings, base::milliseconds pause_max,
                               base::Deadline deadline) {
  for (const auto& [setting, severity] : {std::pair{"query_wait_timeout", base::Severity::blocks},
                                          std::pair{"client_login_timeout", base::Severity::warns}}) {
    const auto text = console_.config(setting, deadline);
    double seconds = 0;
    try {
      seconds = text.empty() ? 0 : std::stod(text);
    } catch (const std::exception&) {
      throw base::Error(label_ + " says " + setting + " = " + text + ", which is no number");
    }
    // Zero means no limit. Clients that wait longer than the limit are thrown out.
    if (seconds > 0 && seconds * 1000 <= static_cast<double>(pause_max.count())) {
      add(findings, severity,
          std::string("pooler-") + (severity == base::Severity::blocks ? "query-wait" : "login-timeout"),
          std::string(setting) + " is " + text + " s, the pause may take " + plan::duration_text(pause_max),
          std::string("on its console: SET ") + setting + " = " +
              std::to_string(pause_max.count() / 1000 * 2 + 10) + ", or a smaller max-pause");
    }
  }
}

void Pgbouncer::check_ini(base::Findings& findings, const PoolerDatabase& database, base::Deadline deadline) {
  const ConfigFile file(spec_.ini);
  const auto entry = find_entry(file.text(), spec_.database);
  if (!entry) {
    add(findings, base::Severity::blocks, "pooler-ini", spec_.database + " is not listed in " + spec_.ini,
        "name the file that holds its line, maybe an %include");
    return;
  }
  if (entry->address != database.address) {
    add(findings, base::Severity::blocks, "pooler-ini",
        spec_.ini + " says " + text_of(entry->address) + ", the pooler says " + text_of(database.address) +
            ", also after RELOAD",
        "name the file that this pooler reads");
  }
  for (const auto side : {Destination::source, Destination::target}) {
    (void)point_entry(file.text(), spec_.database, address(side));  // throws where the line can't be written
  }
  if (const auto obstacle = file.obstacle()) {
    add(findings, base::Severity::blocks, "pooler-ini", *obstacle,
        "run as the file's owner, or use edit-command instead of ini");
  } else if (!edits_are_taken_over(deadline)) {
    add(findings, base::Severity::blocks, "pooler-ini",
        "the pooler doesn't take over an edit of " + spec_.ini + " at RELOAD",
        "see the pooler's log: it reads another file, may not read this one, or finds an error in it");
  }
}

// pgbouncer says RELOAD also where it could not load its configuration, so that alone proves nothing. The
// file is as it was afterwards; a crash in between leaves a line that nobody uses and that the next check
// takes out.
bool Pgbouncer::edits_are_taken_over(base::Deadline deadline) {
  const std::string probe = std::string(kProbePrefix) + std::to_string(getpid());
  const std::lock_guard lock(edits);
  const ConfigFile before(spec_.ini);
  const auto with_probe = add_probe(before.text(), spec_.database, probe);
  before.replace(with_probe);
  bool seen = false;
  std::exception_ptr error;
  try {
    console_.reload(deadline);
    seen = console_.knows(probe, deadline);
  } catch (...) {
    error = std::current_exception();
  }
  const ConfigFile probed(spec_.ini);
  probed.replace(without_probes(probed.text() == with_probe ? before.text() : probed.text()));
  if (error) {
    std::rethrow_exception(error);
  }
  console_.reload(deadline);
  return seen;
}

void Pgbouncer::edit(Destination destination, base::Deadline deadline) const {
  const auto& to = address(destination);
  if (!spec_.ini.empty()) {
    const std::lock_guard lock(edits);
    const ConfigFile file(spec_.ini);
    if (const auto text = point_entry(file.text(), spec_.database, to); text != file.text()) {
      file.replace(text);
    }
    return;
  }
  const base::Command command{.argv = spec_.edit_command,
                              .env = {{"PGCUTOVER_APP", app_},
                                      {"PGCUTOVER_SIDE", std::string(to_string(destination))},
                                      {"PGCUTOVER_HOST", to.host},
                                      {"PGCUTOVER_PORT", to.port},
                                      {"PGCUTOVER_DBNAME", to.dbname}},
                              .stdin_text = {}};
  const auto result = base::run_command(command, deadline, base::Stop::never());
  if (result.exit_code != 0) {
    throw base::Error("the edit command of " + label_ + " ended with " + std::to_string(result.exit_code) +
                          ": " + result.errors.substr(0, 300),
                      "run it by hand with PGCUTOVER_HOST, PGCUTOVER_PORT and PGCUTOVER_DBNAME set");
  }
}

void Pgbouncer::move(Destination destination, base::Deadline deadline) {
  edit(destination, deadline);
  console_.reload(deadline);
  for (const auto limit = deadline.sooner(base::Deadline::in(kTakeOver));;) {
    const auto now = console_.get(base::Deadline::in(kTakeOver)).address;
    if (now == address(destination)) {
      return;
    }
    if (limit.expired()) {
      throw base::Error(label_ + " still goes to " + text_of(now) + " after the edit and RELOAD, not to " +
                            text_of(address(destination)),
                        "see the pooler's log: a configuration it can't read is not loaded");
    }
    base::Stop::never().wait(base::Deadline::in(kPoll));
  }
}

std::optional<Destination> Pgbouncer::points_to() {
  const auto now = console_.get(base::Deadline::in(kCheck)).address;
  for (const auto side : {Destination::source, Destination::target}) {
    if (now == address(side)) {
      return side;
    }
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<Adapter> make_pgbouncer(const plan::Plan& plan, const plan::App& app,
                                        const plan::PgbouncerSpec& spec, const base::Stop& stop) {
  return std::make_unique<Pgbouncer>(plan, app, spec, stop);
}

}  // namespace cutover::traffic
