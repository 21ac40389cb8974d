// What the server computes for us is computed as for the applications.
//
// Our sessions have their text settings pinned: UTC, ISO dates... What a server computes while we write
// (generated columns, expressions of indexes, partition keys and checks) or refresh (materialized views) may
// depend on such settings: date_trunc('day', at) is another day in another time zone. So these sessions get
// the values that a new session in the source's database has (ConnInfo::with_application_settings). What we
// send and read is not affected: ISO text with an offset is the same moment everywhere.
//
// A value that this server doesn't take (a text search configuration that isn't there yet) is left out.
#pragma once

#include <string>
#include <vector>

#include "replication/postgres/connection.h"

namespace replication::postgres {

// `rows`: while data arrives as text; what decides how that is read stays pinned. `queries`: everything.
enum class Computes { rows, queries };

// The names of the settings that matter for `queries`.
const std::vector<std::string>& application_setting_names();

// For the rest of the session. Not inside a transaction.
void compute_as_applications(Connection& connection, Computes what);

// For a while. Neither made nor ended inside a transaction.
class AsApplications {
 public:
  AsApplications(Connection& connection, Computes what);
  ~AsApplications();
  AsApplications(const AsApplications&) = delete;
  AsApplications& operator=(const AsApplications&) = delete;

 private:
  Connection& connection_;
  const Computes what_;
};

}  // namespace replication::postgres
