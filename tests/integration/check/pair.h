// A source and a target on which everything is as it should be, and a role of the tool's own: what a scenario
// then spoils. One pair of clusters serves every scenario; each gets databases of its own.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cutover/check/check.h"
#include "tests/harness/cluster.h"
#include "tests/harness/wait.h"

namespace checks {

namespace base = replication::base;
namespace postgres = replication::postgres;

inline postgres::Connection tool_session(const harness::Cluster& cluster, std::string_view server,
                                         std::string_view database, std::string_view user) {
  const auto info = postgres::ConnInfo::parse(cluster.conninfo(database, user), "test");
  postgres::SessionOptions options;
  options.server = server;
  return postgres::Connection::open(info, options, base::Stop::never());
}

inline void make_mover(const harness::Cluster& cluster) {
  cluster.sql("postgres", "CREATE ROLE mover LOGIN REPLICATION");
  cluster.sql("postgres", "GRANT pg_signal_backend, pg_read_all_stats TO mover");
  // Before 15 there is no lesser right to session_replication_role than being a superuser.
  cluster.sql("postgres", cluster.major() >= 15 ? "GRANT SET ON PARAMETER session_replication_role TO mover"
                                                : "ALTER ROLE mover SUPERUSER");
  cluster.sql("postgres", "CREATE ROLE app LOGIN");
}

struct Clusters {
  harness::Cluster source{
      {.name = "source",
       .conf = {"allow_system_table_mods = on", "autovacuum = off", "max_prepared_transactions = 5"}}};
  harness::Cluster target{
      {.name = "target",
       .conf = {"allow_system_table_mods = on", "autovacuum = off", "max_prepared_transactions = 5"}}};
  Clusters() {
    make_mover(source);
    make_mover(target);
  }
};

inline Clusters& clusters() {
  static Clusters pair;
  return pair;
}

// Sessions end a moment after their client left; a check at once would still see them.
inline void wait_for_quiet(const harness::Cluster& cluster, const std::string& database) {
  auto observer = cluster.connect("postgres");
  harness::wait_until(
      base::Deadline::in(base::milliseconds(180'000)), "no session is left in " + database, [&] {
        return observer.one_value("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", {database}) ==
               "0";
      });
}

struct Pair {
  std::string name;

  explicit Pair(std::string database) : name(std::move(database)) {
    for (const harness::Cluster* cluster : {&clusters().source, &clusters().target}) {
      cluster->sql("postgres", "CREATE DATABASE " + name + " OWNER mover TEMPLATE template0");
    }
    on_source_as_mover("CREATE TABLE good(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x text)");
    on_source_as_mover("INSERT INTO good(x) VALUES ('a')");
    on_source_as_mover("UPDATE good SET x = 'b'");
  }
  void on_source(std::string_view sql) const { clusters().source.sql(name, sql); }
  void on_target(std::string_view sql) const { clusters().target.sql(name, sql); }
  void on_source_as_mover(std::string_view sql) const { clusters().source.connect(name, "mover").exec(sql); }

  struct Sessions {
    postgres::Connection source, target;
  };
  Sessions sessions(std::string_view user = "mover") const {
    return {tool_session(clusters().source, "source", name, user),
            tool_session(clusters().target, "target", name, user)};
  }
  void quiet() const {
    wait_for_quiet(clusters().source, name);
    wait_for_quiet(clusters().target, name);
  }
};

inline std::string to_text(const base::Findings& findings) {
  std::string out = "\n";
  for (const base::Finding& f : findings) {
    out += std::string(f.severity == base::Severity::blocks ? "BLOCKS " : "warns  ") + f.server + " " + f.id +
           " [" + f.object + "] " + f.message + "\n         -> " + f.remedy + "\n";
  }
  return out;
}

inline const base::Finding* find(const base::Findings& findings, std::string_view server, std::string_view id,
                                 std::string_view object) {
  for (const base::Finding& f : findings) {
    if (f.server == server && f.id == id && f.object == object)
      return &f;
  }
  return nullptr;
}

// Every finding is complete and of a known kind.
inline bool well_formed(const base::Findings& findings) {
  for (const base::Finding& f : findings) {
    bool known = false;
    for (const auto& kind : cutover::check::finding_kinds())
      known = known || kind.id == f.id;
    if (!known || f.message.empty() || f.remedy.empty() || f.message.find('\n') != std::string::npos)
      return false;
    if (f.server != "source" && f.server != "target")
      return false;
  }
  return true;
}

}  // namespace checks
