// What no stream carries: the rows of unlogged tables, large objects, materialized views. All three are
// brought up to date on the side that will open before the pause, and looked at once more under the fence,
// where nobody can write them any more.
//
// The look is exact: rows and bytes are compared; a materialized view counts as changed when somebody
// refreshed it since (each REFRESH, CONCURRENTLY too, writes its row of pg_class). What has changed is copied
// again inside the pause, refuses the switch, or is left behind by name: gates.unstreamed.
// One thread. Errors: those of the statements; an Error that names what changed where it refuses.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cutover/steps/stale.h"
#include "replication/catalog/catalog.h"
#include "replication/snapshot/large_objects.h"

namespace cutover::steps {

class Unstreamed {
 public:
  // `content` of `from`; outlives it.
  Unstreamed(const catalog::Catalog& content, Side from) : content_(content), from_(from) {}

  // Outside the pause. Throws where a look takes so long that it would use up the pause, or where a
  // materialized view can't be refreshed, unless the plan defers: then there is no look and all of it counts
  // as left behind, and the view does.
  void refresh(Context& context, Link& link);
  // Under the fence, in the pause's sessions. Returns what is left behind, for people; see gates.unstreamed.
  std::vector<std::string> settle(Context& context, base::Deadline deadline);
  // Materialized views that were left behind: refreshed once the side is open.
  const std::vector<StaleMatview>& stale() const { return stale_; }

 private:
  using Matviews = std::map<std::string, std::string>;  // populated ones; quoted name -> state
  struct Changed {
    std::vector<const catalog::Table*> tables;
    std::vector<std::string> matviews;
    std::vector<std::string> names(const std::vector<base::Oid>& objects) const;
  };
  Matviews matviews(Context& context) const;
  std::vector<std::string> refreshed_since(Context& context) const;
  Changed look(Context& context, postgres::Connection& to, base::Deadline deadline) const;
  std::vector<std::string> leave_behind(const std::vector<std::string>& changed);

  const catalog::Catalog& content_;
  const Side from_;
  replication::snapshot::LargeObjects objects_;
  Matviews seen_;                     // on `from`, before they were refreshed on the other side
  std::optional<double> unlookable_;  // seconds that a look takes, where that is too long for the pause
  std::vector<StaleMatview> stale_;
};

// Unlogged tables whose rows are moved (tables.unlogged: data).
std::vector<catalog::Table> unlogged_tables(const plan::Plan& plan, const catalog::Catalog& content);

}  // namespace cutover::steps
