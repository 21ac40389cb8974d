// The part of Preparation that brings content: the schema, the rows, the indexes.
#include "cutover/check/check.h"
#include "cutover/steps/copy_teller.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/reset.h"
#include "replication/apply/twins.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/catalog/left_out.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/large_objects.h"
#include "replication/snapshot/roles.h"

namespace cutover::steps {
namespace {

using base::fault_point;
namespace snapshot = replication::snapshot;

constexpr std::string_view kIndexesLeft = "indexes.left";

// "public.orders 63 %, public.items 12 %"
std::string builds_under_way(postgres::Connection& target) {
  const auto rows = target.exec(
      "SELECT n.nspname || '.' || c.relname, "
      "(CASE WHEN tuples_total > 0 THEN 50 + 50 * tuples_done / tuples_total "
      "WHEN blocks_total > 0 THEN 50 * blocks_done / blocks_total ELSE 0 END)::text "
      "FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_class c ON c.oid = p.relid "
      "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
      "WHERE p.datname = pg_catalog.current_database() ORDER BY 1 LIMIT 4");
  std::string text;
  for (int row = 0; row < rows.rows(); ++row) {
    text += (text.empty() ? "" : ", ") + rows.text(row, 0) + " " + rows.text(row, 1) + " %";
  }
  return text;
}

}  // namespace

// Dumped once: by the step that needs it first.
const snapshot::SchemaArchive& Preparation::schema_archive() {
  if (!archive_) {
    const auto tools = snapshot::SchemaTools::locate(context_.plan.pg_bindir, source().server_major(),
                                                     context_.servers.stop());
    const snapshot::StreamObjects wanted{context_.plan.copy_publications, context_.plan.copy_subscriptions};
    if (wanted.subscriptions) {
      snapshot::register_subscription_secrets(source());
    }
    archive_ = std::make_unique<snapshot::SchemaArchive>(
        tools, context_.servers.info(Side::source, "dump"), snapshot_, context_.plan.tables,
        context_.servers.stop(), wanted, begun_roles(target()));
    if (context_.plan.indexes_later) {
      archive_->put_off_secondary_indexes();
    }
  }
  return *archive_;
}

void Preparation::restore_schema() {
  if (!begin("schema", "copying")) {
    return;
  }
  if (context_.plan.content == plan::Content::data_only) {
    adopt_schema();
    return;
  }
  std::string message;
  const auto roles = begun_roles(target());
  if (context_.plan.create_roles) {
    message = snapshot::ensure_roles(source(), target(), roles).summary();
  }
  schema_archive().restore_pre_data(context_.servers.info(Side::target, "restore"), context_.token);
  for (const auto& failed : snapshot::restore_database_settings(source(), target(), roles)) {
    base::log::warn("not set on the target: " + failed);
    message += (message.empty() ? "not set: " : "; not set: ") + failed;
  }
  done("schema", message);
  fault_point("run.after-pre-data");
}

// The target's tables were there: `check` has found them empty and alike. Looked at once more now that nobody
// else can connect: what came in meanwhile isn't ours to delete.
void Preparation::adopt_schema() {
  if (const auto rows = tables_to_empty(target(), context_.plan.tables); !rows.empty()) {
    throw base::StateError("the target's tables are not empty any more: " + check::list_text(rows, 10),
                           "`pgcutover cancel` leaves them as they are; empty them, then `pgcutover run`")
        .on("target");
  }
  for (const auto& table : source_catalog().tables) {
    // Set on the source when it was published; a restored schema would have it.
    if (table.keyless() && table.replica_identity == 'f' && !table.unlogged) {
      target().exec("ALTER TABLE ONLY " + table.qualified() + " REPLICA IDENTITY FULL");
    }
  }
  quiet_receiver(Side::source);  // no trigger may fire for copied rows
  done("schema", "the target's own, as it was found");
}

void Preparation::start_index_builder() {
  indexes_ = std::make_unique<snapshot::IndexBuilder>(context_.servers.info(Side::target, "restore"),
                                                      context_.token, schema_archive().post_data(),
                                                      context_.plan.index_jobs, slot_watch_.stop());
}

void Preparation::copy() {
  if (!begin("copy", "copying")) {
    return;
  }
  if (snapshot_.empty() && !context_.plan.snapshot_per_table) {
    base::log::info("the first snapshot is gone: tables that are not copied yet get snapshots of their own");
  }
  // A table may have been altered on the source since its schema was dumped.
  require_same_structure(catalog::load(target(), context_.plan.tables), Keys::left_out);
  replication::apply::pair_tables(target(), std::string(direction_from(Side::source)),
                                  source_catalog().tables);
  snapshot::CopyOptions options;
  options.source = context_.servers.info(Side::source, "copy");
  options.target = context_.servers.info(Side::target, "copy");
  if (context_.plan.snapshot_per_table) {
    slot_session_.reset();  // nothing holds the source's oldest row versions longer than one table needs
    snapshot_.clear();
  }
  options.exported_snapshot = snapshot_;
  options.slot_xid = read_fact(target(), "slot.xid").value_or("");
  options.jobs = context_.plan.copy_jobs;
  options.pace = throttle_->begin_copy(snapshot_.empty());
  options.token = context_.token;
  options.split_above_bytes = context_.plan.split_above_mb << 20;
  if (context_.plan.content == plan::Content::all) {
    start_index_builder();
    options.table_in = [&, &content = source_catalog()](const catalog::Table& table) {
      indexes_->table_in(*content.find(table.oid));  // it keeps what it is given
    };
  }
  const auto before = snapshot::copy_state(target());
  CopyTeller teller(publisher_, "copy", Totals::all);
  options.progress = [&](const snapshot::CopyProgress& progress) { teller.tell(progress); };
  auto tables = source_catalog().tables;
  std::erase_if(tables, [&](const catalog::Table& table) {
    const bool empty = table.unlogged && table.stores_rows() && !context_.plan.unlogged_data;
    if (empty && options.table_in) {
      options.table_in(table);
    }
    return empty;
  });
  slot_watch_.need(Side::source);
  snapshot::copy_tables(options, tables, slot_watch_.stop());
  report::CopyRecord record;
  record.seconds = teller.seconds();
  throttle_->end_copy();
  teller.end();
  slot_session_.reset();
  snapshot_.clear();
  if (source_catalog().large_objects > 0) {
    snapshot::LargeObjects(begun_roles(target())).refresh(source(), target());
  }
  const auto state = snapshot::copy_state(target());
  record.tables = state.done;
  record.tables_before = before.done;
  record.rows = state.rows;
  record.bytes = state.bytes;
  record.bytes_before = before.bytes;
  record.left_out = left_out();
  report::Report summary;
  summary.copied = record;
  put_fact(target(), context_.token, kCopySummary, report::to_json(summary));
  done("copy", report::copy_text(record));
  fault_point("run.after-copy");
}

// What the target doesn't have, or won't be kept up to date, and why.
std::vector<report::LeftOutRecord> Preparation::left_out() {
  std::vector<report::LeftOutRecord> list;
  for (const auto& relation : catalog::left_out(source(), context_.plan.tables)) {
    list.push_back({relation.display(), "left out by include and exclude"});
  }
  for (const auto& column : catalog::columns_left_out(source_catalog())) {
    list.push_back({column, "left out by exclude-columns"});
  }
  for (const auto& table : source_catalog().tables) {
    if (table.unlogged && table.stores_rows() && !context_.plan.unlogged_data) {
      list.push_back({table.display(), "unlogged, and made empty as asked"});
    }
  }
  return list;
}

void Preparation::restore_indexes() {
  if (!begin("indexes", "copying")) {
    return;
  }
  if (context_.plan.content == plan::Content::data_only) {
    done("indexes", "the target's own, as they were found");
    return;
  }
  if (!indexes_) {  // the copy was an earlier run's
    start_index_builder();
    for (const auto& table : source_catalog().tables) {
      if (table.stores_rows()) {
        indexes_->table_in(table);
      }
    }
  }
  const auto began = base::Clock::now();
  indexes_->finish([&](const snapshot::IndexProgress& built) {
    publisher_.update([&](state::Status& status) {
      status.progress = {.step = "indexes",
                         .done = built.done,
                         .total = built.total,
                         .unit = "indexes",
                         .seconds = std::chrono::duration<double>(base::Clock::now() - began).count(),
                         .current = builds_under_way(target())};
    });
  });
  indexes_.reset();
  schema_archive().restore_post_data(context_.servers.info(Side::target, "restore"), context_.token,
                                     context_.plan.index_jobs);
  // Those of the user: no switch is possible before they are there, and nobody is let in.
  auto message =
      snapshot::restore_stream_objects(context_.servers.info(Side::target, "restore"), context_.token,
                                       schema_archive().stream_objects(), context_.servers.stop())
          .summary();
  archive_.reset();
  if (context_.plan.indexes_later) {
    put_fact(target(), context_.token, kIndexesLeft, "yes");
    message += (message.empty() ? "" : "; ") + std::string("secondary indexes are left for later");
  }
  done("indexes", message);
  fault_point("run.after-indexes");
}

bool Preparation::indexes_left() {
  return read_fact(target(), kIndexesLeft) == "yes";
}

void Preparation::build_indexes_left() {
  if (!indexes_left()) {
    return;
  }
  put_event(target(), context_.token, "indexes", "began", "those that were left for later");
  publisher_.update(
      [&](state::Status& status) {
        status.state = "copying";
        status.step = "indexes";
        status.message = "building the indexes that were left for later";
      },
      true);
  const auto built = schema_archive().restore_secondary_indexes(
      context_.servers.info(Side::target, "restore"), context_.token, context_.plan.index_jobs);
  archive_.reset();
  fault_point("run.after-indexes-left");
  put_fact(target(), context_.token, kIndexesLeft, "no");
  done("indexes", "those that were left for later: " + std::to_string(built) + " statements");
}

}  // namespace cutover::steps
