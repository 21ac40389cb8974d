#include "replication/apply/burst.h"

#include <algorithm>

#include "replication/apply/statements.h"
#include "replication/base/check.h"

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;

constexpr std::size_t kSetBytes = std::size_t{256} << 10;

std::string sql_of(const TargetTable& table, Operation operation, const Mask& unchanged,
                   Given given = Given::rows) {
  switch (operation) {
    case Operation::insert:
      return insert_sql(table, given);
    case Operation::remove:
      return delete_sql(table, given);
    case Operation::update:
      return update_sql(table, unchanged, given);
    case Operation::update_one:
      return update_one_sql(table, unchanged);
    case Operation::replace_one:
      return replace_one_sql(table, unchanged);
    case Operation::remove_one:
      return delete_one_sql(table);
    case Operation::conflict:
      return conflict_sql(table);
  }
  throw base::Bug("unknown operation");
}

std::string statement_key(const TargetTable& table, Operation operation, char form, const Mask& unchanged) {
  std::string key = std::to_string(table.id);
  key.push_back(static_cast<char>(operation));
  key.push_back(form);
  for (const bool left_alone : unchanged) {
    key.push_back(left_alone ? '1' : '0');
  }
  return key;
}

// What a set's statement is given of each row.
RowPart sent_part(Operation operation) {
  return operation == Operation::remove ? RowPart::key : RowPart::all;
}

void add_rows(postgres::Params& params, const TargetTable& table, const EncodedRows& rows) {
  if (rows.binary) {
    params.binary(rows.bytes, table.array_type);
  } else {
    params.typed_text_view(rows.bytes, table.array_type);
  }
}

}  // namespace

StatementCache::Slot StatementCache::slot(const std::string& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return {found->second->name, false, std::nullopt};
  }
  Slot slot{"pgcutover_" + std::to_string(++names_), true, std::nullopt};
  if (entries_.size() >= statements_max_) {
    slot.deallocate = entries_.back().name;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({key, slot.name});
  by_key_.emplace(entries_.front().key, entries_.begin());
  return slot;
}

void StatementCache::forget(const std::string& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    const auto entry = found->second;
    by_key_.erase(found);
    entries_.erase(entry);
  }
}

Burst::Burst(postgres::Connection& connection, StatementCache& statements)
    : statements_(statements), pipeline_(connection) {}

Burst::~Burst() {
  // Not finished: nobody looks at what became of the statements that were to be prepared.
  for (const auto& sent : sent_) {
    if (sent.what == What::prepare) {
      statements_.forget(sent.statement);
    }
  }
}

void Burst::control(const std::string& sql, std::size_t tag) {
  pipeline_.execute(sql);
  sent_.push_back({What::control, tag, nullptr, std::nullopt, {}});
}

void Burst::fixed(const std::string& sql) {
  pipeline_.execute_prepared(prepared(sql, nullptr, 0, [&](postgres::Params&) { return sql; }), {});
  sent_.push_back({What::control, 0, nullptr, std::nullopt, {}});
}

void Burst::commit() {
  const std::string sql = "COMMIT";
  pipeline_.execute_prepared(prepared(sql, nullptr, 0, [&](postgres::Params&) { return sql; }), {});
  sent_.push_back({What::commit, 0, nullptr, std::nullopt, {}});
}

void Burst::progress(const std::string& sql, const postgres::Params& params) {
  pipeline_.execute_prepared(prepared(sql, nullptr, 0, [&](postgres::Params&) { return sql; }), params);
  sent_.push_back({What::progress, 0, nullptr, std::nullopt, {}});
}

void Burst::rows(const TargetTable& table, Operation operation, const Mask& unchanged,
                 const EncodedRows& rows, std::size_t expected, std::size_t tag,
                 const EncodedRows* old_rows) {
  postgres::Params params;
  if (old_rows != nullptr) {
    add_rows(params, table, *old_rows);
  }
  add_rows(params, table, rows);
  rows_sent_[&table] += static_cast<std::int64_t>(rows.rows);
  execute(table, operation, unchanged, params, expected, tag);
}

void Burst::set(const TargetTable& table, Operation operation, const Mask& unchanged,
                std::span<const Row> rows_left) {
  if (guarded_ && rows_left.size() == 1) {
    set_of_one(table, operation, unchanged, rows_left[0]);
    return;
  }
  while (!rows_left.empty()) {
    const auto encoded = encode_rows(table, rows_left, sent_part(operation), kSetBytes);
    postgres::Params params;
    add_rows(params, table, encoded);
    if (guarded_) {
      params.integer(static_cast<std::int64_t>(encoded.rows));
    }
    rows_sent_[&table] += static_cast<std::int64_t>(encoded.rows);
    execute(table, operation, unchanged, params, guarded_ ? 1 : encoded.rows, 0,
            guarded_ ? Form::guarded : Form::plain);
    rows_left = rows_left.subspan(encoded.rows);
  }
}

