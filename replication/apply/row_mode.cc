#include "replication/apply/row_mode.h"

#include <algorithm>
#include <array>

#include "replication/apply/compaction.h"
#include "replication/base/error.h"
#include "replication/postgres/sqlstate.h"

namespace replication::apply {
namespace {

// Statements between two syncs: enough to hide round trips, few enough to stop soon after a failure.
constexpr std::size_t kWindow = 500;

EncodedRows encode_row(const TargetTable& table, Row row, RowPart part = RowPart::all) {
  return encode_rows(table, {&row, 1}, part);
}

RowPart old_part(const TargetTable& table) {
  return table.old_rows_are_whole() ? RowPart::all : RowPart::key;
}

void send_update(Burst& burst, const Change& change, std::size_t tag) {
  const auto& table = *change.table;
  const auto unchanged = unchanged_columns(table, change.new_row);
  const auto new_row = encode_row(table, change.new_row);
  if (table.matching == Matching::key && !change.moves_key && !table.identity_always) {
    burst.rows(table, Operation::update, unchanged, new_row, 1, tag);
    return;
  }
  const auto old_row = encode_row(table, change.old_row, old_part(table));
  burst.rows(table, table.identity_always ? Operation::replace_one : Operation::update_one, unchanged,
             new_row, 1, tag, &old_row);
}

}  // namespace

void send_change(Burst& burst, const Change& change, std::size_t tag) {
  switch (change.kind) {
    case Change::Kind::insert:
      burst.rows(*change.table, Operation::insert, {}, encode_row(*change.table, change.new_row), 1, tag);
      return;
    case Change::Kind::update:
      send_update(burst, change, tag);
      return;
    case Change::Kind::remove:
      burst.rows(*change.table, Operation::remove_one, {},
                 encode_row(*change.table, change.old_row, old_part(*change.table)), 1, tag);
      return;
    case Change::Kind::truncate:
      break;
  }
  throw base::Bug("a TRUNCATE is no row change");
}

void add_rows_sent(Ledger& ledger, const Burst& burst) {
  for (const auto& [table, rows] : burst.rows_sent()) {
    ledger[table->display].rows += rows;
  }
}

void send_ordered(Burst& burst, const TargetTable& table, std::span<const Change* const> changes) {
  std::vector<Row> run;
  const auto flush = [&] {
    burst.set(table, Operation::insert, {}, run);
    run.clear();
  };
  for (const auto* change : changes) {
    if (change->kind == Change::Kind::insert) {
      run.push_back(change->new_row);
    } else {
      flush();
      send_change(burst, *change, 0);
    }
  }
  flush();
}

Ledger RowMode::write(const Batch& batch, const std::function<void(Burst&)>& open,
                      const std::function<void(const Burst::Report&)>& check) {
  Ledger ledger;
  std::vector<std::size_t> missed;
  std::size_t next = 0;
  do {
    Burst burst(connection_, statements_);
    if (next == 0) {
      open(burst);
    }
    for (const auto index : missed) {
      record_conflict(burst, batch, batch.changes[index]);
    }
    missed.clear();
    const std::size_t end = std::min(next + kWindow, batch.changes.size());
    for (; next < end; ++next) {
      if (const auto& change = batch.changes[next]; change.kind == Change::Kind::truncate) {
        burst.truncate(batch.truncates[change.truncate], next);
      } else {
        send_change(burst, change, next);
      }
    }
    const auto report = burst.finish();
    check(report);
    if (report.failure) {
      fail(batch, batch.changes[report.failure->tag], report.failure->sqlstate, report.failure->message);
    }
    for (const auto& miss : report.misses) {
      const auto& change = batch.changes[miss.tag];
      if (miss.touched != 0 || change.kind == Change::Kind::insert) {
        fail(batch, change, {}, "one row changed on the source, " + std::to_string(miss.touched) + " here");
      }
      if (stop_at_conflict_) {
        fail(batch, change, {}, "there is no such row here, and the policy for conflicts is to stop",
             "find out who took it away, put it back, start again; with conflicts: report it is recorded and "
             "apply goes on");
      }
      missed.push_back(miss.tag);
      ++ledger[change.table->display].conflicts;
    }
    add_rows_sent(ledger, burst);
  } while (next < batch.changes.size() || !missed.empty());
  return ledger;
}

void RowMode::record_conflict(Burst& burst, const Batch& batch, const Change& change) const {
  const auto& table = *change.table;
  const auto& transaction = batch.transactions[change.transaction];
  const bool update = change.kind == Change::Kind::update;
  const EncodedRows none{"{}", false, 0};
  const bool has_old = !update || change.moves_key;
  burst.conflict(
      table, has_old ? encode_row(table, change.old_row) : none,
      update ? encode_row(table, change.new_row) : none,
      {direction_, update ? "update_missing" : "delete_missing", describe_key(table, change.old_row),
       transaction.commit_lsn.to_string(), std::to_string(transaction.xid)});
}

void RowMode::fail(const Batch& batch, const Change& change, const std::string& sqlstate,
                   const std::string& message, const std::string& hint) const {
  constexpr std::array kVerbs{"insert into", "update of", "delete from", "truncate of"};
  const auto& transaction = batch.transactions[change.transaction];
  std::string what;
  if (change.kind == Change::Kind::truncate) {
    for (const auto* table : batch.truncates[change.truncate].tables) {
      what += (what.empty() ? "" : ", ") + table->display;
    }
  } else {
    what =
        change.table->display + " (" +
        describe_key(*change.table, change.kind == Change::Kind::insert ? change.new_row : change.old_row) +
        ")";
  }
  const bool constraint =
      sqlstate == postgres::sqlstate::kUniqueViolation || sqlstate == postgres::sqlstate::kExclusionViolation;
  throw base::Error(
      std::string(kVerbs[static_cast<std::size_t>(change.kind)]) + " " + what +
          " can't be applied: " + message,
      !hint.empty() ? hint
      : constraint  ? "another row here has these values: find out who wrote it, take it away, start again"
                    : "correct what the message says, start again; nothing of this transaction was applied")
      .on(connection_.server())
      .at("commit at " + transaction.commit_lsn.to_string() + ", xid " + std::to_string(transaction.xid))
      .with_sqlstate(sqlstate);
}

}  // namespace replication::apply
