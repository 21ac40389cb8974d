#include "replication/snapshot/copy.h"

#include <map>
#include <mutex>
#include <utility>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/sqlstate.h"
#include "replication/snapshot/copy_plan.h"
#include "replication/snapshot/copy_tally.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/retry.h"
#include "replication/snapshot/split_table.h"
#include "replication/snapshot/table_copier.h"
#include "replication/snapshot/workers.h"

namespace replication::snapshot {
namespace {

using catalog::Table;

// Tables that aren't done yet.
std::vector<const Table*> tables_to_copy(
    postgres::Connection& target, const std::vector<Table>& tables,
    const std::function<void(const Table&, std::int64_t rows)>& done_before) {
  std::map<std::pair<std::string, std::string>, std::int64_t> done;
  const auto rows = target.exec("SELECT schema, name, rows FROM pgcutover.table_copy");
  for (int row = 0; row < rows.rows(); ++row) {
    done[{rows.text(row, 0), rows.text(row, 1)}] = rows.integer(row, 2);
  }
  std::vector<const Table*> left;
  for (const auto& table : tables) {
    if (!table.stores_rows()) {
      continue;
    }
    if (const auto found = done.find({table.schema, table.name}); found != done.end()) {
      done_before(table, found->second);
    } else {
      left.push_back(&table);
    }
  }
  return left;
}

postgres::Connection open_source(const CopyOptions& options, const base::Stop& stop) {
  postgres::SessionOptions session;
  session.server = "source";
  session.application_name = "pgcutover copy";
  return postgres::Connection::open(options.source, session, stop);
}

// A row that the target doesn't take, although the source has it: the function of a constraint looks into
// another table, or the source's own rows don't keep the constraint any more.
bool row_refused(const base::Error& error) {
  return error.sqlstate() == postgres::sqlstate::kCheckViolation;
}

void add_remedy(base::Error& error) {
  if (row_refused(error)) {
    error.with_hint(
        "rows of the source don't keep this constraint (it is NOT VALID there, or calls a function that says "
        "something else here): on the target ALTER TABLE ... DROP CONSTRAINT, run the same command again, "
        "then "
        "add it there again as NOT VALID");
  } else if (error.sqlstate() == postgres::sqlstate::kUndefinedTable ||
             error.sqlstate() == postgres::sqlstate::kUndefinedFunction) {
    error.with_hint(
        "a function that a constraint, an index or a generated column calls names something without its "
        "schema: "
        "ALTER FUNCTION ... SET search_path = ...; on both servers, then run the same command again");
  }
}

// Tables whose rows were refused, one after the other, when all the others are in; as long as that helps.
void copy_refused(std::vector<const Table*> tables, TableCopier& copier) {
  while (!tables.empty()) {
    std::vector<const Table*> left;
    for (const auto* table : tables) {
      try {
        copier.copy({table});
      } catch (base::Error& error) {
        left.push_back(table);
        if (!row_refused(error) || left.size() == tables.size()) {
          add_remedy(error);
          throw;
        }
      }
    }
    tables = std::move(left);
  }
}

// The workers commit asynchronously. A synchronous commit flushes everything before it; it has to write a row
// for that, since a transaction without WAL isn't flushed.
void make_durable(postgres::Connection& target) {
  target.exec("SET synchronous_commit = on");
  target.exec(
      "UPDATE pgcutover.table_copy SET done_at = done_at "
      "WHERE (schema, name) = (SELECT schema, name FROM pgcutover.table_copy LIMIT 1)");
}

}  // namespace

std::string copy_schema_sql() {
  return R"(
CREATE TABLE IF NOT EXISTS pgcutover.table_copy (
  schema text NOT NULL,
  name text NOT NULL,
  rows bigint NOT NULL,
  bytes bigint NOT NULL,
  frozen boolean NOT NULL DEFAULT false,
  analyzed boolean NOT NULL DEFAULT false,
  snapshot text,
  marker text,
  filter_passed boolean NOT NULL,
  done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schema, name),
  CHECK ((snapshot IS NULL) = (marker IS NULL)),
  CHECK (filter_passed OR marker IS NOT NULL)
);
ALTER TABLE pgcutover.table_copy ADD COLUMN IF NOT EXISTS frozen boolean NOT NULL DEFAULT false,
  ADD COLUMN IF NOT EXISTS analyzed boolean NOT NULL DEFAULT false;
)" + split_schema_sql() +
         restore_schema_sql();
}

