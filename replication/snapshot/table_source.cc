#include "replication/snapshot/table_source.h"

#include <array>
#include <charconv>
#include <random>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using base::milliseconds;

constexpr milliseconds kLockMax{600'000};
constexpr milliseconds kSnapshotMax{600'000};
constexpr milliseconds kSnapshotPoll{250};
constexpr const char* kBegin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

std::string random_token() {
  std::random_device device;
  std::string token = "copy-";
  for (int i = 0; i < 4; ++i) {
    std::array<char, 9> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), device(), 16).ptr;
    token.append(digits.data(), end).append(i < 3 ? "-" : "");
  }
  return token;
}

// Whoever keeps the oldest transaction ids: what the snapshot's xmin waits for.
std::string oldest_transactions(postgres::Connection& connection) {
  const auto rows = connection.exec(R"(
    SELECT who FROM (
      SELECT 'pid ' || pid || ' ' || coalesce(usename, '') || ' app="' || application_name || '" of database '
               || coalesce(datname, '-') || ' ' || coalesce(state, '') || ' since ' || xact_start::timestamp(0) AS who,
             age(backend_xid) AS age
        FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL
      UNION ALL
      SELECT 'prepared transaction ' || quote_literal(gid) || ' of database ' || database, age(transaction)
        FROM pg_catalog.pg_prepared_xacts) blockers
    ORDER BY age DESC LIMIT 3)");
  std::string text;
  for (int row = 0; row < rows.rows(); ++row) {
    text += (row == 0 ? "" : "; ") + rows.text(row, 0);
  }
  return text.empty() ? "transactions that have just ended" : text;
}

}  // namespace

std::uint64_t snapshot_xmin(const std::string& snapshot) {
  std::uint64_t xmin = 0;
  const auto end = snapshot.data() + snapshot.size();
  const auto [at, error] = std::from_chars(snapshot.data(), end, xmin);
  if (error != std::errc{} || at == end || *at != ':') {
    throw Error("no snapshot: " + snapshot);
  }
  return xmin;
}

postgres::Connection TableSource::connect() const {
  postgres::SessionOptions session;
  session.server = "source";
  session.application_name = "pgcutover copy";
  return postgres::Connection::open(options_.source, session, stop_);
}

TableSource::Reading TableSource::begin(const catalog::Table& table) {
  if (!options_.exported_snapshot.empty() && !exported_lost_ && import_snapshot()) {
    lock(*shared_, table);
    if (!rewritten(table)) {
      return {&*shared_, {}, {}};
    }
    base::log::info(table.display() +
                    " was rewritten after the slot's snapshot: copied under a snapshot of its own");
  }
  return begin_own(table);
}

// False where the slot's snapshot can't be imported any more: the session that holds it is gone.
bool TableSource::import_snapshot() {
  if (shared_ && shared_->usable() && shared_->in_transaction()) {
    return true;
  }
  shared_.emplace(connect());
  shared_->exec(kBegin);
  try {
    shared_->exec("SET TRANSACTION SNAPSHOT " + postgres::quote_literal(options_.exported_snapshot));
    return true;
  } catch (const base::Stopped&) {
    throw;
  } catch (const Error& error) {
    if (!error.connection_usable()) {
      throw;
    }
    base::log::warn("the slot's snapshot is gone (" + error.message() +
                    "): the remaining tables are copied under snapshots of their own");
  }
  exported_lost_ = true;
  shared_.reset();
  return false;
}

void TableSource::lock(postgres::Connection& connection, const catalog::Table& table) {
  connection.exec("LOCK TABLE ONLY " + table.qualified() + " IN ACCESS SHARE MODE", Deadline::in(kLockMax));
}

