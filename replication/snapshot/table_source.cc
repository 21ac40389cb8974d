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
// Locks of tables already copied are given back now and then: the source's lock table isn't ours alone.
constexpr std::size_t kLocksMax = 100;
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
  Tables tables{&table};
  Tables rewritten;
  auto reading = begin(tables, rewritten);
  return rewritten.empty() ? reading : begin_own(rewritten);
}

TableSource::Reading TableSource::begin(Tables& tables, Tables& rewritten) {
  if (options_.exported_snapshot.empty() || exported_lost_ || !import_snapshot()) {
    return begin_own(tables);
  }
  lock(*shared_, tables);
  locked_ += tables.size();
  rewritten = take_rewritten(tables);
  for (const auto* table : rewritten) {
    base::log::info(table->display() +
                    " was rewritten after the slot's snapshot: copied under a snapshot of its own");
  }
  return {tables.empty() ? nullptr : &*shared_, {}, {}};
}

// False where the slot's snapshot can't be imported any more: the session that holds it is gone.
bool TableSource::import_snapshot() {
  const bool open = shared_ && shared_->usable() && shared_->in_transaction();
  if (open && locked_ < kLocksMax) {
    return true;
  }
  if (open) {
    shared_->exec("COMMIT");
  } else {
    shared_.emplace(connect());
  }
  locked_ = 0;
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

void TableSource::lock(postgres::Connection& connection, const Tables& tables) {
  std::string names;
  for (const auto* table : tables) {
    names += (names.empty() ? "ONLY " : ", ONLY ") + table->qualified();
  }
  connection.exec("LOCK TABLE " + names + " IN ACCESS SHARE MODE", Deadline::in(kLockMax));
}

[[noreturn]] void throw_replaced(const catalog::Table& table) {
  throw Error(table.display() + " is another table than when the copy was planned",
              "leave the source's schema alone until the switch; `pgcutover cancel` and begin again")
      .on("source");
}

std::string oid_array(const TableSource::Tables& tables) {
  std::string text = "{";
  for (const auto* table : tables) {
    text += (text.size() == 1 ? "" : ",") + std::to_string(table->oid);
  }
  return text + "}";
}

std::string name_array(const TableSource::Tables& tables) {
  std::vector<std::string> names;
  for (const auto* table : tables) {
    names.push_back(table->qualified());
  }
  return postgres::array_literal(names);
}

// The columns that are copied, of all these tables: what $3 to $6 of kOtherColumn stand for.
void add_columns(postgres::Params& params, const TableSource::Tables& tables) {
  std::vector<std::string> oids;
  std::vector<std::string> names;
  std::vector<std::string> types;
  std::vector<std::string> modifiers;
  for (const auto* table : tables) {
    for (const auto& column : table->columns) {
      if (!column.generated) {
        oids.push_back(std::to_string(table->oid));
        names.push_back(column.name);
        types.push_back(std::to_string(column.type));
        modifiers.push_back(std::to_string(column.type_modifier));
      }
    }
  }
  params.text(std::string_view(postgres::array_literal(oids)))
      .text(std::string_view(postgres::array_literal(names)))
      .text(std::string_view(postgres::array_literal(types)))
      .text(std::string_view(postgres::array_literal(modifiers)));
}

// A column that isn't what the copy was planned with, as the snapshot sees it. Its binary form may well be
// one that the target's column takes for another value: float4 and int4 have the same length.
constexpr const char* kOtherColumn =
    "(SELECT pg_catalog.format('column %s of %s is %s now, and was %s when the copy was planned', c.name, "
    "c.relid::pg_catalog.regclass, coalesce(pg_catalog.format_type(a.atttypid, a.atttypmod), 'gone'), "
    "pg_catalog.format_type(c.type, c.modifier)) "
    "FROM unnest($3::oid[], $4::text[], $5::oid[], $6::int[]) c(relid, name, type, modifier) "
    "LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.relid AND a.attname = c.name AND NOT "
    "a.attisdropped WHERE (a.atttypid, a.atttypmod) IS DISTINCT FROM (c.type, c.modifier) LIMIT 1)";

[[noreturn]] void throw_other_column(const std::string& what) {
  throw Error(what, "do the same to the target's table, then run the same command again").on("source");
}

// Once the lock is held, what pg_relation_filenode says now stays true; pg_class is read as the snapshot sees
// it.
TableSource::Tables TableSource::take_rewritten(Tables& tables) {
  postgres::Params params{oid_array(tables), name_array(tables)};
  add_columns(params, tables);
  const auto rows = shared_->exec(
      std::string("SELECT c.relfilenode, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0), ") +
          kOtherColumn +
          " FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY wanted(oid, name, place) "
          "LEFT JOIN pg_catalog.pg_class c ON c.oid = wanted.oid AND c.oid = "
          "pg_catalog.to_regclass(wanted.name) ORDER BY place",
      params);
  Tables same;
  Tables rewritten;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const auto row = static_cast<int>(i);
    if (rows.is_null(row, 0)) {
      throw_replaced(*tables[i]);
    }
    if (!rows.is_null(row, 2)) {
      throw_other_column(rows.text(row, 2));
    }
    (rows.oid(row, 0) == rows.oid(row, 1) ? same : rewritten).push_back(tables[i]);
  }
  tables = std::move(same);
  return rewritten;
}

