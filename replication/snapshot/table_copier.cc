#include "replication/snapshot/table_copier.h"

#include <algorithm>

#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/as_applications.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/retry.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using catalog::Table;

constexpr base::milliseconds kLockMax{600'000};

bool freeze_refused(const Error& error) {
  return error.connection_usable() &&
         (error.sqlstate() == postgres::sqlstate::kObjectNotInPrerequisiteState ||
          error.sqlstate() == "0A000");
}

std::pair<std::string, std::string> name_arrays(const std::vector<const Table*>& tables) {
  std::vector<std::string> schemas;
  std::vector<std::string> names;
  for (const auto* table : tables) {
    schemas.push_back(table->schema);
    names.push_back(table->name);
  }
  return {postgres::array_literal(schemas), postgres::array_literal(names)};
}

}  // namespace

postgres::Connection open_copy_target(const CopyOptions& options, const base::Stop& stop) {
  postgres::SessionOptions session;
  session.server = "target";
  session.application_name = "pgcutover copy";
  auto target = postgres::Connection::open(options.target, session, stop);
  target.exec("SET session_replication_role = replica; SET synchronous_commit = off");
  postgres::compute_as_applications(target, postgres::Computes::rows);
  return target;
}

EmptiedTable empty_table(postgres::Connection& target, const Table& table) {
  const auto name = table.qualified();
  EmptiedTable emptied;
  emptied.truncated = !target
                           .one_row(
                               "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' "
                               "AND confrelid = $1::pg_catalog.regclass AND conrelid <> confrelid)",
                               postgres::Params{name})
                           .boolean(0, 0);
  if (emptied.truncated) {
    target.exec("TRUNCATE ONLY " + name, Deadline::in(kLockMax));
  } else {
    target.exec("LOCK TABLE ONLY " + name + " IN ACCESS EXCLUSIVE MODE", Deadline::in(kLockMax));
  }
  const auto noted =
      target.exec("SELECT rows, bytes FROM pgcutover.table_copy WHERE schema = $1 AND name = $2",
                  postgres::Params{table.schema, table.name});
  if (noted.rows() == 1) {
    emptied.done = CopiedTable{noted.integer(0, 0), noted.integer(0, 1)};
  } else if (!emptied.truncated) {
    target.exec("DELETE FROM ONLY " + name, Deadline::never());
  }
  return emptied;
}

void write_notes(postgres::Connection& target, const TableSource::Reading& reading,
                 const std::vector<Note>& notes) {
  const bool filtered = !reading.snapshot.empty();
  std::string values;
  for (const auto& note : notes) {
    values += (values.empty() ? "(" : ", (") + postgres::quote_literal(note.table->schema) + ", " +
              postgres::quote_literal(note.table->name) + ", " + std::to_string(note.copied.rows) + ", " +
              std::to_string(note.copied.bytes) + (note.frozen ? ", true" : ", false") +
              ", $1, $2, $3::boolean)";
  }
  postgres::Params params;
  params.text(filtered ? std::optional(reading.snapshot) : std::nullopt);
  params.text(filtered ? std::optional(reading.marker) : std::nullopt);
  params.boolean(!filtered);
  target.exec(
      "INSERT INTO pgcutover.table_copy (schema, name, rows, bytes, frozen, snapshot, marker, filter_passed) "
      "VALUES " +
          values,
      params);
}

void TableCopier::connect_target() {
  if (!target_ || !target_->usable()) {
    target_.emplace(open_copy_target(options_, stop_));
  }
}

void TableCopier::give_up(const Tables& tables) {
  abandon_source();
  target_.reset();
  for (const auto* table : tables) {
    listener_.again(*table);
  }
}

void TableCopier::abandon_source() {
  source_.abandon();
  memory_.give_back();
}

// A connection stays as large as its largest row.
void TableCopier::end_source() {
  if (memory_.large()) {
    abandon_source();
  } else {
    source_.end();
  }
}

void TableCopier::copy(const Tables& tables) {
  if (shared_.pace != nullptr) {
    shared_.pace->begin(stop_);
  }
  current_ = tables.front();
  auto left = tables;
  const auto try_again = [&](auto attempt) {
    return with_retries(
        stop_, attempt, [&] { give_up(left); }, [&] { return "copying " + current_->display(); });
  };
  if (tables.size() > 1) {
    left = try_again([&] { return attempt_many(tables); });
  }
  for (const auto* table : Tables(left)) {
    current_ = table;
    left = {table};
    try_again([&] { attempt_one(*table); });
  }
}

