#include "replication/snapshot/split_table.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/retry.h"
#include "replication/snapshot/workers.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using catalog::Table;

constexpr int kFirstMajor = 14;
constexpr base::milliseconds kLockMax{600'000};

// The snapshot can't be had any more: no part can be tried again alone.
class SnapshotLost : public base::TypedError<SnapshotLost> {
 public:
  using TypedError::TypedError;
};

// One generation of a split table's copy: what its parts share.
struct Generation {
  const Table& table;
  std::string id = {};
  std::string snapshot = {};  // exported by the owner
  std::vector<BlockRange> parts = {};

  postgres::Params key() const { return postgres::Params{table.schema, table.name, id}; }
};

// `bytes` with what is stored out of line: few blocks may lead to much of that.
std::vector<BlockRange> divide(std::int64_t blocks, std::int64_t bytes, std::int64_t part_bytes) {
  std::vector<BlockRange> parts;
  const auto count = std::clamp<std::int64_t>(bytes / part_bytes, 1, std::max<std::int64_t>(blocks, 1));
  for (std::int64_t i = 0; i < count; ++i) {
    parts.push_back({blocks * i / count, blocks * (i + 1) / count});
  }
  parts.back().end.reset();
  return parts;
}

class PartCopier {
 public:
  PartCopier(const CopyOptions& options, CopyShared& shared, CopyListener& listener,
             const Generation& generation, const base::Stop& stop)
      : options_(options),
        shared_(shared),
        listener_(listener),
        generation_(generation),
        stop_(stop),
        memory_(shared.row_memory) {}

  void copy(std::size_t part) {
    with_retries(
        stop_, [&] { attempt(part); },
        [&] {
          abandon_source();
          target_.reset();
        },
        [&] { return "part " + std::to_string(part + 1) + " of " + generation_.table.display(); });
  }

 private:
  void attempt(std::size_t part) {
    base::fault_point("copy.part-begin");
    connect();
    postgres::Transaction transaction(*target_);
    if (!begin_part(part)) {
      transaction.rollback();
      return;
    }
    CopiedTable told;
    try {
      transfer(part, told);
      base::fault_point("copy.part-before-commit");
      options_.token.assert_current(*target_);
      transaction.commit_or_throw();
      if (memory_.large()) {  // a connection stays as large as its largest row
        abandon_source();
      }
    } catch (...) {
      listener_.moved(generation_.table, -told.rows, -told.bytes);
      throw;
    }
    base::fault_point("copy.part-done");
  }

  void abandon_source() {
    source_.reset();
    memory_.give_back();
  }

  void transfer(std::size_t part, CopiedTable& told) {
    const auto& table = generation_.table;
    CopyStream stream(
        shared_, memory_,
        [&](std::int64_t rows, std::int64_t bytes) {
          told.rows += rows;
          told.bytes += bytes;
          listener_.moved(table, rows, bytes);
        },
        stop_);
    const auto copied = stream.run(*source_, copy_range_out_sql(table, generation_.parts[part]), *target_,
                                   copy_in_sql(table, false));
    end_part(part, copied);
  }

  // False where an earlier attempt has committed it after all.
  bool begin_part(std::size_t part) {
    auto params = generation_.key();
    params.integer(static_cast<std::int64_t>(part));
    const auto begun = target_->exec(
        "INSERT INTO pgcutover.table_part (schema, name, generation, part) SELECT $1, $2, $3, $4::int "
        "WHERE EXISTS (SELECT FROM pgcutover.table_generation WHERE schema = $1 AND name = $2 "
        "AND generation = $3) ON CONFLICT DO NOTHING",
        params, Deadline::in(kLockMax));
    if (begun.affected_rows() == 1) {
      return true;
    }
    if (target_->maybe_value("SELECT rows FROM pgcutover.table_part WHERE schema = $1 AND name = $2 "
                             "AND generation = $3 AND part = $4::int",
                             params)) {
      return false;
    }
    throw_replaced();
  }

  void end_part(std::size_t part, const CopiedTable& copied) {
    auto params = generation_.key();
    params.integer(static_cast<std::int64_t>(part)).integer(copied.rows).integer(copied.bytes);
    target_->exec(
        "UPDATE pgcutover.table_part SET rows = $5, bytes = $6 WHERE schema = $1 AND name = $2 "
        "AND generation = $3 AND part = $4::int",
        params);
    // Locked until our commit: who wants to set another generation has to wait for us.
    if (target_
            ->exec("SELECT FROM pgcutover.table_generation WHERE schema = $1 AND name = $2 "
                   "AND generation = $3 FOR SHARE",
                   generation_.key())
            .rows() != 1) {
      throw_replaced();
    }
  }

  [[noreturn]] void throw_replaced() const {
    throw base::StateError("the copy of " + generation_.table.display() + " was begun again by somebody else",
                           "another controller is at work: see `pgcutover status`")
        .on("target");
  }

  void connect() {
    if (!target_ || !target_->usable()) {
      target_.emplace(open_copy_target(options_, stop_));
    }
    if (source_ && source_->usable() && source_->in_transaction()) {
      return;
    }
    postgres::SessionOptions session;
    session.server = "source";
    session.application_name = "pgcutover copy";
    source_.emplace(postgres::Connection::open(options_.source, session, stop_));
    source_->exec("SET enable_seqscan = off");  // the range scan is what we came for
    source_->exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    try {
      source_->exec("SET TRANSACTION SNAPSHOT " + postgres::quote_literal(generation_.snapshot));
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      if (!error.connection_usable()) {
        throw;
      }
      throw SnapshotLost("the snapshot of " + generation_.table.display() + " is gone: " + error.message())
          .on("source");
    }
    source_->exec("LOCK TABLE ONLY " + generation_.table.qualified() + " IN ACCESS SHARE MODE",
                  Deadline::in(kLockMax));
  }

  const CopyOptions& options_;
  CopyShared& shared_;
  CopyListener& listener_;
  const Generation& generation_;
  const base::Stop& stop_;
  RowMemory::Share memory_;  // outlives the connection that it is for
  std::optional<postgres::Connection> source_, target_;
};

// What was noted, where the table is done already.
std::optional<CopiedTable> begin_generation(const CopyOptions& options, postgres::Connection& target,
                                            const Generation& generation) {
  postgres::Transaction transaction(target);
  const auto emptied = empty_table(target, generation.table);
  if (emptied.done) {
    transaction.rollback();
    return emptied.done;
  }
  target.exec(
      "INSERT INTO pgcutover.table_generation (schema, name, generation) VALUES ($1, $2, $3) "
      "ON CONFLICT (schema, name) DO UPDATE SET generation = excluded.generation",
      generation.key(), Deadline::in(kLockMax));
  target.exec("DELETE FROM pgcutover.table_part WHERE schema = $1 AND name = $2",
              postgres::Params{generation.table.schema, generation.table.name});
  options.token.assert_current(target);
  transaction.commit_or_throw();
  base::fault_point("copy.generation-begun");
  return std::nullopt;
}

CopiedTable end_generation(const CopyOptions& options, postgres::Connection& target,
                           const Generation& generation, const TableSource::Reading& reading) {
  postgres::Transaction transaction(target);
  const auto row = target.one_row(
      "SELECT count(rows), coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint "
      "FROM pgcutover.table_part WHERE schema = $1 AND name = $2 AND generation = $3",
      generation.key());
  if (row.integer(0, 0) != static_cast<std::int64_t>(generation.parts.size())) {
    throw Error(std::to_string(row.integer(0, 0)) + " of " + std::to_string(generation.parts.size()) +
                " parts are on the target")
        .on("target")
        .set_retryable(true);
  }
  const CopiedTable copied{row.integer(0, 1), row.integer(0, 2)};
  write_notes(target, reading, {{&generation.table, copied, false}});
  for (const char* table : {"table_part", "table_generation"}) {
    target.exec("DELETE FROM pgcutover." + std::string(table) + " WHERE schema = $1 AND name = $2",
                postgres::Params{generation.table.schema, generation.table.name});
  }
  base::fault_point("copy.generation-before-commit");
  options.token.assert_current(target);
  transaction.commit_or_throw();
  return copied;
}

std::string random_generation(postgres::Connection& target) {
  return target.one_value("SELECT md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text)");
}

CopiedTable attempt_split(const CopyOptions& options, CopyShared& shared, CopyListener& listener,
                          const Table& table, std::int64_t part_bytes, const base::Stop& stop) {
  auto target = open_copy_target(options, stop);
  Generation generation{.table = table};
  generation.id = random_generation(target);
  if (const auto done = begin_generation(options, target, generation)) {
    return *done;
  }
  TableSource owner(options, stop);
  const auto reading = owner.begin(table);
  auto& session = *reading.connection;
  const auto size = session.one_row(
      "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_relation_size($1::pg_catalog.regclass), "
      "pg_catalog.current_setting('block_size')::bigint",
      postgres::Params{table.qualified()});
  generation.snapshot = size.text(0, 0);
  const auto block = size.integer(0, 2);
  generation.parts =
      divide(size.integer(0, 1) / block, std::max(table.bytes, size.integer(0, 1)), part_bytes);
  base::log::debug(table.display() + " is copied in " + std::to_string(generation.parts.size()) + " parts");
  try {
    run_workers(options.jobs, generation.parts.size(), stop, [&](WorkQueue& queue, const base::Stop& cancel) {
      PartCopier copier(options, shared, listener, generation, cancel);
      while (const auto part = queue.next()) {
        copier.copy(*part);
      }
    });
  } catch (const SnapshotLost& error) {
    throw Error(error.message()).on("source").set_retryable(true);
  }
  session.exec("SELECT");  // throws where the lock, and with it the snapshot's worth, was lost meanwhile
  return end_generation(options, target, generation, reading);
}

}  // namespace

std::string split_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.table_generation (
  schema text NOT NULL,
  name text NOT NULL,
  generation text NOT NULL,
  PRIMARY KEY (schema, name)
);
CREATE TABLE IF NOT EXISTS pgcutover.table_part (
  schema text NOT NULL,
  name text NOT NULL,
  generation text NOT NULL,
  part integer NOT NULL,
  rows bigint,
  bytes bigint,
  PRIMARY KEY (schema, name, generation, part)
);
)";
}

bool can_be_split(const Table& table, int source_major) {
  return source_major >= kFirstMajor && std::any_of(table.columns.begin(), table.columns.end(),
                                                    [](const auto& column) { return !column.generated; });
}

void copy_split_table(const CopyOptions& options, CopyShared& shared, CopyListener& listener,
                      const Table& table, std::int64_t part_bytes, const base::Stop& stop) {
  const auto copied = with_retries(
      stop,
      [&] {
        listener.again(table);
        if (shared.pace != nullptr) {
          shared.pace->begin(stop);
        }
        return attempt_split(options, shared, listener, table, part_bytes, stop);
      },
      [] {}, [&] { return "copying " + table.display(); });
  base::fault_point("copy.table-done");
  listener.finished(table, copied);
}

}  // namespace replication::snapshot