TableSource::Reading TableSource::begin_own(const Tables& tables) {
  // Whoever waits for a lock that the other transaction has (a TRUNCATE of this very table) would be waited
  // for here: neither ends, and the server can't see that both sessions are ours.
  if (shared_ && shared_->usable() && shared_->in_transaction()) {
    shared_->exec("COMMIT");
  }
  if (!own_ || !own_->usable()) {
    own_.emplace(connect());
  }
  Reading reading;
  reading.connection = &*own_;
  reading.snapshot = take_snapshot(tables);
  reading.marker = random_token();
  write_marker(reading.marker);
  return reading;
}

std::string TableSource::take_snapshot(const Tables& tables) {
  std::uint64_t slot_xid = 0;
  std::from_chars(options_.slot_xid.data(), options_.slot_xid.data() + options_.slot_xid.size(), slot_xid);
  PGCUTOVER_CHECK(slot_xid > 0, "slot_xid of the copy is \"" + options_.slot_xid + "\"");
  const std::string function =
      own_->server_major() >= 13 ? "pg_current_snapshot()" : "txid_current_snapshot()";
  const auto deadline = Deadline::in(kSnapshotMax);
  postgres::Params params{oid_array(tables), name_array(tables)};
  add_columns(params, tables);
  for (bool told = false;;) {
    own_->exec(kBegin);
    lock(*own_, tables);  // before the snapshot: a rewrite in between would show an empty table
    const auto row =
        own_->one_row("SELECT pg_catalog." + function +
                          "::text, pg_catalog.pg_is_in_recovery(), (SELECT min(place) "
                          "FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY wanted(oid, name, place) "
                          "WHERE pg_catalog.to_regclass(name) IS DISTINCT FROM oid), " +
                          kOtherColumn,
                      params);
    if (row.boolean(0, 1)) {
      throw Error("the source is a standby: its snapshots hide running transactions",
                  "name the primary as the source")
          .on("source");
    }
    if (!row.is_null(0, 2)) {
      throw_replaced(*tables[static_cast<std::size_t>(row.integer(0, 2) - 1)]);
    }
    if (!row.is_null(0, 3)) {
      throw_other_column(row.text(0, 3));
    }
    const auto snapshot = row.text(0, 0);
    if (snapshot_xmin(snapshot) >= slot_xid) {
      return snapshot;
    }
    own_->exec("ROLLBACK");
    const auto blockers = oldest_transactions(*own_);
    if (deadline.expired()) {
      throw base::TimeoutError(
          "no snapshot after the slot's beginning for " + tables.front()->display() + ": " + blockers,
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
