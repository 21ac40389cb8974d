#include "replication/postgres/fencing_token.h"

#include "replication/base/error.h"

namespace replication::postgres {

void FencingToken::assert_current(Connection& connection) const {
  const auto current =
      connection.maybe_value("SELECT epoch FROM pgcutover.controller WHERE id = 1 FOR SHARE");
  if (current != std::to_string(epoch_)) {
    throw base::StateError("another controller took over (epoch " + current.value_or("none") + ", ours is " +
                               std::to_string(epoch_) + "): nothing was changed",
                           "see `pgcutover status` for who is in control")
        .on(connection.server());
  }
}

std::string FencingToken::sql_condition() const {
  return "EXISTS (SELECT 1 FROM pgcutover.controller WHERE id = 1 AND epoch = " + std::to_string(epoch_) +
         ")";
}

FencingToken FencingToken::current(Connection& connection) {
  return FencingToken(
      connection.one_row("SELECT epoch FROM pgcutover.controller WHERE id = 1").integer(0, 0));
}

std::string FencingToken::schema_sql() {
  return R"(
CREATE SCHEMA IF NOT EXISTS pgcutover;
CREATE TABLE IF NOT EXISTS pgcutover.controller (
  id integer PRIMARY KEY CHECK (id = 1),
  epoch bigint NOT NULL,
  holder text NOT NULL,
  since timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO pgcutover.controller (id, epoch, holder) VALUES (1, 0, 'nobody') ON CONFLICT DO NOTHING;
)";
}

}  // namespace replication::postgres