void copy_tables(const CopyOptions& options, const std::vector<Table>& tables, const base::Stop& stop) {
  PGCUTOVER_CHECK(!options.slot_xid.empty(),
                  "a copy needs the transaction id taken after the slot's creation");
  CopyTally tally(options.progress, tables);
  CopyListener listener;
  listener.moved = [&](const Table& table, std::int64_t rows, std::int64_t bytes) {
    tally.moved(table, rows, bytes);
  };
  listener.again = [&](const Table& table) { tally.again(table); };
  listener.finished = [&](const Table& table, const CopiedTable& copied) {
    tally.finished(table, copied.rows);
    if (options.table_in) {
      options.table_in(table);
    }
  };
  CopyShared shared;
  shared.pace = options.pace;
  auto target = open_copy_target(options, stop);
  const auto left = tables_to_copy(target, tables, [&](const Table& table, std::int64_t rows) {
    tally.done_before(table, rows);
    if (options.table_in) {
      options.table_in(table);
    }
  });
  if (!left.empty()) {
    auto source = open_source(options, stop);
    tally.expect(estimate_rows(source, left));
    const auto plan = plan_copy(left, options.jobs, options.split_above_bytes, source.server_major());
    source.close();
    std::mutex mutex;
    std::vector<const Table*> refused;
    const auto unless_refused = [&](const std::vector<const Table*>& some, const auto& copy) {
      try {
        copy();
      } catch (base::Error& error) {
        if (!row_refused(error)) {
          add_remedy(error);
          throw;
        }
        base::log::info(error.message() + "; tried again when all other tables are in");
        const std::lock_guard lock(mutex);
        refused.insert(refused.end(), some.begin(), some.end());
      }
    };
    for (const auto* table : plan.split) {
      unless_refused({table},
                     [&] { copy_split_table(options, shared, listener, *table, plan.part_bytes, stop); });
    }
    run_workers(options.jobs, plan.items.size(), stop, [&](WorkQueue& queue, const base::Stop& cancel) {
      TableCopier copier(options, shared, listener, cancel);
      while (const auto at = queue.next()) {
        unless_refused(plan.items[*at], [&] { copier.copy(plan.items[*at]); });
      }
    });
    TableCopier copier(options, shared, listener, stop);
    copy_refused(std::move(refused), copier);
  }
  std::optional<postgres::Connection> session(std::move(target));
  with_retries(
      stop,
      [&] {
        if (!session) {
          session.emplace(open_copy_target(options, stop));
        }
        make_durable(*session);
      },
      [&] { session.reset(); }, [] { return std::string("making the copy durable"); });
}

std::vector<TableSnapshot> pending_snapshots(postgres::Connection& target) {
  const auto rows = target.exec(
      "SELECT schema, name, snapshot, marker FROM pgcutover.table_copy WHERE NOT filter_passed ORDER BY "
      "schema, name");
  std::vector<TableSnapshot> pending;
  for (int row = 0; row < rows.rows(); ++row) {
    pending.push_back({rows.text(row, 0), rows.text(row, 1), rows.text(row, 2), rows.text(row, 3)});
  }
  return pending;
}

void mark_filter_passed(postgres::Connection& target, const std::string& marker) {
  target.exec("UPDATE pgcutover.table_copy SET filter_passed = true WHERE marker = $1 AND NOT filter_passed",
              postgres::Params{marker});
}

CopyState copy_state(postgres::Connection& target) {
  const auto row = target.one_row(
      "SELECT count(*), coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM "
      "pgcutover.table_copy");
  return {row.integer(0, 0), row.integer(0, 1), row.integer(0, 2)};
}

}  // namespace replication::snapshot
