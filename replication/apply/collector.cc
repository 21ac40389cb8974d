#include "replication/apply/collector.h"

#include <algorithm>

#include "replication/apply/marker_row.h"
#include "replication/apply/stream_must_restart.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/postgres/quote.h"

namespace replication::apply {
namespace {

using pgoutput::ColumnKind;
using pgoutput::OldRow;

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

[[noreturn]] void refuse(const std::string& what) {
  throw base::Error("the stream contradicts itself: " + what, "report this with the source's version");
}

}  // namespace

Ledger Tally::ledger() const {
  Ledger ledger;
  for (const auto& [version, table] : tables) {
    ledger[table.name].add(table.counts);
  }
  return ledger;
}

Tally Tally::split_off(const Batch& rest) {
  Tally other;
  const auto take = [&](const TargetTable& table) {
    const auto found = std::find_if(tables.begin(), tables.end(), [&](const auto& entry) {
      const auto& counts = entry.second.counts;
      return entry.second.name == table.display && counts.received > counts.filtered + counts.echoed;
    });
    PGCUTOVER_CHECK(found != tables.end(), "a change of " + table.display + " that was never counted");
    --found->second.counts.received;
    auto& there = other.tables[found->first];
    there.name = table.display;
    ++there.counts.received;
    --changes;
    --changes_since_marker;
    ++other.changes;
    ++other.changes_since_marker;
  };
  for (const auto& change : rest.changes) {
    if (change.kind == Change::Kind::truncate) {
      for (const auto* table : rest.truncates[change.truncate].tables) {
        take(*table);
      }
    } else {
      take(*change.table);
    }
  }
  return other;
}

Collector::Collector(const std::vector<SnapshotFilter>& filters, bool two_way, Lookup lookup)
    : two_way_(two_way), lookup_(std::move(lookup)) {
  for (const auto& filter : filters) {
    filters_[postgres::quote_qualified(filter.schema, filter.name)].push_back(
        {SnapshotVisibility::parse(filter.snapshot), filter.marker});
  }
}

void Collector::take(const pgoutput::Message& message, base::Lsn applied, Batch& batch, Tally& tally) {
  const Context context{batch, tally};
  std::visit(Overloaded{
                 [&](const pgoutput::Begin& m) { begin(m, applied, batch); },
                 [&](const pgoutput::Commit& m) { commit(m, context); },
                 [&](const pgoutput::Relation& m) { relation(m); },
                 [&](const pgoutput::Insert& m) { insert(m, context); },
                 [&](const pgoutput::Update& m) { update(m, context); },
                 [&](const pgoutput::Delete& m) { remove(m, context); },
                 [&](const pgoutput::Truncate& m) { truncate(m, context); },
                 // Neither origins, type names nor messages change rows.
                 [](const pgoutput::Origin&) {},
                 [](const pgoutput::Type&) {},
                 [](const pgoutput::LogicalMessage&) {},
             },
             message);
}

void Collector::reset() {
  in_transaction_ = false;
  markers_under_way_.clear();
  known_.clear();
  relations_.clear();
}

void Collector::forget_tables() {
  for (auto& [oid, known] : known_) {
    known.table = nullptr;
  }
}

void Collector::begin(const pgoutput::Begin& begin, base::Lsn applied, Batch& batch) {
  if (in_transaction_) {
    refuse("a transaction begins within another at " + begin.final_lsn.to_string());
  }
  in_transaction_ = true;
  // Commit records don't overlap: one that starts below the applied position, a commit's end, ends there or
  // below.
  redelivered_ = begin.final_lsn < applied;
  echo_ = false;
  changes_ = 0;
  xid_ = begin.xid;
  commit_lsn_ = begin.final_lsn;
  if (!redelivered_) {
    batch.transactions.push_back({begin.final_lsn, {}, begin.xid});
  }
}

void Collector::commit(const pgoutput::Commit& commit, Context context) {
  if (!in_transaction_ || commit.commit_lsn != commit_lsn_) {
    refuse("commit at " + commit.commit_lsn.to_string() + " of a transaction that didn't begin");
  }
  in_transaction_ = false;
  if (!redelivered_) {
    context.batch.transactions.back().end_lsn = commit.end_lsn;
    ++context.tally.transactions;
    context.tally.echoes += echo_ ? 1 : 0;
  }
  for (auto& marker : markers_under_way_) {
    marker.end_lsn = commit.end_lsn;
    end_filters(marker);
    context.tally.markers.push_back(std::move(marker));
  }
  markers_under_way_.clear();
}

void Collector::relation(const pgoutput::Relation& relation) {
  const auto& cached = relations_.update(relation);
  auto& known = known_[relation.relation];
  known = {};
  known.relation = &cached;
  if (cached.schema == kOwnSchema) {
    known.marker = cached.name == kMarkerTable;
    known.progress = two_way_ && cached.name == kProgressTable;
    if (!known.marker && !known.progress) {
      throw base::Error("table pgcutover." + cached.name + " is in the publication",
                        "take it out: only pgcutover.marker belongs there");
    }
  }
  const auto filters = filters_.find(postgres::quote_qualified(cached.schema, cached.name));
  known.filters = filters == filters_.end() ? nullptr : &filters->second;
}

Collector::Known& Collector::known(base::Oid oid) {
  if (!in_transaction_) {
    refuse("a change outside a transaction");
  }
  const auto found = known_.find(oid);
  if (found == known_.end()) {
    refuse("a change of relation " + std::to_string(oid) + ", which was not announced");
  }
  return found->second;
}

const TargetTable& Collector::table_of(Known& known) {
  if (known.table == nullptr) {
    known.table = &lookup_(*known.relation);
  }
  return *known.table;
}

bool Collector::copied(const Known& known) const {
  return known.filters != nullptr &&
         std::any_of(known.filters->begin(), known.filters->end(),
                     [&](const Filter& filter) { return filter.snapshot.visible(xid_); });
}

bool Collector::skipped(Known& known, Context context, std::size_t bytes) {
  if (redelivered_) {
    return true;
  }
  const bool filtered = !echo_ && copied(known);
  if (!echo_ && !filtered) {
    table_of(known);  // before anything is counted: see Lookup
  }
  auto& table = context.tally.tables[known.relation->version];
  if (table.name.empty()) {
    table.name = known.relation->schema + "." + known.relation->name;
  }
  ++table.counts.received;
  if (echo_) {
    ++table.counts.echoed;
    return true;
  }
  ++changes_;
  ++context.tally.changes;
  ++context.tally.changes_since_marker;
  if (filtered) {
    ++table.counts.filtered;
    return true;
  }
  context.batch.bytes += bytes;
  return false;
}

std::span<pgoutput::ColumnValue> Collector::image(const pgoutput::Tuple& tuple, const Known& known,
                                                  Batch& batch) {
  if (tuple.columns() != known.relation->columns.size()) {
    refuse("a row of " + known.relation->name + " with " + std::to_string(tuple.columns()) +
           " columns instead of " + std::to_string(known.relation->columns.size()));
  }
  tuple.read(scratch_);
  // A column that came in mid-stream: its values hold the OIDs of the server that they come from.
  if (known.table->text_only && std::any_of(scratch_.begin(), scratch_.end(), [](const auto& value) {
        return value.kind == ColumnKind::binary;
      })) {
    throw StreamMustRestart(
        "table " + known.table->display +
            " has a column by now whose values differ in binary form from server to server",
        "");
  }
  const auto stored = batch.arena.store(scratch_);
  batch.bytes += stored.size_bytes();  // of a row of NULLs far more than the message's
  return stored;
}

void Collector::insert(const pgoutput::Insert& insert, Context context) {
  auto& entry = known(insert.relation);
  if (entry.marker) {
    marker_row(entry, insert.new_row, context);
  } else if (entry.progress) {
    progress_row(entry, insert.new_row, context);
  } else if (!skipped(entry, context, insert.new_row.bytes().size())) {
    Change change;
    change.kind = Change::Kind::insert;
    change.transaction = static_cast<std::uint32_t>(context.batch.transactions.size() - 1);
    change.table = &table_of(entry);
    change.new_row = image(insert.new_row, entry, context.batch);
    context.batch.changes.push_back(change);
  }
}

void Collector::update(const pgoutput::Update& update, Context context) {
  auto& entry = known(update.relation);
  if (entry.marker) {
    marker_row(entry, update.new_row, context);
    return;
  }
  if (entry.progress) {
    progress_row(entry, update.new_row, context);
    return;
  }
  if (skipped(entry, context, update.new_row.bytes().size() + update.old_row.bytes().size())) {
    return;
  }
  const auto& table = table_of(entry);
  const auto row = image(update.new_row, entry, context.batch);
  Change change;
  change.kind = Change::Kind::update;
  change.transaction = static_cast<std::uint32_t>(context.batch.transactions.size() - 1);
  change.table = &table;
  change.new_row = change.old_row = row;
  if (update.old_kind != OldRow::none) {
    const auto old_row = image(update.old_row, entry, context.batch);
    for (std::size_t i = 0; i < row.size(); ++i) {
      // The old row has what the new one leaves out: all of it under FULL, else the key (which may be toasted
      // too).
      const bool sent = update.old_kind == OldRow::full || entry.relation->columns[i].key;
      if (row[i].kind == ColumnKind::unchanged_toast && sent) {
        row[i] = old_row[i];
      }
    }
    change.old_row = old_row;
    change.moves_key = table.matching == Matching::whole_row ||
                       key_bytes(table, old_row, key_scratch_) != key_bytes(table, row, other_key_scratch_);
  }
  if (table.matching == Matching::none || (table.matching == Matching::whole_row && !change.moves_key)) {
    refuse("an update of " + table.display + ", which has no replica identity");
  }
  context.batch.changes.push_back(change);
}

void Collector::remove(const pgoutput::Delete& remove, Context context) {
  auto& entry = known(remove.relation);
  if (entry.marker || entry.progress || skipped(entry, context, remove.old_row.bytes().size())) {
    return;
  }
  Change change;
  change.kind = Change::Kind::remove;
  change.transaction = static_cast<std::uint32_t>(context.batch.transactions.size() - 1);
  change.table = &table_of(entry);
  if (change.table->matching == Matching::none ||
      (change.table->matching == Matching::whole_row && remove.old_kind != OldRow::full)) {
    refuse("a delete from " + change.table->display + ", which has no replica identity");
  }
  change.old_row = image(remove.old_row, entry, context.batch);
  context.batch.changes.push_back(change);
}

void Collector::truncate(const pgoutput::Truncate& truncate, Context context) {
  TruncateTables tables;
  tables.restart_identity = truncate.restart_identity;
  for (const auto oid : truncate.relations) {  // before the first of them is counted
    if (auto& entry = known(oid);
        !entry.marker && !entry.progress && !redelivered_ && !echo_ && !copied(entry)) {
      table_of(entry);
    }
  }
  for (const auto oid : truncate.relations) {
    auto& entry = known(oid);
    if (!entry.marker && !entry.progress && !skipped(entry, context, 0)) {
      tables.tables.push_back(&table_of(entry));
    }
  }
  if (tables.tables.empty()) {
    return;
  }
  Change change;
  change.kind = Change::Kind::truncate;
  change.transaction = static_cast<std::uint32_t>(context.batch.transactions.size() - 1);
  change.truncate = static_cast<std::uint32_t>(context.batch.truncates.size());
  context.batch.truncates.push_back(std::move(tables));
  context.batch.changes.push_back(change);
}

void Collector::progress_row(const Known& known, const pgoutput::Tuple& row, Context context) {
  if (changes_ > 0) {  // the row is moved first, always: somebody else wrote it
    refuse("pgcutover.progress is changed within transaction " + std::to_string(xid_) + " of others");
  }
  row.read(scratch_);
  const auto applied = read_progress_row(*known.relation, scratch_);
  echo_ = true;
  if (!redelivered_) {
    context.tally.seen = applied;
  }
}

void Collector::marker_row(const Known& known, const pgoutput::Tuple& row, Context context) {
  if (row.columns() != known.relation->columns.size()) {
    refuse("a marker with " + std::to_string(row.columns()) + " columns");
  }
  row.read(scratch_);
  auto marker = read_marker_row(*known.relation, scratch_);
  if (marker.heartbeat_us) {
    context.tally.heartbeat_at_us = *marker.heartbeat_us;
  }
  if (marker.token) {
    markers_under_way_.push_back({std::move(*marker.token), {}, false});
    context.tally.changes_since_marker = 0;
  }
}

void Collector::end_filters(Tally::Marker& marker) {
  for (auto& [name, filters] : filters_) {
    const auto removed =
        std::erase_if(filters, [&](const Filter& filter) { return filter.marker == marker.token; });
    marker.ends_filter = marker.ends_filter || removed > 0;
  }
}

}  // namespace replication::apply