// Once the lock is held, what pg_relation_filenode says now stays true; pg_class is read as the snapshot sees
// it.
bool TableSource::rewritten(const catalog::Table& table) {
  const auto row = shared_->exec(
      "SELECT c.relfilenode, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0) FROM pg_catalog.pg_class c "
      "WHERE c.oid = $1::bigint::oid AND c.oid = pg_catalog.to_regclass($2)::oid",
      postgres::Params().integer(table.oid).text(std::string_view(table.qualified())));
  if (row.rows() != 1) {
    throw Error(table.display() + " is another table than when the copy was planned",
                "leave the source's schema alone until the switch; `pgcutover cancel` and begin again")
        .on("source");
  }
  return row.oid(0, 0) != row.oid(0, 1);
}

TableSource::Reading TableSource::begin_own(const catalog::Table& table) {
  if (!own_ || !own_->usable()) {
    own_.emplace(connect());
  }
  Reading reading;
  reading.connection = &*own_;
  reading.snapshot = take_snapshot(table);
  reading.marker = random_token();
  write_marker(reading.marker);
  return reading;
}

std::string TableSource::take_snapshot(const catalog::Table& table) {
  std::uint64_t slot_xid = 0;
  std::from_chars(options_.slot_xid.data(), options_.slot_xid.data() + options_.slot_xid.size(), slot_xid);
  PGCUTOVER_CHECK(slot_xid > 0, "slot_xid of the copy is \"" + options_.slot_xid + "\"");
  const std::string function =
      own_->server_major() >= 13 ? "pg_current_snapshot()" : "txid_current_snapshot()";
  const auto deadline = Deadline::in(kSnapshotMax);
  for (bool told = false;;) {
    own_->exec(kBegin);
    lock(*own_, table);  // before the snapshot: a rewrite in between would show an empty table
    const auto row =
        own_->one_row("SELECT pg_catalog." + function +
                          "::text, pg_catalog.pg_is_in_recovery(), pg_catalog.to_regclass($1)::oid",
                      postgres::Params{table.qualified()});
    if (row.boolean(0, 1)) {
      throw Error("the source is a standby: its snapshots hide running transactions",
                  "name the primary as the source")
          .on("source");
    }
    if (row.oid(0, 2) != table.oid) {
      throw Error(table.display() + " is another table than when the copy was planned",
                  "leave the source's schema alone until the switch; `pgcutover cancel` and begin again")
          .on("source");
    }
    const auto snapshot = row.text(0, 0);
    if (snapshot_xmin(snapshot) >= slot_xid) {
      return snapshot;
    }
    own_->exec("ROLLBACK");
    const auto blockers = oldest_transactions(*own_);
    if (deadline.expired()) {
      throw base::TimeoutError(
          "no snapshot after the slot's beginning for " + table.display() + ": " + blockers,
          "end these transactions on the source, then run the same command again")
          .on("source");
    }
    if (!told) {
      base::log::info("waiting for transactions older than the slot: " + blockers);
      told = true;
    }
    if (stop_.wait(Deadline::in(kSnapshotPoll).sooner(deadline))) {
      throw base::Stopped();
    }
  }
}

// The row is the stream room's (stream/marker.h). Every update is a message of its own in the stream: that
// others overwrite the row later doesn't matter. The synchronous commit makes everything that S sees durable
// before the table counts as copied.
void TableSource::write_marker(const std::string& token) {
  if (!marker_ || !marker_->usable()) {
    marker_.emplace(connect());
    marker_->exec("SET synchronous_commit = on");
  }
  const auto result =
      marker_->exec("UPDATE pgcutover.marker SET token = $1 WHERE id = 1", postgres::Params{token});
  if (result.affected_rows() != 1) {
    throw Error("pgcutover.marker has no row 1", "run `pgcutover cancel` and begin again").on("source");
  }
}

void TableSource::end() {
  if (own_ && own_->usable() && own_->in_transaction()) {
    own_->exec("COMMIT");
  }
}

void TableSource::abandon() noexcept {
  shared_.reset();
  own_.reset();
  marker_.reset();
}

}  // namespace replication::snapshot