CopiedTable TableCopier::transfer(const Table& table, postgres::Connection& source, bool freeze) {
  CopyStream stream(
      shared_, memory_, [&](std::int64_t rows, std::int64_t bytes) { listener_.moved(table, rows, bytes); },
      stop_);
  return stream.run(source, copy_out_sql(table), *target_, copy_in_sql(table, freeze));
}

void TableCopier::attempt_one(const Table& table) {
  base::fault_point("copy.table-begin");
  connect_target();
  CopiedTable copied;
  for (bool may_freeze = true;;) {
    postgres::Transaction transaction(*target_);
    const auto emptied = empty_table(*target_, table);
    if (emptied.done) {
      copied = *emptied.done;
      transaction.rollback();
      break;
    }
    const bool freeze = may_freeze && emptied.truncated;
    const auto reading = source_.begin(table);
    try {
      copied = transfer(table, *reading.connection, freeze);
    } catch (const Error& error) {
      if (!freeze || !freeze_refused(error)) {
        throw;
      }
      base::log::debug(table.display() + ": " + error.message());
      abandon_source();
      listener_.again(table);
      may_freeze = false;
      continue;
    }
    write_notes(*target_, reading, {{&table, copied, freeze}});
    base::fault_point("copy.table-before-commit");
    // Last, because it locks a row that a successor has to wait for.
    options_.token.assert_current(*target_);
    transaction.commit_or_throw();
    break;
  }
  end_source();
  base::fault_point("copy.table-done");
  listener_.finished(table, copied);
}

// Locks the tables on the target, which also waits for a predecessor's transaction; takes those that are done
// out and empties the others. New ones have no storage yet: nothing to do for them.
void TableCopier::clear_for(Tables& tables, std::vector<Note>& done) {
  std::string names;
  for (const auto* table : tables) {
    names += (names.empty() ? "ONLY " : ", ONLY ") + table->qualified();
  }
  target_->exec("LOCK TABLE " + names + " IN ACCESS EXCLUSIVE MODE", Deadline::in(kLockMax));
  const auto [schemas, table_names] = name_arrays(tables);
  const auto rows = target_->exec(
      "SELECT noted.rows, noted.bytes, pg_catalog.pg_relation_size(c.oid) > 0 "
      "FROM unnest($1::text[], $2::text[]) WITH ORDINALITY wanted(schema, name, place) "
      "JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema "
      "JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name "
      "LEFT JOIN pgcutover.table_copy noted ON noted.schema = wanted.schema AND noted.name = wanted.name "
      "ORDER BY place",
      postgres::Params{schemas, table_names});
  Tables left;
  std::string sql;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const auto row = static_cast<int>(i);
    if (!rows.is_null(row, 0)) {
      done.push_back({tables[i], {rows.integer(row, 0), rows.integer(row, 1)}});
      continue;
    }
    left.push_back(tables[i]);
    if (rows.boolean(row, 2)) {
      sql += "DELETE FROM ONLY " + tables[i]->qualified() + ";";
    }
  }
  if (!sql.empty()) {
    target_->exec(sql, Deadline::never());
  }
  tables = std::move(left);
}

TableCopier::Tables TableCopier::attempt_many(Tables tables) {
  connect_target();
  postgres::Transaction transaction(*target_);
  std::vector<Note> done;
  clear_for(tables, done);
  Tables rewritten;
  std::vector<Note> notes;
  if (!tables.empty()) {
    const auto reading = source_.begin(tables, rewritten);
    for (const auto* table : tables) {
      base::fault_point("copy.table-begin");
      current_ = table;
      notes.push_back({table, transfer(*table, *reading.connection, false)});
    }
    if (!notes.empty()) {
      write_notes(*target_, reading, notes);
    }
  }
  base::fault_point("copy.batch-before-commit");
  options_.token.assert_current(*target_);
  transaction.commit_or_throw();
  end_source();
  notes.insert(notes.end(), done.begin(), done.end());
  for (const auto& note : notes) {
    base::fault_point("copy.table-done");
    listener_.finished(*note.table, note.copied);
  }
  return rewritten;
}

}  // namespace replication::snapshot
