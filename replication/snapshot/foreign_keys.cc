// What comes after the rows: foreign keys and materialized views' data.

#include <string>
#include <vector>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/params.h"
#include "replication/postgres/patient.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/snapshot/place.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/schema.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using catalog::ForeignKey;

constexpr base::milliseconds kLockBudget{300'000};

enum class KeyState { missing, not_valid, valid };

KeyState key_state(postgres::Connection& target, const ForeignKey& key) {
  const auto validated = target.maybe_value(
      "SELECT convalidated FROM pg_catalog.pg_constraint "
      "WHERE conrelid = $1::pg_catalog.regclass AND conname = $2 AND contype = 'f'",
      postgres::Params{key.table, key.name});
  return !validated ? KeyState::missing : *validated == "t" ? KeyState::valid : KeyState::not_valid;
}

// NOT ENFORCED (18) is never checked: there is nothing to validate, and NOT VALID can't be said beside it.
bool enforced(const ForeignKey& key) {
  return !key.definition.ends_with(" NOT ENFORCED");
}

// False where rows violate it.
bool attempt(postgres::Connection& target, const std::string& sql, const ForeignKey& key) {
  try {
    postgres::exec_patiently(target, sql, Deadline::in(kLockBudget));  // apply is at work on the same tables
    return true;
  } catch (Error& error) {
    if (error.connection_usable() && error.sqlstate() == postgres::sqlstate::kForeignKeyViolation) {
      base::log::warn("rows on the target violate " + key.table + "." + key.name + ": " + error.message());
      return false;
    }
    rethrow_at(error, "foreign key " + key.name + " of " + key.table);
  }
}

bool ensure_foreign_key(postgres::Connection& target, const ForeignKey& key) {
  const auto alter = "ALTER TABLE " + key.table;
  const auto name = postgres::quote_identifier(key.name);
  auto state = key_state(target, key);
  if (state == KeyState::missing) {
    // Before 18 a partitioned table can't have a NOT VALID one: it is checked while it is made.
    const bool at_once = !enforced(key) || (key.table_partitioned && target.server_major() < 18);
    const auto add = alter + " ADD CONSTRAINT " + name + " " + key.definition + (at_once ? "" : " NOT VALID");
    if (!attempt(target, add, key)) {
      return false;
    }
    state = at_once ? KeyState::valid : KeyState::not_valid;
  }
  // One that the source itself never validated says nothing about its rows: it stays as it is there.
  if (state == KeyState::valid || !key.validated || !enforced(key)) {
    return true;
  }
  return attempt(target, alter + " VALIDATE CONSTRAINT " + name, key);
}

}  // namespace

std::vector<std::string> ensure_foreign_keys(postgres::Connection& target,
                                             const std::vector<ForeignKey>& keys) {
  std::vector<std::string> violated;
  for (const auto& key : keys) {
    target.stop().check();
    if (!ensure_foreign_key(target, key)) {
      violated.push_back(key.table + "." + postgres::quote_identifier(key.name));
    }
  }
  run_deferred(target);
  return violated;
}

void refresh_matviews(postgres::Connection& target, const std::vector<std::string>& matviews) {
  for (const auto& matview : matviews) {
    try {
      target.exec("REFRESH MATERIALIZED VIEW " + matview, Deadline::never());
    } catch (Error& error) {
      rethrow_at(error, "refreshing " + matview);
    }
  }
}

}  // namespace replication::snapshot