void Burst::set_of_one(const TargetTable& table, Operation operation, const Mask& unchanged, Row row) {
  postgres::Params params;
  for (const auto column : value_columns(table, sent_part(operation))) {
    const auto& value = row[static_cast<std::size_t>(table.columns[column].source)];
    if (value.kind == ColumnKind::binary) {
      params.binary(value.bytes, table.columns[column].sent_type());
    } else if (value.kind == ColumnKind::text) {
      params.text(value.bytes);
    } else {
      params.null();
    }
  }
  ++rows_sent_[&table];
  execute(table, operation, unchanged, params, 1, 0, Form::guarded_values);
}

void Burst::truncate(const TruncateTables& truncate, std::size_t tag) {
  for (const auto* table : truncate.tables) {
    ++rows_sent_[table];
  }
  for (const auto& sql : truncate.statements) {
    control(sql, tag);
  }
}

void Burst::conflict(const TargetTable& table, const EncodedRows& old_rows, const EncodedRows& new_rows,
                     const std::vector<std::string>& texts) {
  postgres::Params params;
  add_rows(params, table, old_rows);
  add_rows(params, table, new_rows);
  for (const auto& text : texts) {
    params.text(std::string_view(text));
  }
  execute(table, Operation::conflict, {}, params, std::size_t{1}, 0);
}

void Burst::execute(const TargetTable& table, Operation operation, const Mask& unchanged,
                    const postgres::Params& params, std::optional<std::size_t> expected, std::size_t tag,
                    Form form) {
  const auto key = statement_key(table, operation, static_cast<char>(form), unchanged);
  const auto name = prepared(key, &table, tag, [&](postgres::Params& types) {
    switch (form) {
      case Form::plain:
        break;
      case Form::guarded:
        return guarded_sql(sql_of(table, operation, unchanged), "$2");
      case Form::guarded_values:
        for (const auto column : value_columns(table, sent_part(operation))) {
          types.binary({}, table.columns[column].sent_type());
        }
        return guarded_sql(sql_of(table, operation, unchanged, Given::values), "1");
    }
    return sql_of(table, operation, unchanged);
  });
  pipeline_.execute_prepared(name, params);
  sent_.push_back({What::rows, tag, &table, expected, {}});
}

std::string Burst::prepared(const std::string& key, const TargetTable* table, std::size_t tag,
                            const Make& make) {
  const auto slot = statements_.slot(key);
  if (slot.deallocate) {
    control("DEALLOCATE " + *slot.deallocate);
  }
  if (slot.prepare) {
    postgres::Params types;
    const auto sql = make(types);
    pipeline_.prepare(slot.name, sql, types);
    sent_.push_back({What::prepare, tag, table, std::nullopt, key});
  }
  return slot.name;
}

Burst::Report Burst::finish() {
  using Kind = postgres::Pipeline::Outcome::Kind;
  pipeline_.sync();
  Report report;
  for (const auto& sent : sent_) {
    auto outcome = pipeline_.next(base::Deadline::never());
    if (outcome.kind != Kind::ok && sent.what == What::prepare) {
      statements_.forget(sent.statement);
    }
    if (outcome.kind == Kind::failed && !report.failure) {
      report.failure = Failure{sent.what, sent.tag, sent.table, outcome.sqlstate, outcome.message};
    }
    if (outcome.kind != Kind::ok) {
      continue;
    }
    report.committed =
        report.committed || (sent.what == What::commit && outcome.result.command_tag() == "COMMIT");
    // An UPDATE with nothing to set is sent as a SELECT, whose rows are counted.
    const std::int64_t touched =
        std::max<std::int64_t>(outcome.result.affected_rows(), outcome.result.rows());
    if (sent.expected && touched != static_cast<std::int64_t>(*sent.expected)) {
      report.misses.push_back({sent.tag, sent.table, *sent.expected, touched});
    }
    report.last = std::move(outcome.result);
  }
  const auto synced = pipeline_.next(base::Deadline::never());
  PGCUTOVER_CHECK(synced.kind == Kind::synced && pipeline_.pending() == 0, "the burst's sync is missing");
  sent_.clear();
  return report;
}

}  // namespace replication::apply
