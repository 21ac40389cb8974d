// The user's publications and subscriptions on their way to the target, on request. Never those of pgcutover.
//
// A publication is made as pg_dump writes it down (tables, schemas, column lists, row filters). A
// subscription is made disabled, without connecting, and without the slot's name: where two have it, enabling
// both would give each a part of the changes, and dropping one would drop the slot of the other. Its
// connection string is a secret: registered before it is read, kept in no file, and sent only where the
// server can be told not to log it. Each object is one transaction with the statement that takes it back
// (pgcutover.undo). What can't be made is told, not fatal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "replication/base/stop.h"
#include "replication/postgres/connection.h"
#include "replication/postgres/conninfo.h"
#include "replication/postgres/fencing_token.h"
#include "replication/snapshot/sql_script.h"

namespace replication::snapshot {

// What the names of our publications begin with, whichever migration's they are.
inline constexpr std::string_view kOwnPublications = "pgcutover_";

// Which kinds are taken along.
struct StreamObjects {
  bool publications = false, subscriptions = false;
};

// Makes passwords in the source's subscriptions unprintable, where we may read them.
void register_subscription_secrets(postgres::Connection& source);

struct StreamObjectsMade {
  std::vector<std::string> publications, subscriptions;  // by name
  std::vector<std::string> not_made;                     // with the reason
  std::string summary() const;  // one line, says what is left to do; empty for nothing
};
// Once all else of the schema is there. Objects of that name that the target has are left alone.
StreamObjectsMade restore_stream_objects(const postgres::ConnInfo& target,
                                         const postgres::FencingToken& token,
                                         const std::vector<ScriptItem>& items, const base::Stop& stop);

}  // namespace replication::snapshot
