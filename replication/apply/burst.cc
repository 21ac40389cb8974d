#include "replication/apply/burst.h"

#include <algorithm>

#include "replication/apply/statements.h"
#include "replication/base/check.h"

namespace replication::apply {
namespace {

constexpr std::size_t kSetBytes = std::size_t{256} << 10;

std::string sql_of(const TargetTable& table, Operation operation, const Mask& unchanged) {
  switch (operation) {
    case Operation::insert:
      return insert_sql(table);
    case Operation::remove:
      return delete_sql(table);
    case Operation::update:
      return update_sql(table, unchanged);
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

std::string statement_key(const TargetTable& table, Operation operation, const Mask& unchanged) {
  std::string key = std::to_string(table.id);
  key.push_back(static_cast<char>(operation));
  for (const bool left_alone : unchanged) {
    key.push_back(left_alone ? '1' : '0');
  }
  return key;
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
  if (const auto found = names_by_key_.find(key); found != names_by_key_.end()) {
    return {found->second, false, std::nullopt};
  }
  Slot slot{"pgcutover_" + std::to_string(++names_), true, std::nullopt};
  if (keys_.size() >= statements_max_) {
    const auto oldest = names_by_key_.find(keys_.front());
    slot.deallocate = oldest->second;
    names_by_key_.erase(oldest);
    keys_.pop_front();
  }
  names_by_key_.emplace(key, slot.name);
  keys_.push_back(key);
  return slot;
}

void StatementCache::forget(const std::string& key) {
  if (names_by_key_.erase(key) > 0) {
    keys_.erase(std::find(keys_.begin(), keys_.end(), key));
  }
}

Burst::Burst(postgres::Connection& connection, StatementCache& statements)
    : statements_(statements), pipeline_(connection) {}

void Burst::control(const std::string& sql, std::size_t tag) {
  pipeline_.execute(sql);
  sent_.push_back({What::control, tag, nullptr, std::nullopt, {}});
}

void Burst::query(const std::string& sql) {
  control(sql);
}

void Burst::progress(const std::string& sql, const postgres::Params& params) {
  pipeline_.execute(sql, params);
  sent_.push_back({What::progress, 0, nullptr, std::size_t{1}, {}});
}

void Burst::rows(const TargetTable& table, Operation operation, const Mask& unchanged,
                 const EncodedRows& rows, std::size_t expected, std::size_t tag,
                 const EncodedRows* old_rows) {
  postgres::Params params;
  if (old_rows != nullptr) {
    add_rows(params, table, *old_rows);
  }
  add_rows(params, table, rows);
  execute(table, operation, unchanged, params, expected, tag);
}

void Burst::set(const TargetTable& table, Operation operation, const Mask& unchanged,
                std::span<const Row> rows_left, RowPart part) {
  while (!rows_left.empty()) {
    const auto encoded = encode_rows(table, rows_left, part, kSetBytes);
    rows(table, operation, unchanged, encoded, encoded.rows, 0);
    rows_left = rows_left.subspan(encoded.rows);
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
                    const postgres::Params& params, std::optional<std::size_t> expected, std::size_t tag) {
  const std::string key = statement_key(table, operation, unchanged);
  const auto slot = statements_.slot(key);
  if (slot.deallocate) {
    control("DEALLOCATE " + *slot.deallocate);
  }
  if (slot.prepare) {
    pipeline_.prepare(slot.name, sql_of(table, operation, unchanged));
    sent_.push_back({What::prepare, tag, &table, std::nullopt, key});
  }
  pipeline_.execute_prepared(slot.name, params);
  sent_.push_back({What::rows, tag, &table, expected, {}});
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
    // An UPDATE with nothing to set is sent as a SELECT, whose rows are counted.
    const std::int64_t touched =
        std::max<std::int64_t>(outcome.result.affected_rows(), outcome.result.rows());
    if (sent.expected && touched != static_cast<std::int64_t>(*sent.expected)) {
      if (sent.what == What::progress) {
        report.failure = Failure{What::progress, 0, nullptr, {}, "there is no such row"};
      } else {
        report.misses.push_back({sent.tag, sent.table, *sent.expected, touched});
      }
    }
    report.last = std::move(outcome.result);
  }
  const auto synced = pipeline_.next(base::Deadline::never());
  PGCUTOVER_CHECK(synced.kind == Kind::synced && pipeline_.pending() == 0, "the burst's sync is missing");
  sent_.clear();
  return report;
}

}  // namespace replication::apply
