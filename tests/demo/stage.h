// Where the demo plays: two servers and a pooler (throw-away ones, or ones that exist already), the roles, a
// database full of data on the source, an empty one on the target, and the plan file for the tool.
//
// Roles: `app` owns everything and makes all the load; `mover` is the tool's own and a superuser.
// Threads: one owner.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "tests/demo/options.h"
#include "tests/harness/cluster.h"
#include "tests/harness/pgbouncer.h"
#include "tests/harness/temp_dir.h"
#include "tests/load/shop_schema.h"

namespace demo {

enum class Side { source, target };
const char* name_of(Side side);

inline constexpr const char* kDatabase = "shop";

class Stage {
 public:
  Stage(const Options& options, const replication::base::Stop& stop);

  // A superuser's session, with none of the application's settings.
  replication::postgres::Connection connect(Side side, const std::string& database = kDatabase) const;
  const replication::postgres::ConnInfo& pooler() const { return pooler_info_; }
  const load::ShopSize& shop() const { return shop_; }
  std::string plan_file() const { return directory_.file("plan.yaml"); }
  std::string file(const std::string& name) const { return directory_.file(name); }
  std::string describe() const;

  // Roles on both servers, data on the source, an empty database on the target, the plan file.
  void set_up(int scale);

 private:
  void start_servers(const Options& options);
  void make_roles();
  void make_database(Side side);
  void write_plan() const;
  const replication::postgres::ConnInfo& admin(Side side) const;
  replication::postgres::ConnInfo as(Side side, const std::string& user, const std::string& password) const;

  const replication::base::Stop& stop_;
  harness::TempDir directory_;
  std::optional<harness::Cluster> source_, target_;
  std::optional<harness::Pgbouncer> bouncer_;
  replication::postgres::ConnInfo source_admin_, target_admin_, pooler_info_, console_info_;
  std::string databases_ini_;
  std::string mover_password_;
  load::ShopSize shop_;
};

}  // namespace demo
