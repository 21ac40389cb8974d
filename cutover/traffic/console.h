// pgbouncer's admin console for one database: two sessions, kept open, so that a pause that hangs can be
// resumed from the other one, and so that neither needs a log-in during a switch.
//
// Seen on pgbouncer 1.18: a PAUSE that waits for an open transaction blocks new ones; ending its session
// doesn't take it back; RESUME does, but the waiting PAUSE is then never answered. So PAUSE runs in a thread
// of its own, which is left behind when the deadline passes and joined when the Console ends. The control
// session isn't interrupted by stop requests: it is the one that undoes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cutover/plan/plan.h"
#include "replication/base/deadline.h"
#include "replication/base/stop.h"
#include "replication/postgres/connection.h"

namespace cutover::traffic {

namespace base = replication::base;
namespace postgres = replication::postgres;

// A row of SHOW DATABASES.
struct PoolerDatabase {
  plan::Address address;
  std::string pool_mode;  // empty = the pooler's default
  bool paused = false;
  bool disabled = false;
};

class Console {
 public:
  // `stop` interrupts waiting for a pause; it outlives the console.
  Console(const postgres::ConnInfo& admin, std::string database, std::string label, const base::Stop& stop);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // Opens both sessions where they aren't open.
  void open(base::Deadline deadline);

  bool knows(std::string_view database, base::Deadline deadline);
  std::optional<PoolerDatabase> find(
      base::Deadline deadline);                 // nothing where the pooler doesn't know the database
  PoolerDatabase get(base::Deadline deadline);  // throws Error instead
  std::string config(std::string_view key, base::Deadline deadline);  // of SHOW CONFIG; empty where unknown
  // Busy server connections of the database, for people, at most a few.
  std::string busy(base::Deadline deadline);
  void reload(base::Deadline deadline);

  // PAUSE. On any failure the database was resumed, and no PAUSE of ours is still on its way, before it
  // throws: TimeoutError naming who is busy, Stopped, Error.
  void pause(base::Deadline deadline);
  // RESUME where it is paused, proven by SHOW DATABASES. Reconnects where it has to, until the deadline.
  void resume(base::Deadline deadline);

 private:
  struct Pause;
  postgres::Result control(std::string_view sql, base::Deadline deadline);
  postgres::Connection connect(const base::Stop& stop, const std::string& application,
                               base::Deadline deadline) const;
  std::unique_ptr<Pause> new_pause(base::Deadline deadline) const;
  void resume_after_failed_pause(std::unique_ptr<Pause> failed);
  bool session_listed(const std::string& application, base::Deadline deadline);

  postgres::ConnInfo admin_;
  std::string database_, label_;
  const base::Stop& stop_;
  std::optional<postgres::Connection> control_;
  std::unique_ptr<Pause> pause_;                   // the session that will send PAUSE
  std::vector<std::unique_ptr<Pause>> abandoned_;  // those whose PAUSE was never answered
};

}  // namespace cutover::traffic
